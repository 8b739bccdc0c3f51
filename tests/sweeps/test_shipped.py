"""Every sweep in configs/sweep asks a question, composes, and has a baseline that its configurations fit."""

from pathlib import Path

import pytest
import yaml

from wplus.commands.compose import Composer
from wplus.commands.sweep import sweep
from wplus.config import CONFIG_FOLDER
from wplus.sweeps.labels import SEED
from wplus.sweeps.spec import Spec, read_spec

SHIPPED = {path.stem: read_spec(path) for path in sorted((CONFIG_FOLDER / "sweep").glob("*.yaml"))}
COMPOSER = Composer()


@pytest.mark.parametrize("spec", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_sweep_can_be_asked(spec: Spec, tmp_path: Path):
    jobs = spec.jobs()
    folders = {job.id: tmp_path / job.id for job in jobs}
    for stage in spec.stages:
        last = [job for job in jobs if job.stage is stage][-1]
        own, run_dir, _ = COMPOSER.asked(stage.verb, last.overrides(folders))
        assert run_dir.endswith(own)
    assert spec.question.endswith("?")
    asking = spec.stage_of(spec.objectives[0]) if spec.objectives else spec.stages[-1]
    sets = {SEED, *spec.across}
    methods = [{key: value for key, value in job.point.items() if key not in sets}
               for job in jobs if job.stage is asking]  # fmt: skip
    fit = [each for each in methods if {**each, **spec.baseline} == each]
    assert fit
    # One that fits several methods would leave the table without comparisons.
    assert not spec.baseline or all(each == fit[0] for each in fit)


@pytest.mark.parametrize("spec", SHIPPED.values(), ids=SHIPPED)
def test_a_shipped_sweep_is_one_of_wandbs_or_says_why_not(spec: Spec, capsys):
    status, said = sweep(["wandb", spec.name]), capsys.readouterr()
    if len(spec.stages) == 1 and not any(spec.stages[0].points):
        assert status == 0
        assert yaml.safe_load(said.out)["metric"]["name"] == spec.objectives[0]
    else:
        assert status == 1
        assert "use wplus sweep run, which logs to W&B as well" in said.err


def test_the_sweeps_of_the_study_are_as_large_as_it_says():
    assert {name: len(SHIPPED[name].jobs()) for name in ("perceptual_weight", "short_trainings")} == {
        "perceptual_weight": 24, "short_trainings": 6
    }  # fmt: skip
