"""Hydra's grammar for several values, as a sweep: what varies, what is searched, and its name."""

import pytest

from wplus.commands.multirun import spec_of
from wplus.commands.sweep_run import SweepKeys, with_overrides
from wplus.config import CONFIG_FOLDER
from wplus.errors import UserError
from wplus.sweeps.spec import Spec


def spec(*arguments: str):
    keys, overrides = SweepKeys.of(arguments)
    return spec_of("train", overrides, keys)


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("seed=0,1", "seed", [0, 1]),
        ("seed=range(2,8,3)", "seed", [2, 5]),
        ("training.hparams.gamma=0.1,1e-3,null", "training.hparams.gamma", [0.1, 0.001, None]),
        ("mirror=none,x", "mirror", ["none", "x"]),
        ("trainer.flag=true,false", "trainer.flag", [True, False]),
        ("probes=[],[logits,recall]", "probes", ["[]", "[logits,recall]"]),
        ("name='a b',c", "name", ["'a b'", "c"]),
        ("loss=glob([h*,lsgan])", "loss", ["hinge", "lsgan"]),
        ("model=glob(*gan,exclude=[r3gan,cyclegan])", "model", ["dcgan", "mlp_gan", "progan"]),
        ("seed=choice(3,1)", "seed", [3, 1]),
        ("seed=sort(3,1)", "seed", [1, 3]),
    ],
)
def test_the_values_of_hydras_grammar(override, key, expected):
    (stage,) = spec(override, "experiment=cats32").stages
    assert stage.axes == {key: expected}
    assert stage.overrides == ["experiment=cats32"]


def test_every_combination_is_a_job_with_its_own_overrides():
    jobs = spec("seed=0,1", "mirror=none,x", "data.resolution=16").jobs()
    assert [job.overrides({}) for job in jobs][1] == ["data.resolution=16", "seed=0", "mirror=x"]
    assert [job.label for job in jobs] == ["none s0", "x s0", "none s1", "x s1"]


def test_a_sweep_is_called_after_what_varies_and_another_one_otherwise():
    names = [spec(*each).name for each in (
        ["seed=0,1"], ["seed=0,1", "slots=cpu:2", "max_failures=1"], ["seed=0,1,2"], ["seed=0,1", "mirror=x"],
        ["training.hparams.gamma=1,2", "mirror=x,none"], ["seed=0,1", "sweep=mine"],
    )]  # fmt: skip
    assert names[0] == names[1]
    assert names[0].startswith("train-seed-")
    assert names[4].startswith("train-gamma-mirror-")
    assert names[5] == "mine"
    assert len(set(names)) == 5


def test_intervals_are_searched():
    found = spec(
        "training.hparams.gamma=tag(log,interval(0.01,10))", "training.hparams.batch_size=tag(int,interval(4,16))",
        "schedule.kimg=range(1,10,2)", "mirror=none,x", "seed=0,1", "objective=[val/fd,train/kimg]", "search.trials=7",
        "search.sampler=nsgaii",
    )  # fmt: skip
    assert found.search.space == {
        "training.hparams.gamma": {"low": 0.01, "high": 10.0, "log": True},
        "training.hparams.batch_size": {"low": 4, "high": 16, "log": False},
        "schedule.kimg": {"low": 1, "high": 9, "step": 2},
        "mirror": ["none", "x"],
    }
    assert (found.search.trials, found.search.sampler, found.objectives) == (7, "nsgaii", ["val/fd", "train/kimg"])
    assert found.stages[0].axes == {"seed": [0, 1]}  # of each trial


@pytest.mark.parametrize(
    ("axes", "overrides", "given", "expected"),
    [
        ({"space": ["w", "f/w+"], "space.block": [8, 16]}, [], [], {"space": ["w", "f8/w+", "f16/w+"]}),
        ({"seed": [0], "space.block": [8, 16]}, ["space=f/w+"], [], {"seed": [0], "space": ["f8/w+", "f16/w+"]}),
        ({"space": ["s", "f/w+"], "seed": [0]}, [], ["space.block=8"], {"space": ["s", "f8/w+"], "seed": [0]}),
        ({"space": ["s", "f/w+"]}, [], ["seed=1"], {"space": ["s", "f/w+"]}),
    ],
)
def test_a_space_and_its_block_are_one_axis_of_a_named_sweep(axes, overrides, given, expected):
    written = Spec.of({"verb": "invert", "axes": axes, "overrides": ["a=1", *overrides]}, name="s")
    (stage,) = with_overrides(written, given).stages
    assert list(stage.axes.items()) == list(expected.items())
    assert stage.overrides == ["a=1", *(each for each in given if each == "seed=1")]


@pytest.mark.parametrize(
    ("content", "override"),
    [
        ({"axes": {"space": ["w", "z"]}}, "space=w+"),
        ({"points": [{"space": "w"}, {}]}, "invert:space=w+"),
        ({"seeds": 2}, "seed=1"),
        ({"objective": "invert/l2", "search": {"trials": 2, "space": {"x": [1, 2]}}}, "+x=1"),
    ],
)
def test_what_the_sweep_would_overrule_is_refused(content, override):
    with pytest.raises(UserError, match="has no effect: .* varies in invert, and the sweep sets its values"):
        with_overrides(Spec.of({"verb": "invert", **content}, name="s"), [override])


def test_a_stage_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="invret:seed=1 names a stage, which must be one of invert, got 'invret'"):
        with_overrides(Spec.of({"verb": "invert"}, name="s"), ["invret:seed=1"])


def test_what_is_said_of_the_sweep_is_no_override():
    keys, rest = SweepKeys.of(
        ["slots=gpu:0,2", "slurm.time=60", "slurm.setup=[a,b]", "question=Why?", "x=1", "retry=true"]
    )
    assert rest == ["x=1"]
    assert (keys.slots, keys.question, keys.retry) == ("gpu:0,2", "Why?", True)
    assert keys.slurm == {"time": 60, "setup": ["a", "b"]}


def test_no_command_has_a_key_of_sweeps():
    """Otherwise it could not be given; the objective is passed to both."""
    names = {line.partition(":")[0] for path in CONFIG_FOLDER.glob("*.yaml") for line in path.read_text().splitlines()}
    assert names & set(SweepKeys.__annotations__) == {"objective"}
    assert spec("seed=0,1", "objective=val/fd").stages[0].overrides == ["objective=val/fd"]


def test_an_interval_without_a_search_is_refused():
    with pytest.raises(UserError, match=r"mirror=interval\(0,1\) is a range to search in: give search.trials=N"):
        spec("mirror=interval(0,1)")
