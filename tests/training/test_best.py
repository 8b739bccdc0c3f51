"""The best snapshot by a recorded number, across interruptions; and the terminal's messages about it."""

import functools
import json
import os
import signal

import pytest
import torch

from wplus.checkpoint import load
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.errors import UserError
from wplus.tracking.local import open_tracker, read_records, read_result
from wplus.training.best import FILE, Best, Headline
from wplus.training.snapshot import Exporter, ProbeResult

LOWER, HIGHER = (MetricInfo(meaning="A number.", direction=direction) for direction in ("lower", "higher"))
NEITHER = MetricInfo(meaning="A number.")
INFOS = {"train/generator/loss": NEITHER, "probe/diversity": HIGHER, "val/fd_raw": LOWER, "val/recall_raw": HIGHER}


def told(best: Best, values: list[dict[str, float]]) -> list[bool]:
    """Which of the snapshots, one per kimg, are the best so far."""
    best.describe(INFOS)
    found = []
    for kimg, each in enumerate(values):
        best.log(each, kimg=kimg)
        found.append(best.is_reached(kimg))
    return found


@pytest.mark.parametrize(
    ("objective", "values", "expected"),
    [
        (None, [3.0, 2.0, 2.5, 2.0, 1.0], [True, True, False, False, True]),  # the first of val/, low
        ("val/recall_raw", [0.1, 0.1, 0.3], [True, False, True]),
        ("probe/diversity", [float("nan"), 0.5, float("inf")], [False, True, False]),
    ],
)
def test_the_record_says_which_values_are_better(tmp_path, objective, values, expected):
    rows = [{"probe/diversity": value, "val/fd_raw": value, "val/recall_raw": value} for value in values]
    assert told(Best(tmp_path, objective), rows) == expected


def test_without_the_number_there_is_no_best(tmp_path):
    best = Best(tmp_path)
    assert told(best, [{"probe/diversity": 1.0}]) == [False]
    assert (best.value, str(best)) == (None, "")


@pytest.mark.parametrize(
    ("objective", "why"),
    [("val/fid", "which is not recorded"), ("train/generator/loss", "for which neither low nor high is better")],
)
def test_what_cannot_decide_is_refused(tmp_path, objective, why):
    sentence = f"^objective={objective}, {why}: it must be one of probe/diversity, val/fd_raw, val/recall_raw.$"
    with pytest.raises(UserError, match=sentence):
        told(Best(tmp_path, objective), [{"val/fd_raw": 1.0}])


def test_a_net_that_taught_the_generator_does_not_choose_where_another_can(tmp_path):
    best = Best(tmp_path)
    best.describe({"val/fd_raw_seen": LOWER, "val/fd_other": LOWER})
    told(best, [{"val/fd_raw_seen": 1.0, "val/fd_other": 2.0}])
    assert best.objective == "val/fd_other"


def test_the_result_says_how_it_was_chosen(tmp_path):
    best = Best(tmp_path)
    told(best, [{"val/fd_raw": value} for value in (4.0, 2.0, 3.0)])
    result = best.result
    assert (result.name, result.value, result.direction) == ("train/best_fd_raw", 2.0, "lower")
    assert {"objective": "val/fd_raw", "kimg": 1, "num_snapshots": 3, "file": FILE}.items() <= result.protocol.items()
    assert "the lowest of 3 snapshots" in result.protocol["chosen"]
    assert "optimistic" in result.protocol["chosen"]
    assert "optimistic" in result.meaning
    assert str(best) == "fd_raw 3, best 2 at 1 kimg"


def test_the_headline_has_losses_objective_and_speed(tmp_path):
    best = Best(tmp_path)
    headline = Headline(best)
    assert str(headline) == ""
    row = {"train/generator/loss": 0.70312, "train/discriminator/loss": 1.31, "progress/sec_per_kimg": 8.123}
    headline.log({**row, "train/generator/grad_norm": 5.0}, kimg=1)
    told(best, [{"val/fd_raw": 88.2}])
    assert str(headline) == "loss G 0.703 D 1.31, fd_raw 88.2, best 88.2 at 0 kimg, 8.12 s/kimg"


class Weight:
    """A probe with a number that goes up and down with the weights."""

    def look(self, module, folder) -> ProbeResult:
        value = float(module.ema.mapping.fc0.weight.double().sum().mul(1e4).sin())
        return ProbeResult.measured([MetricResult.of(LOWER, "w", value, protocol={"num_images": 3})])


