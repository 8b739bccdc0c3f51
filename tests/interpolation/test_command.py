"""interpolate.py as a user runs it, from another folder."""

import json
import runpy
import sys

import pytest

import wplus


def test_two_seeds_to_videos_of_a_path_plain_and_re_timed(repository, generator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = wplus.save(tmp_path / "model.safetensors", generator=generator)
    chosen = ["tracking=local", f"checkpoint={model.name}", "run_dir=out", "inputs=[seed:1,seed:2]", "path=lerp",
              "retime=[none,arc_length]", "space=w", "num_frames=4", "frames=keep", "path_metrics=[prior]"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["interpolate.py", *chosen])
    runpy.run_path(str(repository / "interpolate.py"), run_name="__main__")
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
    assert "auto" not in {result["config"][key] for key in ("space", "noise", "upscale", "device")}
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["lerp", "lerp+arc_length"]
    assert f"prior_max: {result['values']['interpolate/prior_max']['meaning']}" in shown


def test_what_no_latents_make_possible_is_refused_before_anything_is_read(repository, monkeypatch):
    chosen = ["checkpoint=none", "inputs=[a.png,b.png]", "tracking=local", "path=coarse_first", "space=w"]
    monkeypatch.setattr(sys, "argv", ["interpolate.py", *chosen])
    with pytest.raises(SystemExit, match="coarse_first must be w"):
        runpy.run_path(str(repository / "interpolate.py"), run_name="__main__")
