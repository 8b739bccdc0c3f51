"""Which ways to interpolate are compared: a space and a path each, called `w_lerp`, `z_slerp`, `w+_geodesic_even`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wplus.errors import UserError
from wplus.interpolation.curve import Path, check_path
from wplus.latents.latent import SPACES, Space, check_space

DISSOLVE = "cross_dissolve"
"""The baseline that mixes the real images pixel by pixel."""


@dataclass(frozen=True)
class Method:
    """A path in a space."""

    space: Space
    path: Path
    name: str


def all_methods(spaces: Sequence[str], paths: Mapping[str, Path]) -> list[Method]:
    """Every path in every space, but where it makes no sense."""
    for space in spaces:
        check_space(space)
    found = [Method(space, path, f"{space}_{name}") for space in spaces for name, path in paths.items()]  # type: ignore[arg-type]
    return [method for method in found if _fits(method)]


def chosen_methods(names: Sequence[str], paths: Mapping[str, Path]) -> list[Method]:
    """Methods by name, such as `w+_lerp`; UserError for an unknown one and for a path in a space that it is not for."""
    return [_method(name, paths) for name in names]


def _method(name: str, paths: Mapping[str, Path]) -> Method:
    space, _, path = name.partition("_")
    if space not in SPACES or path not in paths:
        raise UserError(
            f"There is no method '{name}': it must be SPACE_PATH, SPACE one of {', '.join(SPACES)}, PATH one of those "
            f"that are chosen ({', '.join(paths)})."
        )
    check_path(paths[path], space)
    return Method(space, paths[path], name)  # type: ignore[arg-type]


def _fits(method: Method) -> bool:
    try:
        check_path(method.path, method.space)
    except UserError:
        return False
    return True


def described(value: Any) -> Any:
    """A function with the options that were bound to it, as plain values: for protocols and comparisons."""
    if isinstance(value, functools.partial):
        options = {key: described(each) for key, each in value.keywords.items()}
        return {"function": described(value.func), **options}
    if isinstance(value, Callable):  # type: ignore[arg-type]
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value
