"""interpolate.py as a user starts it, from another folder."""

import json
import runpy
import subprocess
import sys

import pytest

import wplus


@pytest.fixture
def run(repository, generator, tmp_path):
    model = wplus.save(tmp_path / "model.safetensors", generator=generator)

    def run(*overrides):
        fixed = ["tracking=local", f"checkpoint={model.name}", "run_dir=out"]
        command = [sys.executable, str(repository / "interpolate.py"), *fixed, *overrides]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


def test_two_seeds_to_videos_of_a_path_plain_and_re_timed(run, tmp_path):
    retimed = ["path=lerp", "retime=[none,arc_length]"]
    done = run("inputs=[seed:1,seed:2]", *retimed, "space=w", "num_frames=4", "frames=keep", "path_metrics=[prior]")
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"comparison.png", "lerp", "lerp+arc_length", "result.json"} <= made
    written = {path.name for path in (tmp_path / "out" / "lerp+arc_length").iterdir()}
    assert written == {"video.mp4", "video.gif", "filmstrip.png", "distances.png", "frames"}
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    plain, even = (result["methods"]["interpolate/paths"][name]["step_cv"] for name in ("lerp", "lerp+arc_length"))
    assert plain["value"] > even["value"] >= 0
    protocol = even["protocol"]
    assert (protocol["path"], protocol["space"], protocol["num_frames"]) == ("lerp+arc_length", "w", 4)
    assert result["config"]["inputs"] == ["seed:1", "seed:2"]
    assert done.stdout.splitlines()[0].split() == ["lerp", "lerp+arc_length"]
    assert f"prior_max: {result['values']['interpolate/prior_max']['meaning']}" in done.stdout


def test_a_mistake_is_a_sentence_without_a_trace(run):
    done = run("inputs=[seed:1]")
    assert done.returncode == 1
    assert "this command needs at least 2 input(s), got 1: seed:1" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("num_frames=1", "num_frames must .* got 1"),
        ("alpha=0.5", "alpha must be one of b_at_one, a_at_one"),
        ("num_columns=1", "num_columns must .* got 1"),
        ("fps=0", "fps must be above 0"),
        ("upscale=0", "upscale must be auto or a whole number"),
        ("frames=all", "frames must be one of drop, keep"),
        ("batch_size=0", "batch_size must .* got 0"),
        ("space=v", "'v'"),
        ("path=coarse_first space=w", "coarse_first must be w"),
    ],
)
def test_what_no_latents_make_possible_is_refused_before_anything_is_read(repository, option, words, monkeypatch):
    chosen = ["checkpoint=none", "inputs=[a.png,b.png]", "tracking=local", *option.split()]
    monkeypatch.setattr(sys, "argv", ["interpolate.py", *chosen])
    with pytest.raises(SystemExit, match=words):
        runpy.run_path(str(repository / "interpolate.py"), run_name="__main__")
