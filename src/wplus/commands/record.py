"""The record of a run at its start: name, group, tags, the whole configuration, the command."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from wplus.config import at
from wplus.core.sweep import label, sweep_folder, swept

_TAGGED = ("experiment", "data", "model", "inverter", "finder", "perceptual")  # groups whose choices become tags
_KEYED = ("path",)  # groups with several choices: their options are the keys of the config


def command_line() -> str:
    """The command that started this process, for notes and reports."""
    script, *arguments = sys.argv
    program = ["python", script] if script.endswith(".py") and not script.endswith("__main__.py") else ["wplus"]
    return shlex.join([*program, *arguments])


def record_fields(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """A tracker's information about a run besides its folder: name, group, tags, the whole config, the command."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    choices = hydra.runtime.choices if hydra else {}
    chosen = [str(choices[group]) for group in _TAGGED if choices.get(group) not in (None, "null")]
    chosen += [str(name) for group in _KEYED for name in cfg.get(group) or ()]
    folder = sweep_folder()
    return {
        "name": label() or Path(cfg["run_dir"]).name,
        "group": _group(cfg),
        "sweep_dir": folder,
        "swept": {key: choices.get(key, at(cfg, key)) for key in swept()},
        "tags": [*chosen, *cfg["tags"]],
        "config": {**cfg, **_decided(cfg)},
        "notes": command_line(),
    }


def _decided(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Values that the configuration leaves undetermined and that are known at the start."""
    from wplus.core.runtime import resolve_device

    device = {"device": str(resolve_device(cfg["device"]))} if "device" in cfg else {}
    return {**device, "group": _group(cfg)}


def _group(cfg: Mapping[str, Any]) -> str:
    """The group in W&B: by default the sweep, if there is one."""
    folder = sweep_folder()
    return str(cfg["group"] or (cfg["name"] if folder is None else folder.name))
