"""What is told of a transfer: in words, files and the tracker's summary."""

import json
from pathlib import Path
from typing import Any

import wplus


class Told:
    """A tracker that keeps what this test asks for."""

    def __init__(self) -> None:
        self.inputs: dict[str, Path] = {}
        self.values: dict[str, Any] = {}

    def use_artifact(self, path: Path, *, name: str, kind: str) -> None:
        self.inputs[name] = path

    def summary(self, values: Any) -> None:
        self.values |= values


def test_the_report(files, start, tmp_path, capsys):
    training, tracker = start(list(files)), Told()
    training.transfer.record(tmp_path, tracker)
    content = json.loads((tmp_path / "transfer.json").read_text())
    game, old = training.module, wplus.load(files[0]).generator
    loaded = content["generator"]["loaded"]
    assert loaded["numbers"] == sum(tensor.numel() for tensor in old.state_dict().values())
    assert loaded["tensors"] == len(loaded["names"]) == len(old.state_dict())
    total = sum(content["generator"][kind]["numbers"] for kind in ("loaded", "mismatched", "new"))
    assert total == sum(tensor.numel() for tensor in game.generator.state_dict().values())
    assert content["discriminator"]["skipped"]["names"] == {"b8.fromrgb.weight": 24, "b8.fromrgb.bias": 8}
    assert content["discriminator"]["resolution"] == {"there": 8, "here": 16}
    assert tracker.inputs == {"transfer": files[0], "transfer-discriminator": files[1]}
    assert tracker.values["train/transfer_discriminator_skipped"]["value"] == 32
    assert tracker.values["train/transfer_discriminator_skipped"]["protocol"]["tensors"] == 2
    printed = capsys.readouterr().out
    assert f"generator, 8 -> 16 px, from {files[0]}: loaded {loaded['numbers']:,} numbers" in printed
    assert "skipped 32 numbers in 2 tensors (b8.fromrgb); new" in printed
    page = (tmp_path / "transfer.md").read_text()
    assert f"| generator | {loaded['numbers']:,} ({loaded['tensors']}) | 0 (0) |" in page
    assert "## discriminator: skipped\n\n- b8.fromrgb.weight: 24\n" in page


def test_the_report_of_the_start_is_kept(files, start, tmp_path, capsys):
    start(list(files)).transfer.record(tmp_path, Told())
    first = (tmp_path / "transfer.json").read_bytes()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "nimg-000000000004.ckpt").touch()
    tracker = Told()
    start(files[0]).transfer.record(tmp_path, tracker)
    assert (tmp_path / "transfer.json").read_bytes() == first
    assert not tracker.values
    assert "The run goes on" in capsys.readouterr().out
