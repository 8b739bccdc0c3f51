"""Every option of every group composes, names existing objects, and passes them arguments that they accept."""

import functools
import inspect
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from tests.fakes import nodes
from wplus.config import CONFIG_FOLDER

CONFIGS = CONFIG_FOLDER
PRIMARIES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "common")
WHOLE_RUN = ("experiment", "debug")  # groups whose options change several others at once
SHARING = ("image_loss",)  # groups of which several may be chosen, but whose options share keys
CONTROL = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


@functools.cache
def composed(primary: str, *overrides: str) -> DictConfig:
    """Compose the config of a command."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(primary, list(overrides))


def options(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def groups(primary: str) -> dict[str, str | list[str] | None]:
    """Groups in the defaults of `primary` and their choices; a list is a choice of several."""
    entries = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{primary}.yaml")).get("defaults", [])
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    plain = {str(key).removeprefix("optional "): choice for key, choice in pairs}
    return {key: choice for key, choice in plain.items() if not key.startswith("override ")}


def every_choice() -> Iterator[Any]:
    """Overrides that together choose every option of every group of a command: one of each group at a time, all at once
    where a group takes several, and alone those that say something of other groups."""
    for primary in PRIMARIES:
        chosen = {group: choice for group, choice in groups(primary).items() if group not in WHOLE_RUN}
        plain, alone = {}, []
        for group, choice in chosen.items():
            is_list, named = isinstance(choice, list), options(CONFIGS / group)
            further = [option for option in named if "_global_" in (CONFIGS / group / f"{option}.yaml").read_text()]
            alone += [[f"{group}=[{option}]" if is_list else f"{group}={option}"] for option in further]
            named = [option for option in named if option not in further]
            if is_list and group not in SHARING:
                named = [",".join(named)]
            plain[group] = [f"{group}=[{option}]" if is_list else f"{group}={option}" for option in named]
        rows = [[row for row in rows if row] for rows in itertools.zip_longest(*plain.values())]
        yield from (pytest.param(primary, row, id=f"{primary}-{number}") for number, row in enumerate([*rows, *alone]))


def check_targets(config: DictConfig) -> None:
    """Check that every `_target_` exists and takes the keys beside it."""
    for node in nodes(OmegaConf.to_container(config, resolve=False)):
        target = hydra.utils.get_object(node["_target_"])
        arguments = {key: value for key, value in node.items() if key not in CONTROL}
        try:
            inspect.signature(target).bind_partial(*node.get("_args_", ()), **arguments)
        except TypeError as error:
            pytest.fail(f"{node['_target_']}: {error}")


@pytest.mark.parametrize("primary", PRIMARIES)
def test_the_defaults_name_what_exists(primary):
    check_targets(composed(primary))


@pytest.mark.parametrize(("primary", "overrides"), list(every_choice()))
def test_every_option_names_what_exists(primary, overrides):
    check_targets(composed(primary, *overrides))


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group in WHOLE_RUN for option in options(CONFIGS / group)]
)
def test_every_preset_composes_with_its_commands(group, option):
    takers = [primary for primary in PRIMARIES if group in groups(primary)]
    assert takers
    for primary in takers:
        check_targets(composed(primary, f"{group}={option}"))


@pytest.mark.parametrize("data", options(CONFIGS / "data"))
@pytest.mark.parametrize("debug", options(CONFIGS / "debug"))
def test_a_debug_preset_takes_any_data(debug, data):
    check_targets(composed("train", f"debug={debug}", f"data={data}"))


def test_every_group_belongs_to_a_command():
    used = {CONFIGS / group for primary in PRIMARIES for group in groups(primary)}
    ours = {path.parent for path in CONFIGS.glob("**/*.yaml")}
    assert ours - used == {CONFIGS, CONFIGS / "sweep"}  # sweeps are of commands


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "wplus.tracking.local.nothing"}, "nothing"),
        ({"_target_": "wplus.core.images.save_png", "colour": 1}, "colour"),
    ],
)
def test_the_check_bites(node, message):
    with pytest.raises((Exception, pytest.fail.Exception), match=message):
        check_targets(OmegaConf.create({"a": [{"b": node}]}))


PROBE = """
import contextlib, io, sys
from wplus.__main__ import main
def run(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main(arguments)
        except SystemExit as ended:
            return out.getvalue(), ended.code
    return out.getvalue(), 0
for verb in VERBS:
    print(verb, bool(run(verb, "--cfg", "job")[0]), bool(run(verb, "--help")[0]), "nokey" in run(verb, "nokey=1")[1],
          {"torch", "wandb", "matplotlib", "pytorch_lightning"} & set(sys.modules))
"""


def test_a_command_answers_lightly(tmp_path):
    """--help, --cfg job and the refusal of an unknown key come without torch, which alone takes longer to import than
    a person should wait, and leave no file behind."""
    program = PROBE.replace("VERBS", repr(PRIMARIES))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{verb} True True True set()" for verb in PRIMARIES]
    assert list(tmp_path.iterdir()) == []
