"""Several processes: one update, the same on all of them."""

import subprocess
import sys
from pathlib import Path

import wplus

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_stay_the_same(tmp_path):
    """Gradients and path lengths are averaged: after four steps every weight and buffer agrees to the bit."""
    script = str(Path(__file__).with_name("two_ranks.py"))
    command = [[sys.executable, script, str(rank), str(tmp_path / "meeting")] for rank in range(2)]
    both = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in command]
    try:
        for process in both:
            output, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
            assert output.strip().endswith("same")
    finally:
        for process in both:
            process.kill()
            process.communicate()


def test_the_command_on_two_processes(tmp_path):
    """trainer=ddp through Lightning: the second process starts by itself, and one record and one model come out."""
    command = ["train.py", "trainer=ddp", "device=cpu", "debug=quick", "data.num_images=60", "schedule.kimg=0.032"]
    done = subprocess.run(
        [sys.executable, *command, f"run_dir={tmp_path}/run", "num_samples=4"],
        cwd=ROOT, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert wplus.load(tmp_path / "run" / "model.safetensors").metadata["nimg"] == 32
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["nimg-000000000032.ckpt"]
