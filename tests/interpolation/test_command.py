"""interpolate.py as a user starts it, from another folder."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import wplus
from wplus.models.stylegan2 import Generator


def run(repository: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "interpolate.py"), "tracking=local", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def model(generator: Generator, tmp_path: Path) -> Path:
    return wplus.save(tmp_path / "model.safetensors", generator=generator)


def test_two_seeds_to_a_film(repository: Path, model: Path, tmp_path: Path) -> None:
    chosen = ["inputs=[seed:1,seed:2]", "path=lerp", "space=w", "num_frames=4", "frames=keep", "run_dir=out"]
    done = run(repository, tmp_path, f"checkpoint={model.name}", *chosen)
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"video.mp4", "video.gif", "strip.png", "distances.png", "frames", "result.json"} <= made
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    entry = result["values"]["interpolation/step_cv"]
    assert entry["value"] >= 0
    assert (entry["protocol"]["path"], entry["protocol"]["space"], entry["protocol"]["num_frames"]) == ("lerp", "w", 4)
    assert result["config"]["inputs"] == ["seed:1", "seed:2"]


def test_a_mistake_is_a_sentence_without_a_trace(repository: Path, model: Path, tmp_path: Path) -> None:
    done = run(repository, tmp_path, f"checkpoint={model.name}", "inputs=[seed:1]", "run_dir=out")
    assert done.returncode == 1
    assert "this command needs at least 2 input(s), got 1: seed:1" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("num_frames=1", "at least 2 frames"),
        ("alpha=0.5", "allowed are b_at_one and a_at_one"),
        ("num_columns=1", "needs at least 2"),
        ("fps=0", "must be above 0"),
        ("upscale=0", "whole numbers from 1"),
        ("frames=all", "allowed are drop and keep"),
        ("batch_size=0", "must be 1 or more"),
        ("space=v", "no latent space 'v'"),
    ],
)
def test_what_no_latents_make_possible_is_refused_before_anything_is_read(
    repository: Path, option: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["checkpoint=none", "inputs=[a.png,b.png]", "tracking=local", option]
    monkeypatch.setattr(sys, "argv", ["interpolate.py", *chosen])
    with pytest.raises(SystemExit, match=words):
        runpy.run_path(str(repository / "interpolate.py"), run_name="__main__")
