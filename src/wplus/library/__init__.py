"""The library: a model as one object that generates, inverts, interpolates, edits and measures as the commands do."""

from wplus.library.model import Model, load

__all__ = ["Model", "load"]
