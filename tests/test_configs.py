"""Every option of every group composes, names things that exist, and passes them arguments that they take."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PRIMARIES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "common")
SCRIPTS = sorted(
    path
    for path in [*CONFIGS.parent.glob("*.py"), *CONFIGS.parent.glob("experiments/*.py")]
    if "@entry_point" in path.read_text()
)
WHOLE_RUN = ("experiment", "debug")  # groups whose options change several others at once
CONTROL = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


@functools.cache
def composed(primary: str, *overrides: str) -> DictConfig:
    """The config of a command, with Hydra's own part."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(primary, list(overrides), return_hydra_config=True)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def groups(primary: str) -> dict[str, str | list[str] | None]:
    """The groups in the defaults of `primary` and what is chosen there; a list is a choice of several."""
    entries = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{primary}.yaml")).get("defaults", [])
    pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    return {str(key).removeprefix("optional "): choice for key, choice in pairs if not str(key).startswith("override ")}


def every_choice() -> Iterator[Any]:
    for primary in PRIMARIES:
        for group, chosen in groups(primary).items():
            for option in options(group) if group not in WHOLE_RUN else ():
                choice = f"[{option}]" if isinstance(chosen, list) else option
                yield pytest.param(primary, f"{group}={choice}", id=f"{primary}-{group}={option}")


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with `_target_` in a composed config."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for child in children:
        yield from nodes(child)
    if isinstance(tree, dict) and "_target_" in tree:
        yield tree


def check_targets(config: DictConfig) -> None:
    """Every `_target_` exists and takes the keys beside it."""
    plain = {key: OmegaConf.to_container(config, resolve=False)[key] for key in config if key != "hydra"}
    for node in nodes(plain):
        target = hydra.utils.get_object(node["_target_"])
        arguments = {key: value for key, value in node.items() if key not in CONTROL}
        try:
            inspect.signature(target).bind_partial(*node.get("_args_", ()), **arguments)
        except TypeError as error:
            pytest.fail(f"{node['_target_']}: {error}")


@pytest.mark.parametrize("primary", PRIMARIES)
def test_the_defaults_name_what_exists(primary):
    check_targets(composed(primary))


@pytest.mark.parametrize(("primary", "override"), list(every_choice()))
def test_every_option_names_what_exists(primary, override):
    check_targets(composed(primary, override))


@pytest.mark.parametrize(("group", "option"), [(group, option) for group in WHOLE_RUN for option in options(group)])
def test_every_preset_composes_with_a_command(group, option):
    fitting = []
    for primary in PRIMARIES:
        try:
            fitting.append(composed(primary, f"{group}={option}"))
        except hydra.errors.HydraException:
            continue
    assert fitting
    for config in fitting:
        check_targets(config)


def test_every_group_belongs_to_a_command():
    used = {group for primary in PRIMARIES for group in groups(primary)}
    ours = {path.parent.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("**/*.yaml")}
    assert {group for group in ours - used - {"."} if not group.startswith("hydra/")} == set()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "wplus.tracking.local.nothing"}, "nothing"),
        ({"_target_": "wplus.images.save_png", "colour": 1}, "colour"),
    ],
)
def test_the_check_bites(node, message):
    with pytest.raises((Exception, pytest.fail.Exception), match=message):
        check_targets(OmegaConf.create({"a": [{"b": node}]}))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_asking_a_command_what_it_would_do_is_light(script):
    """--help and --cfg job answer without torch, which alone takes longer to import than a person should wait."""
    program = (
        "import contextlib, io, runpy, sys\n"
        "for arguments in (['--cfg', 'job'], ['--help']):\n"
        "    sys.argv = [sys.argv[0], *arguments]\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):\n"
        f"        runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "    assert out.getvalue()\n"
        "print(sorted({'torch', 'wandb', 'matplotlib', 'pytorch_lightning'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_unknown_key_is_refused_without_a_trace(script, tmp_path):
    done = subprocess.run([sys.executable, str(script), "nokey=1"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "nokey" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
