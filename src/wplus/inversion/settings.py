"""What decides an inversion's result, as plain values: stored beside it, compared before a folder is continued."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wplus.core.files import write_json
from wplus.errors import UserError

SETTINGS_FILE = "settings.json"
_GIVEN_PER_CALL = (
    "generator",
    "targets",
    "space",
    "perceptual",
    "seed",
    "names",
    "labels",
    "callback",
    "encoder",
    "masks",
    "losses",
)


def describe(invert: Callable[..., Any]) -> dict[str, Any]:
    """The function behind an inverter and the values of its options, defaults included; UserError for a wrong one.

    An option that is an inverter itself is described in turn.
    """
    invert, options = _unwrapped(invert)
    name = f"{invert.__module__}.{getattr(invert, '__qualname__', type(invert).__qualname__)}"
    parameters = inspect.signature(invert).parameters.values()
    optional = [each for each in parameters if each.default is not inspect.Parameter.empty]
    allowed = {each.name: each.default for each in optional if each.name not in _GIVEN_PER_CALL}
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise UserError(f"{name} has no option '{unknown[0]}': its options are {', '.join(allowed)}.")
    values = {**allowed, **options}
    return {"function": name, **{key: describe(each) if callable(each) else each for key, each in values.items()}}


def uses_encoder(invert: Callable[..., Any]) -> bool:
    """Whether an inverter, or one among its options, starts from an encoder or cannot do without."""
    invert, options = _unwrapped(invert)
    parameters = inspect.signature(invert).parameters
    needs = "encoder" in parameters and parameters["encoder"].default is inspect.Parameter.empty
    inner = [each for each in options.values() if callable(each)]
    return needs or options.get("start") == "encoder" or any(map(uses_encoder, inner))


def _unwrapped(invert: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function behind partials, and what they bind."""
    options: dict[str, Any] = {}
    while isinstance(invert, functools.partial):
        options = {**invert.keywords, **options}
        invert = invert.func
    return invert, options


def digest(settings: Mapping[str, Any]) -> str:
    """16 hex characters that identify settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def require_same_settings(folder: Path, settings: Mapping[str, Any], *, noun: str = "inversions") -> None:
    """Write the settings into a new folder, or check that an old one was made with the same; UserError if not.

    `noun` is what the folder holds.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        write_json(path, settings)
        return
    try:
        old = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"Cannot read '{path}' ({error}): delete the folder, or choose another run_dir.") from error
    new = json.loads(json.dumps(settings, default=str))
    if old != new:
        key, before, now = _first_difference(old, new)
        raise UserError(
            f"The folder '{folder}' holds {noun} with other settings ({key} was {before}, now {now}): "
            "choose another run_dir, or delete that folder."
        )


def _first_difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return key or "the file", old, new
    name = next(name for name in sorted({*old, *new}) if old.get(name, ...) != new.get(name, ...))
    return _first_difference(old.get(name, "absent"), new.get(name, "absent"), f"{key}.{name}".lstrip("."))
