"""Checkpoints that resume a run: complete, verified, and never all deleted."""

import os
import pickle
import resource
import signal
import warnings
from pathlib import Path

import pytest
import torch

from tests.processes import Python
from wplus.errors import UserError
from wplus.training.checkpoints import AtomicCheckpointIO, checkpoint_path, latest_checkpoint, prune

CONTENT = {"state_dict": {"w": torch.arange(3000.0)}, "nimg": 4, "nested": {"list": [1, None, "x"]}}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three checkpoints, of 4, 40 and 400 images."""
    for nimg in (4, 40, 400):
        AtomicCheckpointIO().save_checkpoint({**CONTENT, "nimg": nimg}, checkpoint_path(tmp_path, nimg))
    return tmp_path


def truncate(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def test_round_trip(folder):
    loaded = AtomicCheckpointIO().load_checkpoint(checkpoint_path(folder, 40))
    assert torch.equal(loaded["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert (loaded["nimg"], loaded["nested"]) == (40, CONTENT["nested"])


def test_the_newest_is_the_one_with_most_images(folder):
    os.utime(checkpoint_path(folder, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert latest_checkpoint(folder) == checkpoint_path(folder, 400)


def test_no_checkpoint_yet(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert latest_checkpoint(tmp_path) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_passed_over_with_a_warning(folder, share):
    truncate(checkpoint_path(folder, 400), share)
    with pytest.warns(UserWarning, match=r"nimg-000000000400\.ckpt' is truncated or damaged; trying the one before it"):
        assert latest_checkpoint(folder) == checkpoint_path(folder, 40)
    assert checkpoint_path(folder, 400).exists()


def test_damage_to_any_byte_of_the_directory_is_found_or_harmless(folder):
    """Whatever it makes of the archive: another compression, a password, undecodable names."""
    path = checkpoint_path(folder, 400)
    content = path.read_bytes()
    for place in range(content.rindex(b"PK\1\2") - 60, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = latest_checkpoint(folder)
        assert found in (path, checkpoint_path(folder, 40))
        if found == path:
            assert AtomicCheckpointIO().load_checkpoint(path)["state_dict"]["w"].equal(CONTENT["state_dict"]["w"])


def test_flipped_bits_are_found(folder):
    path = checkpoint_path(folder, 400)
    content = bytearray(path.read_bytes())
    runtime = content.find(torch.arange(1000.0, 1010.0).numpy().tobytes())
    assert runtime > 0
    content[runtime] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="truncated or damaged"):
        assert latest_checkpoint(folder) == checkpoint_path(folder, 40)


def test_all_damaged_is_not_the_same_as_none(folder):
    for nimg in (4, 40, 400):
        truncate(checkpoint_path(folder, nimg), 0.5)
    message = r"^All 3 checkpoints in .* are damaged; remove them to start over\.$"
    with pytest.warns(UserWarning, match="damaged") as warned, pytest.raises(UserError, match=message):
        latest_checkpoint(folder)
    assert len(warned) == 3


def test_the_remains_of_a_kill_in_mid_save_are_not_taken_for_a_checkpoint(folder):
    code = (
        "import os, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from wplus.training import checkpoints\n"
        "save = torch.save\n"
        "def killed(content, file):\n"
        "    save(content, file); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "torch.save = killed\n"
        "path = checkpoints.checkpoint_path(Path(sys.argv[1]), 4000)\n"
        "checkpoints.AtomicCheckpointIO().save_checkpoint({'w': torch.zeros(9)}, path)\n"
    )
    process = Python("-c", code, folder)
    printed = process.output(60)
    assert process.returncode == -signal.SIGKILL, printed
    (left,) = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert "nimg-000000004000" in left.name
    assert latest_checkpoint(folder) == checkpoint_path(folder, 400)


def test_a_full_disk_leaves_the_old_checkpoints_and_says_so(folder):
    """A limit on the size of files fails in the same calls as a full disk; torch hides the cause."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(UserError) as caught:
            AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(10**5)}, checkpoint_path(folder, 4000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == f"Cannot write '{checkpoint_path(folder, 4000)}': File too large."
    assert latest_checkpoint(folder) == checkpoint_path(folder, 400)
    assert len(list(folder.iterdir())) == 3


def test_prune_keeps_the_newest(folder):
    prune(folder, 2)
    assert sorted(folder.iterdir()) == [checkpoint_path(folder, 40), checkpoint_path(folder, 400)]
    prune(folder, 5)
    assert len(list(folder.iterdir())) == 2


class Payload:
    def __reduce__(self):
        return os.mkdir, ("owned",)


def test_nothing_in_a_checkpoint_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "owned").exists()
