"""invert.py as a user starts it, from another folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wplus
from tests.inversion.conftest import read_pixels
from wplus.latents import load_latent


def command(repository: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(repository / "invert.py"), "tracking=local", "model=model.safetensors", *overrides]


def run(repository: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(repository, *overrides), cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def here(stylegan, tmp_path: Path) -> Path:
    """A folder with a model and three images of odd kinds."""
    wplus.save(tmp_path / "model.safetensors", generator=stylegan)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "in" / "b.bmp")
    Image.fromarray(pixels).save(tmp_path / "in" / "sub" / "c.jpg")
    return tmp_path


def test_a_folder_in_a_folder_out(repository: Path, here: Path) -> None:
    done = run(repository, here, "input=in", "space=w+", "inverter=lbfgs", "inverter.steps=3", "run_dir=out")
    assert done.returncode == 0, done.stderr
    assert "psnr_db" in done.stdout
    fingerprint = wplus.load(here / "model.safetensors").fingerprint
    for name in ("a", "b", "sub/c"):
        assert read_pixels(here / "out" / "images" / f"{name}.png").shape == (8, 8, 3)
        latent = load_latent(here / "out" / "latents" / f"{name}.safetensors", fingerprint=fingerprint)
        assert latent.space == "w+"
    result = json.loads((here / "out" / "result.json").read_text())
    assert result["values"]["inversion/w+/effnet_lite0"]["protocol"]["perceptual"]["name"] == "effnet_lite0"
    assert result["status"] == "finished"


def test_ctrl_c_keeps_what_is_done(repository: Path, here: Path) -> None:
    slow = command(repository, "input=in", "inverter.steps=60", "inverter.lanes=1", "batch_size=1", "run_dir=out")
    process = subprocess.Popen(slow, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None and not list((here / "out").glob("latents/*.safetensors")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    rows = json.loads((here / "out" / "table.json").read_text())["rows"]
    assert 1 <= len(rows) < 3
    assert not [path for path in (here / "out").rglob("*") if path.name.endswith(".tmp")]


def test_a_mistake_is_a_sentence_without_a_trace(repository: Path, here: Path) -> None:
    done = run(repository, here, "run_dir=out", "input=in", "space=x")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "There is no latent space 'x': choose one of z, z+, w, w+."
    assert "Traceback" not in done.stderr
