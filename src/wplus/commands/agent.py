"""Support for arguments in the form of W&B sweep agents: `--training.lr_generator=0.002` as KEY=VALUE.

An agent that starts a command (with WANDB_SWEEP_ID set) passes the varying keys in this form.
"""

import ast
import os
import re
from collections.abc import Collection, Sequence

from wplus.config import quoted
from wplus.core.sweep import KEYS, LABEL
from wplus.sweeps.labels import labels

_WORDS = {"None": "null", "True": "true", "False": "false"}


def as_overrides(arguments: Sequence[str], flags: Collection[str]) -> list[str]:
    """Convert every --KEY=VALUE to KEY=VALUE in Hydra's syntax; `flags` (--cfg, ...) are unchanged."""
    found: list[str] = []
    point: dict[str, str] = {}
    for argument in arguments:
        matched = re.fullmatch(r"--([\w@./]+)=(.*)", argument, re.DOTALL)
        if matched is not None and f"--{matched[1]}" not in flags:
            point[matched[1]] = _from_python(matched[2])
            argument = f"{matched[1]}={point[matched[1]]}"
        found.append(argument)
    if point and "WANDB_SWEEP_ID" in os.environ:
        os.environ |= {KEYS: ",".join(point), LABEL: labels([point], always=point)[0]}
    return found


def _from_python(text: str) -> str:
    """Convert a value printed by Python to Hydra's syntax."""
    if text in _WORDS:
        return _WORDS[text]
    if text.startswith("["):
        try:
            return f"[{','.join(map(_item, ast.literal_eval(text)))}]"
        except (ValueError, SyntaxError):
            return text
    return quoted(text) if "," in text else text


def _item(value: object) -> str:
    if isinstance(value, str):
        return quoted(value)
    return _from_python(repr(value))
