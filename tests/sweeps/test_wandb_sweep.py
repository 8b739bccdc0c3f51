"""A sweep as a W&B sweep: the file written, and a job as started by a W&B agent, without a server."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.processes import Python
from tests.tracking.test_weights_and_biases import of_type, records
from wplus.commands.agent import as_overrides
from wplus.commands.sweep import sweep
from wplus.core.sweep import KEYS, LABEL
from wplus.errors import UserError
from wplus.sweeps.search import Search
from wplus.sweeps.spec import Spec, Stage
from wplus.sweeps.wandb_sweep import wandb_sweep
from wplus.tracking.local import read_result

ROOT = Path(__file__).resolve().parents[2]
SPEC = {
    "question": "Which space?", "verb": "invert", "overrides": ["num_images=2"], "seeds": 2, "direction": "higher",
    "axes": {"space": ["w", "w+"], "inverter.num_steps": [3]}, "objective": "invert/psnr_db",
}  # fmt: skip


def written(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**SPEC, **changes}))
    return path


def test_the_yaml_asks_what_the_sweep_asks(tmp_path, capsys):
    assert sweep(["wandb", str(written(tmp_path / "spaces.yaml")), "--method", "random"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == {
        "name": "spaces", "description": "Which space?", "project": "wplus", "program": "wplus", "method": "random",
        "metric": {"name": "invert/psnr_db", "goal": "maximize"},
        "parameters": {
            "space": {"values": ["w", "w+"]}, "inverter.num_steps": {"value": 3}, "seed": {"values": [0, 1]},
        },
        "command": ["${env}", "${program}", "invert", "group=spaces", "num_images=2", "${args}"],
    }  # fmt: skip
    assert "wandb agent wplus/ID" in printed
    file = tmp_path / "out.yaml"
    assert sweep(["wandb", str(tmp_path / "spaces.yaml"), "--output", str(file)]) == 0
    assert yaml.safe_load(file.read_text())["method"] == "grid"
    assert "# wandb sweep " + str(file) in file.read_text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"stages": [Stage(verb="train"), Stage(verb="invert")]},
            "runs one command and 'x' has 2 stages, train, invert",
        ),
        ({"stages": [Stage(verb="train", points=[{"seed": 1}])]}, "takes axes alone and 'x' has points"),
    ],
)
def test_what_is_no_sweep_of_wandb_is_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        wandb_sweep(Spec(name="x", **changes), direction="lower", project="p", entity=None)


def test_a_search_is_one_of_wandbs():
    space = {"a": {"low": 0.01, "high": 1.0, "log": True}, "b": {"low": 1, "high": 9}, "c": ["x", "y"],
             "d": {"low": 0.0, "high": 1.0, "step": 0.1}, "e": {"low": 0.0, "high": 1.0}}  # fmt: skip
    search = Search(trials=20, space=space, pruner="median")
    spec = Spec(name="s", stages=[Stage(verb="train", seeds=[3])], objective="val/fd", search=search)
    content = wandb_sweep(spec, direction="lower", project="p", entity="team")
    assert (content["method"], content["run_cap"], content["entity"]) == ("bayes", 20, "team")
    assert content["early_terminate"] == {"type": "hyperband", "min_iter": 3}
    assert content["metric"] == {"name": "val/fd", "goal": "minimize"}
    assert content["parameters"] == {
        "a": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0},
        "b": {"distribution": "int_uniform", "min": 1, "max": 9},
        "c": {"values": ["x", "y"]},
        "d": {"distribution": "q_uniform", "q": 0.1, "min": 0.0, "max": 1.0},
        "e": {"distribution": "uniform", "min": 0.0, "max": 1.0},
        "seed": {"value": 3},
    }
    random = Spec(
        name="s", stages=spec.stages, objective="val/fd", search=Search(trials=2, space=space, sampler="random")
    )
    assert wandb_sweep(random, direction="lower", project="p", entity=None)["method"] == "random"


def test_a_goal_that_nobody_knows_is_asked_for(tmp_path, capsys):
    assert sweep(["wandb", str(written(tmp_path / "a.yaml", direction=None))]) == 1
    assert "add direction: lower or direction: higher to the sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--training.lr_generator=0.002", "training.lr_generator=0.002"),
        ("--space=w+", "space=w+"),
        ("--label=None", "label=null"),
        ("--flag=True", "flag=true"),
        ("--betas=[0.0, 0.99]", "betas=[0.0,0.99]"),
        ("--names=['a b', None]", "names=['a b',null]"),
        ("--name=a,b", "name='a,b'"),
        ("--cfg=job", "--cfg=job"),
        ("--help", "--help"),
        ("seed=1", "seed=1"),
    ],
)
def test_arguments_of_agents_are_overrides(argument, expected):
    assert as_overrides([argument], {"--cfg", "--help"}) == [expected]


def test_what_an_agent_gives_varies(monkeypatch):
    for name in (KEYS, LABEL):  # so that they are taken back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    as_overrides(["seed=1", "--space=w"], ())
    assert KEYS not in os.environ
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    as_overrides(["seed=1", "--space=w", "--inverter.num_steps=3"], ())
    assert (os.environ[KEYS], os.environ[LABEL]) == ("space,inverter.num_steps", "w num_steps=3")


def test_a_job_as_an_agent_starts_it(tmp_path, repository, monkeypatch):
    """W&B's own code makes the command line; the run has the agent's id, and records what varies."""
    model = repository / "experiments" / "models" / "cats32.safetensors"
    fixed = [f"checkpoint={model}", "input=held_out", "num_images=2", "data.num_images=40", f"run_dir={tmp_path}/run"]
    content = wandb_sweep(
        Spec(name="spaces", stages=[Stage(verb="invert", overrides=fixed)]),
        direction="higher",
        project="p",
        entity=None,
    )
    from wandb.sdk.launch.sweeps import utils as agents  # seconds, of every worker that collects

    given = {
        "space": {"value": "w+"},
        "inverter.num_steps": {"value": 3},
        "label": {"value": None},
        "seed": {"value": 1},
    }
    parts = agents.create_sweep_command_args({"args": given}) | {
        "env": ["/usr/bin/env"], "program": [sys.executable, "-m", content["program"]],
    }  # fmt: skip
    command = [each for part in agents.create_sweep_command(content["command"])
               for each in (parts[part[2:-1]] if part.startswith("${") else [part])]  # fmt: skip
    assert "--inverter.num_steps=3" in command
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"wandb_version": 1, **given}))
    agent = {"WANDB_SWEEP_ID": "sweep123", "WANDB_RUN_ID": "fromagent", "WANDB_MODE": "offline",
             "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "config.yaml"), "WANDB_NOTES": "mine"}  # fmt: skip
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    assert command[:2] == ["/usr/bin/env", sys.executable]
    process = Python(*command[2:], env={**own, **agent}, cwd=tmp_path)
    printed = process.output(200)
    assert process.returncode == 0, printed
    assert "Ignoring" not in printed
    (run,) = of_type(records(tmp_path / "run"), "run")
    assert (run["run_id"], run["sweep_id"]) == ("fromagent", "sweep123")
    assert (run["display_name"], run["run_group"], run["notes"]) == ("w+ num_steps=3 label=null s1", "spaces", "mine")
    assert (tmp_path / "run" / "wandb" / "run-id.txt").read_text() == "fromagent\n"
    found = read_result(tmp_path / "run")
    assert found["config"]["inverter"]["num_steps"] == 3
    assert found["values"]["invert/psnr_db"]["value"] > 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["kind"] == "invert"


def test_the_dashboards_are_printed_without_a_server(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_ENTITY", "team")
    path = written(tmp_path / "spaces.yaml", overrides=["checkpoint=x", "input=held_out"])
    for flag, name in (("--workspace", "displayName"), ("--report", "displayName")):
        assert sweep(["wandb", str(path), flag, "--dry"]) == 0
        text = capsys.readouterr().out
        assert json.loads(text)[name] == "spaces"
        assert "config:swept/inverter/num_steps.value" in text
        assert '"num_steps"' in text
        assert "summary:invert/psnr_db" in text
    assert sweep(["wandb", str(written(path, objective=None)), "--report", "--dry"]) == 1
    assert "has no objective" in capsys.readouterr().err


@pytest.mark.parametrize("study", ["loss_weights", "spaces"])
def test_the_report_of_a_study_has_its_page(study, capsys):
    page = ROOT / "experiments" / "studies" / study / "README.md"
    assert sweep(["wandb", study, "--report", "--page", str(page), "--dry"]) == 0
    shown = capsys.readouterr().out
    answer = next(line for line in page.read_text().splitlines() if line.startswith("- **"))
    assert json.dumps(answer)[1:-1] in shown
    assert "summary_metrics.invert/psnr_db" in shown
    assert "invert/grid" in shown
    assert sweep(["wandb", study, "--report", "--page", str(page.with_name("weights.png")), "--dry"]) == 1
    assert "must be a file of Markdown" in capsys.readouterr().err
    for others in (["--workspace", "--dry"], []):
        assert sweep(["wandb", study, "--page", str(page), *others]) == 1
        assert "give --report, too" in capsys.readouterr().err
