"""Python API: a model as one object that generates, inverts, interpolates, edits and measures like the commands."""

from wplus.library.model import Model, load

__all__ = ["Model", "load"]
