"""Sizes of a sweep: fewer jobs for the same question, under a separate name."""

import pytest

from wplus.__main__ import main
from wplus.commands.sweep import sweep
from wplus.config import CONFIG_FOLDER
from wplus.errors import UserError
from wplus.sweeps.sizes import sized
from wplus.sweeps.spec import Spec, read_spec

CONTENT = {
    "question": "Which?",
    "stages": [
        {"verb": "train", "points": [{"model": "dcgan"}, {"model": "progan"}, {"model": "r3gan"}], "seeds": [3, 4, 5]},
        {"verb": "invert", "overrides": ["checkpoint={train}/model.safetensors"], "axes": {"space": ["w", "w+", "s"]}},
    ],
    "baseline": {"space": "w"},
    "sizes": {
        "smoke": {"overrides": ["invert:num_images=2"], "axes": {"space": ["w", "s"]}, "points": 1, "seeds": 1},
        "other": {"axes": {"space": ["s"]}},
        "listed": {"points": [{"model": "vae"}], "seeds": 2},
        "trained": {"stages": ["train"]},
    },
}
SPEC = Spec.of(CONTENT, name="x")
SHIPPED = {path.stem: read_spec(path) for path in sorted((CONFIG_FOLDER / "sweep").glob("*.yaml"))}


def test_a_size_has_fewer_jobs_under_another_name():
    spec, overrides = sized(SPEC, "smoke")
    assert (spec.name, overrides, spec.sizes) == ("x_smoke", ["invert:num_images=2"], {})
    assert [dict(job.point) for job in spec.jobs()] == [
        {"model": "dcgan", "seed": 0}, {"model": "dcgan", "seed": 0, "space": "w"},
        {"model": "dcgan", "seed": 0, "space": "s"},
    ]  # fmt: skip
    assert spec.baseline == {"space": "w"}
    assert sized(SPEC, "other")[0].baseline == {}  # which is no method there
    assert sized(SPEC, "full") == (SPEC, ())
    assert all("model" not in job.own for job in sized(SPEC, "listed")[0].jobs() if job.stage.verb == "invert")
    models = [(job.point["model"], job.point["seed"]) for job in sized(SPEC, "listed")[0].jobs()]
    assert models == [("vae", 0), ("vae", 1)] + [("vae", seed) for seed in (0, 1) for _ in range(3)]


def test_a_size_can_leave_out_stages():
    assert {job.stage.name for job in sized(SPEC, "trained")[0].jobs()} == {"train"}
    with pytest.raises(UserError, match=r"\{train\} in the overrides of invert must be one of .*got 'train'"):
        sized(Spec.of(CONTENT | {"sizes": {"orphan": {"stages": ["invert"]}}}, name="x"), "orphan")


def test_sizes_belong_to_the_file():
    assert "sizes" not in SPEC.as_dict()
    assert [job.id for job in Spec.of(SPEC.as_dict(), name="x").jobs()] == [job.id for job in SPEC.jobs()]


@pytest.mark.parametrize(("content", "size", "said"), [
    (CONTENT, "tiny", "size of the sweep 'x' must be one of full, smoke, other, listed, trained, got 'tiny'"),
    (CONTENT | {"sizes": {"small": {"steps": 3}}}, "small", "'small' of the sweep 'x' cannot be read.*steps"),
    (CONTENT | {"sizes": {"small": {"axes": {"speed": [1]}}}}, "small", "axes of a size must be one of space, got"),
    (CONTENT | {"sizes": {"small": {"stages": ["edit"]}}}, "small", "stages of a size must be one of train, invert"),
    (CONTENT | {"sizes": {"small": {"seeds": 0}}}, "small", "seeds must be a whole number of at least 1, got 0"),
])  # fmt: skip
def test_what_is_no_size_is_refused(content, size, said):
    with pytest.raises(UserError, match=said):
        sized(Spec.of(content, name="x"), size)


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, spec in SHIPPED.items() for size in spec.sizes])
def test_every_size_of_a_shipped_sweep_can_be_asked(name, size, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert sweep(["run", name, f"size={size}", "--dry"]) == 0
    said = capsys.readouterr().out
    jobs, full = sized(SHIPPED[name], size)[0].jobs(), SHIPPED[name].jobs()
    assert f"queued of {len(jobs)}" in said
    assert len(jobs) < len(full) if size == "smoke" else [job.point for job in jobs] != [job.point for job in full]


def test_sizes_are_of_named_sweeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="size=smoke is only for named sweeps: wplus sweep run NAME size=smoke"):
        main(["invert", "-m", "checkpoint=x", "input=held_out", "space=w,w+", "size=smoke"])
