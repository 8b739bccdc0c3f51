"""Latent spaces: their common interface, and a registry by name.

A space is one class, in a file of `spaces/` or anywhere else. It defines the shape of its latents, the map from them to
the inputs of synthesis, the map into it from w+, its scale and its prior. Everything that takes `space=` looks it up by
name.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from wplus.errors import UserError
from wplus.latents.w_stats import Whitened
from wplus.models.generator import GeneratorNetwork, Styles

Space = str
"""Name of a space: z, z+, w, w+, pn, pn+, code, s, f/w+ (f16/w+ with its block), or one defined elsewhere."""
Found = TypeVar("Found")
_classes: dict[str, type[LatentSpace]] = {}


def of_weights(measure: Callable[..., Found]) -> Callable[..., Found]:
    """Cache the result of `measure(generator, *options)` until the generator's weights change."""
    known: weakref.WeakKeyDictionary[nn.Module, dict[Any, Found]] = weakref.WeakKeyDictionary()

    @functools.wraps(measure)
    def kept(generator: GeneratorNetwork, *options: Any) -> Found:
        tensors = [*generator.parameters(), *generator.buffers()]
        key = (options, tuple((each.data_ptr(), each._version) for each in tensors))
        mine = known.setdefault(generator, {})
        if key not in mine:
            for old in [each for each in mine if each[1] != key[1]]:
                del mine[old]
            mine[key] = measure(generator, *options)
        return mine[key]

    return kept


@of_weights
def whitened(generator: GeneratorNetwork) -> Whitened:
    """The generator's prior of w, measured on first use."""
    return Whitened.of(generator)


class LatentSpace:
    """A latent space. Codes are (N, *shape); labels (N, c_dim) only matter in spaces before the mapping network."""

    name: ClassVar[str] = ""
    of_layers: ClassVar[bool] = False
    """Whether each layer has its own numbers; otherwise all layers share one vector."""
    is_before_mapping: ClassVar[bool] = False
    """Whether labels and truncation apply on the way to w; codes then have mean square 1 and are all equally likely."""
    has_ws: ClassVar[bool] = True
    """Whether codes map to ws; otherwise they map to `Styles`, which cannot be mapped back."""
    is_white: ClassVar[bool] = False
    """Whether the variables of a search, codes divided by `scale`, have variance 1 under the prior."""
    keeps_images: ClassVar[bool] = True
    """Whether `from_ws` gives codes that produce the same images; otherwise they only serve as a starting point."""
    cross_fades: ClassVar[bool] = False
    """Whether codes contain feature maps, so that interpolating them linearly cross-fades the images."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            _classes[cls.name] = cls

    def __str__(self) -> str:
        return self.name

    @classmethod
    def named(cls, name: str) -> LatentSpace | None:
        """The space with this name, or None if the name belongs to another class."""
        return cls() if name == cls.name else None

    def of(self, generator: GeneratorNetwork) -> LatentSpace:
        """The space as defined for this generator; UserError if the generator does not have it."""
        return self

    def reaches(self, other: LatentSpace) -> bool:
        """Whether codes of the other space can be mapped into this one, see `from_ws`."""
        return str(self) == str(other) or (other.has_ws and (self.of_layers or not other.of_layers))

    def holds(self, other: LatentSpace) -> bool:
        """Whether codes of the other space can be mapped into this one without loss, producing the same images."""
        return str(self) == str(other) or (self.keeps_images and self.reaches(other))

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """The shape of one code: a z or w, or one per layer; spaces of anything else override it."""
        dim = generator.z_dim if self.is_before_mapping else generator.w_dim
        return (generator.num_ws, dim) if self.of_layers else (dim,)

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Codes -> ws (N, num_ws, w_dim), not truncated, differentiable."""
        raise UserError(f"{self} cannot be mapped to w+, as needed here: choose one of {', '.join(_with_ws())}.")

    def to_styles(self, codes: Tensor, generator: GeneratorNetwork) -> Styles:
        """Codes of a space without ws -> the styles that synthesis takes, differentiable."""
        raise NotImplementedError

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """ws (N, num_ws, w_dim), equal in all layers unless `of_layers`, -> codes; see `keeps_images`."""
        raise NotImplementedError

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """One w (N, w_dim), or z (N, z_dim) in spaces before the mapping network, shared by all layers -> codes."""
        of_layers = vectors[:, None].repeat(1, generator.num_ws, 1)
        if self.is_before_mapping:
            return of_layers if self.of_layers else vectors
        return self.from_ws(of_layers, generator)

    def scale(self, generator: GeneratorNetwork) -> Tensor | None:
        """Standard deviation of each number of a code under the prior, (*shape), which scales the steps of a search;
        None: 1."""
        return None

    def parts(self, generator: GeneratorNetwork) -> list[int]:
        """Sizes of the parts of a flat code, for example one per layer; [] if the last dimension is a single part."""
        return []

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Distance (N,) of codes from the prior: a mean of squared deviations, about 1 for samples of the prior."""
        return whitened(generator).distance(self.to_ws(codes, generator))

    def styles(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Codes -> s (N, D), the styles of all layers; UserError for a generator without styles."""
        return space_of("s", generator).from_ws(self.to_ws(codes, generator, labels), generator)

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Codes (N, *shape) edited by adding `shift` (num_ws, w_dim) to ws; implemented by w+ and spaces without ws."""
        raise UserError(f"Directions of w cannot edit {self}: invert into w+, s or f/w+.")

    def length(self, differences: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Norms (N,), float64, of differences (N, *shape) between codes, in units of `scale`."""
        scale = self.scale(generator)
        scaled = differences if scale is None else differences / scale
        return scaled.double().flatten(1).norm(dim=1)


def spaces() -> tuple[str, ...]:
    """Names of all spaces: those of `spaces/` from z to f/w+, then those defined elsewhere."""
    _import_own()
    own = [name for name in ("z", "z+", "w", "w+", "pn", "pn+", "code", "s", "f/w+") if name in _classes]
    return (*own, *(name for name in _classes if name not in own))


def _with_ws() -> list[str]:
    return [name for name in spaces() if _classes[name].has_ws]


def space_named(name: str) -> LatentSpace:
    """The space with this name; UserError if there is none."""
    _import_own()
    for known in _classes.values():
        if isinstance(name, str) and (found := known.named(name)) is not None:
            return found
    raise UserError(f"space must be one of {', '.join(spaces())}, got {name!r}.")


def space_of(name: str, generator: GeneratorNetwork) -> LatentSpace:
    """The space with this name as defined for the generator; UserError if unknown or not available for it."""
    return space_named(name).of(generator)


@functools.cache
def _import_own() -> None:
    package = importlib.import_module("wplus.latents.spaces")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def check_shape(codes: Tensor, space: LatentSpace, generator: GeneratorNetwork) -> None:
    """UserError unless codes (N, ...) have the space's shape."""
    allowed = space.shape(generator)
    if tuple(codes.shape[1:]) != allowed:
        wanted = ", ".join(map(str, allowed))
        raise UserError(f"{space} of this generator must be (N, {wanted}), got {tuple(codes.shape)}.")
