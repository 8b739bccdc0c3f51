"""wplus: train style-based generators, invert images, interpolate between them, and measure all of it.

Examples:
    >>> import wplus
    >>> wplus.load("cats32").generate(2, seed=0, psi=0.7)
    <Pictures: 2 of 32 x 32 px: seed:0, seed:1>

The public names are loaded on first use, so that `import wplus` stays cheap for command lines that only print help.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wplus.checkpoint import Models, save
    from wplus.errors import UserError
    from wplus.library import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "Models", "UserError", "__version__", "load", "save"]
_PLACES = {"Model": "library", "load": "library", "Models": "checkpoint", "save": "checkpoint", "UserError": "errors"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"wplus.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'wplus' has no attribute {name!r}")
