"""Checkpoints to resume from: whole or not at all, the last good one always found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from wplus.errors import UserError
from wplus.training.checkpoints import AtomicCheckpointIO, checkpoint_path, latest_checkpoint, prune


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for nimg in (100, 200, 300):
        AtomicCheckpointIO().save_checkpoint(
            {"nimg": nimg, "weights": torch.arange(1000.0)}, checkpoint_path(tmp_path, nimg)
        )
    return tmp_path


def test_the_newest_is_found_and_read(folder):
    path = latest_checkpoint(folder)
    assert path == checkpoint_path(folder, 300)
    assert AtomicCheckpointIO().load_checkpoint(path)["nimg"] == 300


def test_an_empty_folder_has_none(tmp_path):
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_one_is_passed_over_with_a_warning(folder, damage):
    newest = checkpoint_path(folder, 300)
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    kept = {"truncated": len(content) // 2, "flipped": len(content), "empty": 0}[damage]
    newest.write_bytes(content[:kept])
    with pytest.warns(UserWarning, match="nimg-000000000300.ckpt' is truncated or damaged"):
        assert latest_checkpoint(folder) == checkpoint_path(folder, 200)


def test_nothing_starts_over_when_all_are_damaged(folder):
    for path in folder.glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(UserError, match="All 3 checkpoints"):
        latest_checkpoint(folder)


def test_a_save_that_breaks_off_leaves_the_old_one(folder, monkeypatch):
    """Killed in mid-save: what was written so far lies under a temporary name that nobody reads."""

    def half(checkpoint, file):
        file.write(b"PK half a checkpoint")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    before = checkpoint_path(folder, 300).read_bytes()
    for path in (checkpoint_path(folder, 300), checkpoint_path(folder, 400)):
        with pytest.raises(UserError, match="No space left on device"):
            AtomicCheckpointIO().save_checkpoint({}, path)
    assert checkpoint_path(folder, 300).read_bytes() == before
    assert latest_checkpoint(folder) == checkpoint_path(folder, 300)


def test_prune_keeps_the_newest(folder):
    prune(folder, 2)
    assert sorted(path.name for path in folder.iterdir()) == ["nimg-000000000200.ckpt", "nimg-000000000300.ckpt"]


def test_nothing_but_tensors_and_plain_containers_is_read(tmp_path):
    torch.save({"evil": Path("x")}, tmp_path / "a.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
