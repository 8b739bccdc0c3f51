"""What a probe has found reaches the folder, the screen and the record."""

import numpy as np
import torch

from wplus.core.metric_result import MetricInfo
from wplus.tracking.local import open_tracker, read_records, read_result
from wplus.tracking.wandb_dashboard import SHOWN
from wplus.training.snapshot import Exporter, InversionView, LogMessage, Picture, ProbeResult, SampleView


class Fixed:
    """A probe that returns what it was given."""

    def __init__(self, seen: ProbeResult) -> None:
        self.seen = seen

    def look(self, module, folder) -> ProbeResult:
        self.folder = folder
        return self.seen


def test_all_that_is_seen_is_recorded(make_tiny, tmp_path, capsys):
    picture = Picture("kimg-x", "samples/x", "an x", torch.zeros(3, 2, 2, dtype=torch.uint8))
    words = [LogMessage("All is well."), LogMessage("Nothing is.", "warning")]
    values = {"probe/a": (0.5, MetricInfo(meaning="An a."))}
    view = Fixed(ProbeResult([picture], values, {"probe/h": np.arange(4)}, words, {"health": "bad"}))
    with open_tracker(output_dir=tmp_path, job_type="train", name="n") as tracker:
        Exporter(tmp_path, tracker, view, data={}, seed=0)(make_tiny())
    assert view.folder == tmp_path
    assert capsys.readouterr().out.splitlines() == ["At 0 kimg: All is well.", "At 0 kimg: Nothing is."]
    rows = {key: value for row in read_records(tmp_path) for key, value in row.items() if key != "message"}
    assert rows["probe/a"] == 0.5
    assert sum(rows["probe/h"]["counts"]) == 4
    assert rows["samples/x"] == {"file": "samples/kimg-x.png", "caption": "an x"}
    said = [row["message"] for row in read_records(tmp_path) if "message" in row]
    assert said == [{"text": "All is well.", "level": "info"}, {"text": "Nothing is.", "level": "warning"}]
    assert read_result(tmp_path)["values"]["health"] == {"value": "bad", "protocol": {}}


def test_grids_of_samples(make_tiny, make_images, tmp_path):
    module = make_tiny(c_dim=3)
    seen = SampleView(make_images(5, c_dim=3), seed=1, num_samples=8).look(module, tmp_path)
    assert [picture.name for picture in seen.pictures] == ["real", "kimg-000000.000"]
    assert (seen.values, seen.messages) == ({}, ())


def test_dashboards_name_what_an_encoders_training_logs(tiny_encoder, make_images, train, tmp_path, signals_restored):
    """Those of other runs are in tests/test_whole_way.py."""
    view = InversionView(make_images(5), num_samples=3)
    with open_tracker(output_dir=tmp_path, job_type="train", name="n") as tracker:
        train(tmp_path, 8, tiny_encoder(), export=Exporter(tmp_path, tracker, view, data={}, seed=0), tracker=tracker)
    logged = {key for row in read_records(tmp_path) for key in row} | {"train/kimg"}  # this by the command
    shown = SHOWN["encoder"]
    named = {*(name for names in shown.curves.values() for name in names), *shown.numbers, *shown.pictures}
    assert named - logged == set()
    entry = read_result(tmp_path)["values"]["val/l2"]
    assert (entry["protocol"]["num_images"], entry["protocol"]["split"], entry["direction"]) == (3, "held_out", "lower")
    assert entry["interval"][0] < entry["value"] < entry["interval"][1]
