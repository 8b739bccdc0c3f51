"""The composed tracker: one call reaches every sink, values become plain numbers, failures are marked."""

import contextlib

import numpy as np
import pytest
import torch

from wplus.tracking import Run, Sink, Tracker


class Recorder(Sink):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def log(self, values, *, kimg=None):
        self.told.append(("log", values, kimg))

    def table(self, key, columns, rows):
        self.told.append(("table", rows))

    def histogram(self, key, values, *, kimg=None):
        self.told.append(("histogram", values))

    def finish(self, status="finished"):
        self.told.append(("finish", status))


def test_every_sink_hears_plain_numbers():
    sinks = [Recorder(), Recorder()]
    Tracker(sinks).log({"loss": torch.tensor(0.5, requires_grad=True), "rate": np.float32(2)}, kimg=1.0)
    assert [sink.told for sink in sinks] == [[("log", {"loss": 0.5, "rate": 2.0}, 1.0)]] * 2
    assert all(type(value) is float for value in sinks[0].told[0][1].values())


def test_cells_histograms_and_summaries_are_plain():
    sink = Recorder()
    sink.summary = sink.told.append
    tracker = Tracker([sink])
    tracker.table("t", ["name", "value"], [["a", torch.tensor(1.5)]])
    tracker.histogram("h", torch.full((2, 3), 1.0, dtype=torch.bfloat16, requires_grad=True))
    tracker.summary({"a": torch.tensor(2), "b": "word", "c": {"value": np.float32(1), "interval": (0, 2)}})
    assert sink.told[0] == ("table", [["a", 1.5]])
    assert (sink.told[1][1].dtype, sink.told[1][1].shape) == (np.float64, (6,))
    assert sink.told[2] == {
        "a": {"value": 2, "protocol": {}},
        "b": {"value": "word", "protocol": {}},
        "c": {"value": 1.0, "interval": (0, 2)},
    }


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (RuntimeError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_the_way_it_is_left_is_told_once(error, status):
    sink = Recorder()
    with contextlib.nullcontext() if error is None else pytest.raises(error), Tracker([sink]) as tracker:
        if error is not None:
            raise error
    tracker.finish("failed")
    assert sink.told == [("finish", status)]


def test_without_sinks_every_call_is_accepted(tmp_path):
    with Tracker() as tracker:
        tracker.log({"a": 1.0})
        tracker.image("i", tmp_path / "absent.png")
        tracker.video("v", tmp_path / "absent.mp4")
        tracker.table("t", ["a"], [[1]])
        tracker.histogram("h", [1, 2, 3])
        tracker.log_message("All is well.")
        tracker.artifact(None, name="n", kind="dataset")
        tracker.use_artifact(None, name="n", kind="dataset")
        tracker.summary({"a": 1.0})
        tracker.rewind(0)
    assert list(tmp_path.iterdir()) == []


def test_the_output_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Run(output_dir="out", job_type="train", name="n").output_dir == tmp_path / "out"
