"""What must not change when a run is continued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wplus.errors import UserError


def check_same_run(saved: Mapping[str, Any], current: Mapping[str, Any], path: object) -> None:
    """UserError naming the first setting in which a checkpoint's run differs from this one."""
    before, now = _flat(saved), _flat(current)
    for key in sorted(set(before) | set(now)):
        if before.get(key) != now.get(key):
            raise UserError(
                f"Cannot continue from '{path}': {key} was {before.get(key)!r} and is now {now.get(key)!r}; "
                "repeat the old setting or choose another run_dir."
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + str(key)] = value
    return flat
