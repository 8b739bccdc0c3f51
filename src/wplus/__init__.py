"""wplus: train style-based generators, invert images, interpolate between them, and measure all of it.

The public names are loaded on first use, so that `import wplus` stays cheap for command lines that only print help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wplus.checkpoint import Models, load, save

__version__ = "0.1.0"
__all__ = ["Models", "__version__", "load", "save"]


def __getattr__(name: str) -> Any:
    if name in ("Models", "load", "save"):
        from wplus import checkpoint

        return getattr(checkpoint, name)
    raise AttributeError(f"module 'wplus' has no attribute {name!r}")
