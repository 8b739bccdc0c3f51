"""The same command again continues: N + M images straight equal N, an end of any kind, then M, bit for bit."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from wplus.training.checkpoints import latest_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TOTAL = 0.32  # kimg: twenty steps, so that path length (every 4) and R1 (every 16) come on both sides of an end
COMMAND = [
    "debug=quick",
    "data.num_images=200",
    "schedule.snapshot_kimg=0.016",
    "schedule.log_kimg=0.064",
    "device=cpu",
]


def arguments(folder: Path, kimg: float = TOTAL) -> list[str]:
    return [str(ROOT / "train.py"), *COMMAND, f"schedule.kimg={kimg}", f"run_dir={folder}"]


def run_here(monkeypatch: pytest.MonkeyPatch, folder: Path, kimg: float = TOTAL) -> None:
    monkeypatch.setattr(sys, "argv", arguments(folder, kimg))
    runpy.run_path(arguments(folder)[0], run_name="__main__")


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_checkpoints(folder: Path, process: subprocess.Popen[str], num: int = 2, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while len(list((folder / "checkpoints").glob("nimg-*.ckpt"))) < num:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no checkpoint in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        run_here(patch, folder)
    return folder


def assert_same(folder: Path, expected: Path) -> None:
    """Equal in the shared model, and in everything that a further step would depend on."""
    ours, theirs = load_file(folder / "model.safetensors"), load_file(expected / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    states = [torch.load(latest_checkpoint(run / "checkpoints"), weights_only=True) for run in (folder, expected)]
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(states[0][key], states[1][key], rtol=0, atol=0)
    assert int(states[0]["state_dict"]["nimg"]) == round(TOTAL * 1000)
    assert {"pl_mean", "nimg", "ema.mapping.w_avg"} <= states[0]["state_dict"].keys()


@pytest.mark.parametrize("first", [0.016, 0.16])
def test_a_run_in_two_parts_equals_one(tmp_path, monkeypatch, straight, first):
    run_here(monkeypatch, tmp_path, first)
    run_here(monkeypatch, tmp_path)
    assert_same(tmp_path, straight)


def test_a_killed_run_continues_bit_for_bit(tmp_path, monkeypatch, straight):
    """SIGKILL at whatever point the second checkpoint has just been written, with a half-written one beside it."""
    process = start(tmp_path)
    try:
        wait_for_checkpoints(tmp_path, process)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "checkpoints" / f"nimg-{round(TOTAL * 1000):012d}.ckpt").exists(), (
        "killed too late to matter"
    )
    half = tmp_path / "checkpoints" / "nimg-000000000319.ckpt"
    half.write_bytes(latest_checkpoint(tmp_path / "checkpoints").read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is truncated or damaged"):
        run_here(monkeypatch, tmp_path)
    half.unlink(missing_ok=True)
    assert_same(tmp_path, straight)


def test_sigterm_saves_and_exits_cleanly(tmp_path, monkeypatch, straight):
    process = start(tmp_path)
    try:
        wait_for_checkpoints(tmp_path, process, num=1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "interrupted at" in output
    run_here(monkeypatch, tmp_path)
    assert_same(tmp_path, straight)


def test_another_setting_does_not_continue_a_run(tmp_path, monkeypatch):
    run_here(monkeypatch, tmp_path, 0.016)
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    monkeypatch.setattr(sys, "argv", [*arguments(tmp_path), "training.recipe.gamma=3"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(arguments(tmp_path)[0], run_name="__main__")
    assert "recipe.gamma was 0.0032 and is now 3" in str(stopped.value)
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == before
    assert os.path.exists(tmp_path / "model.safetensors")
