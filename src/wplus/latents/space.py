"""Latent spaces: the interface of one, and all of them by name.

A space is one class, in a file of `spaces/` or anywhere: the shape of its latents, the map from them to what synthesis
draws from, the way into it from w+, its scale and its prior. Whoever takes `space=` finds it by its name.
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
"""A space by its name: z, z+, w, w+, pn, pn+, code, s, f/w+ (f16/w+ with its block), or one from outside."""
Found = TypeVar("Found")
_classes: dict[str, type[LatentSpace]] = {}


def of_weights(measure: Callable[..., Found]) -> Callable[..., Found]:
    """Keeps what `measure(generator, *options)` found, until the generator's weights change."""
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
    """The generator's prior of w, measured at the first use."""
    return Whitened.of(generator)


class LatentSpace:
    """A latent space; codes are (N, *shape), labels (N, c_dim) are looked at before the mapping network alone."""

    name: ClassVar[str] = ""
    of_layers: ClassVar[bool] = False
    """Whether every layer has numbers of its own; otherwise one vector serves them all."""
    is_before_mapping: ClassVar[bool] = False
    """Whether labels and truncation take effect on the way to w: codes have mean square 1, all are equally likely."""
    has_ws: ClassVar[bool] = True
    """Whether codes lead to ws; otherwise to `Styles`, from which there is no way back."""
    is_white: ClassVar[bool] = False
    """Whether what is searched for, codes over `scale`, has variance 1 under the prior."""
    keeps_images: ClassVar[bool] = True
    """Whether `from_ws` gives codes that draw the same images; otherwise it is a start alone."""
    cross_fades: ClassVar[bool] = False
    """Whether codes contain feature maps, so that a straight path overlays both images."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            _classes[cls.name] = cls

    def __str__(self) -> str:
        return self.name

    @classmethod
    def named(cls, name: str) -> LatentSpace | None:
        """The space that a name stands for, None where it is another's."""
        return cls() if name == cls.name else None

    def of(self, generator: GeneratorNetwork) -> LatentSpace:
        """The space as this generator has it; UserError where it has none."""
        return self

    def reaches(self, other: LatentSpace) -> bool:
        """Whether codes of the other space have a way here, see `from_ws`."""
        return str(self) == str(other) or (other.has_ws and (self.of_layers or not other.of_layers))

    def holds(self, other: LatentSpace) -> bool:
        """Whether they come here without loss, and draw the same images."""
        return str(self) == str(other) or (self.keeps_images and self.reaches(other))

    def shape(self, generator: GeneratorNetwork) -> tuple[int, ...]:
        """Of one code."""
        raise NotImplementedError

    def to_ws(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Codes -> ws (N, num_ws, w_dim), not truncated, differentiable."""
        raise UserError(f"{self} has no way back to w+, which is needed here: choose one of {', '.join(_with_ws())}.")

    def to_styles(self, codes: Tensor, generator: GeneratorNetwork) -> Styles:
        """Codes of a space without ws -> what synthesis draws from, differentiable."""
        raise NotImplementedError

    def from_ws(self, ws: Tensor, generator: GeneratorNetwork) -> Tensor:
        """ws (N, num_ws, w_dim), the same in all layers unless `of_layers`, -> codes, see `keeps_images`."""
        raise NotImplementedError

    def from_vectors(self, vectors: Tensor, generator: GeneratorNetwork) -> Tensor:
        """One w (N, w_dim), before the mapping network one z (N, z_dim), for all layers -> codes."""
        return self.from_ws(vectors[:, None].expand(-1, generator.num_ws, -1), generator)

    def scale(self, generator: GeneratorNetwork) -> Tensor | None:
        """How much each number of a code varies under the prior, (*shape), by which a search's steps go; None: 1."""
        return None

    def parts(self, generator: GeneratorNetwork) -> list[int]:
        """Sizes of the parts of a flat code that belong together, as the numbers of a layer do; [] where the last
        dimension is one part."""
        return []

    def prior_distance(self, codes: Tensor, generator: GeneratorNetwork) -> Tensor:
        """(N,) how far codes are from the prior: a mean of squared deviations, about 1 for its samples."""
        return whitened(generator).distance(self.to_ws(codes, generator))

    def styles(self, codes: Tensor, generator: GeneratorNetwork, labels: Tensor | None = None) -> Tensor:
        """Codes -> s (N, D), the styles of all layers; UserError for a generator that has none."""
        return space_of("s", generator).from_ws(self.to_ws(codes, generator, labels), generator)

    def edited(self, codes: Tensor, shift: Tensor, generator: GeneratorNetwork) -> Tensor:
        """Codes (N, *shape) after an edit that adds `shift` (num_ws, w_dim) to ws; of w+ and spaces without ws."""
        raise UserError(f"Directions of w cannot edit {self}: invert into w+, s or f/w+.")

    def length(self, differences: Tensor, generator: GeneratorNetwork) -> Tensor:
        """(N,) float64 norms of differences (N, *shape) of codes, in units of `scale`."""
        scale = self.scale(generator)
        scaled = differences if scale is None else differences / scale
        return scaled.double().flatten(1).norm(dim=1)


def spaces() -> tuple[str, ...]:
    """Their names: those of `spaces/` first, in the order of their floors, then those from outside."""
    _import_own()
    own = [name for name in ("z", "z+", "w", "w+", "pn", "pn+", "code", "s", "f/w+") if name in _classes]
    return (*own, *(name for name in _classes if name not in own))


def _with_ws() -> list[str]:
    return [name for name in spaces() if _classes[name].has_ws]


def space_named(name: str) -> LatentSpace:
    """The space with this name; UserError for an unknown one."""
    _import_own()
    for known in _classes.values():
        if isinstance(name, str) and (found := known.named(name)) is not None:
            return found
    raise UserError(f"space must be one of {', '.join(spaces())}, got {name!r}.")


def space_of(name: str, generator: GeneratorNetwork) -> LatentSpace:
    """The space with this name as the generator has it; UserError for an unknown one, and where it has none."""
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
