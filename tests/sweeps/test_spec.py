"""The jobs that follow from a sweep's specification."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wplus.config import CONFIG_FOLDER
from wplus.errors import UserError
from wplus.sweeps.spec import Spec, Stage, read_spec

CHAIN = {
    "name": "chain",
    "stages": [
        {"verb": "train", "axes": {"model": ["dcgan", "progan"]}, "seeds": 2},
        {"verb": "train", "name": "encode", "overrides": ["checkpoint={train}/model.safetensors"]},
        {"verb": "invert", "overrides": ["checkpoint={train}/model.safetensors", "encoder={encode}/model.safetensors"],
         "axes": {"space": ["w", "w+"]}},
    ],
}  # fmt: skip


def test_axes_points_and_seeds_are_multiplied():
    stage = Stage(verb="invert", axes={"space": ["w", "w+"]}, points=[{"a": 1, "b": 2}, {"a": 3}], seeds=[0, 7])
    found = list(stage.variations())
    assert len(found) == 8
    assert found[0] == {"a": 1, "b": 2, "space": "w", "seed": 0}
    assert found[-1] == {"a": 3, "space": "w+", "seed": 7}
    assert len({str(each) for each in found}) == 8


def test_a_later_stage_takes_the_folders_of_the_earlier_ones():
    jobs = Spec.of(CHAIN, name="x").jobs()
    assert [job.id for job in jobs].count("invert-000") == 1
    assert len(jobs) == 4 + 4 + 8  # an encoder is never paired with another model's generator
    last = next(job for job in jobs if job.id == "invert-007")
    assert last.point == {"model": "progan", "seed": 1, "space": "w+"}
    folders = {job.id: Path("runs") / job.id for job in jobs}
    assert last.overrides(folders) == [
        "checkpoint=runs/train-003/model.safetensors", "encoder=runs/encode-003/model.safetensors", "space=w+"
    ]  # fmt: skip
    assert last.label == "progan w+ s1"


def test_a_reference_to_another_key_is_no_stage():
    stage = Stage(verb="invert", overrides=["run_dir=out/${seed}"], seeds=2)
    assert [job.overrides({})[0] for job in Spec(name="x", stages=[stage]).jobs()] == ["run_dir=out/${seed}"] * 2


def test_values_are_written_as_overrides_are():
    (job,) = Spec(name="x", stages=[Stage(verb="v", axes={"a": [None]}, points=[{"b": True, "c": [1, "x"]}])]).jobs()
    assert job.overrides({}) == ["b=true", "c=[1,x]", "a=null"]


@given(st.integers(1, 4), st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
def test_what_is_written_is_read_again(seeds, values):
    spec = Spec(
        name="x",
        question="?",
        stages=[Stage(verb="invert", axes={"k": values}, seeds=seeds)],
        baseline={"k": "a"},
        margin={"invert/l2": 0.1},
        across=["k"],
    )
    again = Spec.of(spec.as_dict(), name="other")
    assert again.as_dict() == spec.as_dict()
    assert [job.label for job in again.jobs()] == [job.label for job in spec.jobs()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "at least one stage"),
        ({"verb": "invert", "axes": {"space": "w"}}, r"axes.space must be a list of values, got 'w'"),
        ({"verb": "invert", "axis": {}}, "unexpected keyword argument 'axis'"),
        ({"verb": "invert", "seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        (
            {"stages": [{"verb": "invert", "overrides": ["a={train}/x"]}]},
            r"\{train\} in the overrides of invert must be",
        ),
        ({"stages": [{"verb": "invert"}, {"verb": "invert"}]}, "Two stages are called 'invert'"),
        ({"verb": "invert", "name": "a b"}, "name must be letters"),
        ({"verb": "invert", "margin": 0.2}, "A margin without a number is the objective's, and there is none"),
        ({"verb": "invert", "objective": "invert/l2", "margin": -1}, "margin must be a number of at least 0, got -1"),
        ({"verb": "invert", "margin": {"invert/l2": "x"}}, "margin.invert/l2 must be a number of at least 0, got 'x'"),
        ({"verb": "invert", "across": "data"}, "across must be a list of keys, got 'data'"),
        ({"verb": "invert", "where": {"space": "w"}}, r"where.space must be a list of values, got 'w'"),
    ],
)
def test_a_mistake_is_a_sentence(content, message):
    with pytest.raises(UserError, match=message):
        Spec.of(content, name="x")


def test_the_sweeps_that_come_with_the_project_are_read():
    files = sorted((CONFIG_FOLDER / "sweep").glob("*.yaml"))
    assert files
    for file in files:
        spec = read_spec(file)
        assert spec.question.endswith("?")
        assert len(spec.jobs()) > 1


@pytest.mark.parametrize(
    ("where", "parents"),
    [
        ({"space": ["w+", "z"]}, [("invert-002", "directions-000"), ("invert-002", "directions-001"),
                                  ("invert-003", "directions-000"), ("invert-003", "directions-001")]),
        ({"space": ["w+", "s"], "seed": ["1"], "finder": ["pca"]}, [("invert-003", "directions-001"),
                                                                   ("invert-005", "directions-001")]),
    ],
)  # fmt: skip
def test_a_stage_may_be_for_some_of_the_earlier_jobs(where, parents):
    """Every key counts, whether of the first or a further job that is read, a number or a word."""
    edits = {"verb": "edit", "overrides": ["latents={invert}", "directions={directions}"], "where": where}
    inversions = {"verb": "invert", "axes": {"space": ["w", "w+", "s"]}, "seeds": 2}
    spec = {"stages": [inversions, {"verb": "directions", "axes": {"finder": ["sefa", "pca"]}}, edits]}
    found = Spec.of(Spec.of(spec, name="x").as_dict(), name="x").jobs()
    assert [tuple(job.parents.values()) for job in found if job.stage.verb == "edit"] == parents


def test_a_stage_for_no_earlier_job_is_refused():
    edits = {"verb": "edit", "overrides": ["latents={invert}"], "where": {"space": ["z"]}}
    spec = Spec.of({"stages": [{"verb": "invert", "axes": {"space": ["w"]}}, edits]}, name="x")
    with pytest.raises(UserError, match=r"where of edit leaves none of the jobs that it reads: \{'space': \['z'\]\}"):
        spec.jobs()
