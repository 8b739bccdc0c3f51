"""Arguments as the agents of W&B's sweeps pass them: `--training.lr_generator=0.002` is a KEY=VALUE, too.

An agent that starts a command (WANDB_SWEEP_ID is set) gives what varies in this form.
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
    """`arguments` with every --KEY=VALUE as KEY=VALUE, in Hydra's words; `flags` (--cfg, ...) are left as they are."""
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
    """A value that Python has printed."""
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