def trained(folder, make_tiny, train, lengths, **options):
    """The folder of a run that was ended at each of these numbers of images, in a process of its own each time; at
    negative ones it is interrupted.
    """  # fmt: skip
    for images in lengths:
        best, module = Best(folder), make_tiny()
        with open_tracker(output_dir=folder, job_type="train", name="n") as tracker:
            tracker.add(best)
            export = Exporter(folder, tracker, Weight(), data={}, seed=0, best=best)
            ending = {"status": signal.SIGTERM} if images < 0 else {}
            if images < 0:
                module.run_step = functools.partial(_interrupted, module.run_step, module, -images)
            train(folder, lengths[-1] if images < 0 else images, module, export=export, tracker=tracker,
                  **ending, **options)  # fmt: skip
    return folder


def _interrupted(run_step, module, images, *args, **kwargs):
    run_step(*args, **kwargs)
    if module.images_seen == images:
        os.kill(os.getpid(), signal.SIGTERM)


def test_where_a_run_is_interrupted_decides_nothing(make_tiny, train, tmp_path):
    """Also if that moment would have been the best."""
    every = trained(tmp_path / "every", make_tiny, train, [48], snapshot=4)
    rows = {round(1000 * row["progress/kimg"]): row["val/w"] for row in read_records(every) if "val/w" in row}
    images = min((images for images in rows if images % 16), key=rows.get)
    assert rows[images] < min(value for at, value in rows.items() if at % 16 == 0), "a test of nothing"
    straight = trained(tmp_path / "straight", make_tiny, train, [48], snapshot=16)
    parts = trained(tmp_path / "parts", make_tiny, train, [-images, 48], snapshot=16)
    told = [[(row["progress/kimg"], row["train/best_w"]) for row in read_records(folder) if "train/best_w" in row]
            for folder in (straight, parts)]  # fmt: skip
    assert told[0] == told[1]
    assert load(straight / FILE).metadata["best"] == load(parts / FILE).metadata["best"]


def test_the_best_is_kept_over_interruptions(make_tiny, train, tmp_path):
    straight = trained(tmp_path / "straight", make_tiny, train, [48])
    parts = trained(tmp_path / "parts", make_tiny, train, [16, 24, 48])
    rows = {row["progress/kimg"]: row["val/w"] for row in read_records(straight) if "val/w" in row}
    kimg = min(rows, key=rows.get)
    assert 0 < kimg < 0.048, "a test of nothing where the first or the last one is the best"
    entry = read_result(straight)["values"]["train/best_w"]
    assert (entry["value"], entry["protocol"]["kimg"]) == (rows[kimg], kimg)
    assert entry["protocol"]["num_snapshots"] == len(rows) == 7
    again = read_result(parts)["values"]["train/best_w"]
    assert (again["value"], again["protocol"]["kimg"]) == (rows[kimg], kimg)
    assert load(straight / FILE).metadata["best"] == {"objective": "val/w", "value": rows[kimg], "kimg": kimg}
    kept, same = (load(folder / FILE).generator.state_dict() for folder in (straight, parts))
    assert all(torch.equal(value, same[name]) for name, value in kept.items())
    last = load(straight / "model.safetensors").generator.state_dict()
    assert any(not torch.equal(value, last[name]) for name, value in kept.items())
    assert json.loads((straight / "result.json").read_text())["values"]["val/w"]["protocol"] == {"num_images": 3}


def test_a_finished_run_asked_again_tells_nothing_twice(make_tiny, train, tmp_path):
    """What its record has lost, or never had, is restored."""
    folder = trained(tmp_path, make_tiny, train, [16])
    rows, result = list(read_records(folder)), read_result(folder)
    trained(folder, make_tiny, train, [16])
    assert list(read_records(folder)) == rows
    assert read_result(folder)["values"] == result["values"]
    lines = (folder / "records.jsonl").read_text().splitlines(keepends=True)
    assert "train/best_w" in lines[-1]
    (folder / "records.jsonl").write_text("".join(lines[:-1]))
    trained(folder, make_tiny, train, [16])
    assert [{**row, "time": 0} for row in read_records(folder)] == [{**row, "time": 0} for row in rows]
    assert read_result(folder)["values"] == result["values"]


def test_another_objective_begins_anew(make_tiny, train, tmp_path):
    folder = trained(tmp_path, make_tiny, train, [16])
    for objective, value in ((None, load(folder / FILE).metadata["best"]["value"]), ("val/other", None)):
        best = Best(folder, objective)
        best.rewind(0.016)
        assert best.value == value
    best = Best(folder)
    best.rewind(None)
    assert best.value is None
