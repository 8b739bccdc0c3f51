"""Images of two domains, a and b, for translation: pairs, or two unpaired sets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import torch
from torch import Tensor

from wplus.core.random import step_seed
from wplus.data.image_set import ImageSet
from wplus.data.loader import Batches
from wplus.data.on_device import pinned
from wplus.errors import UserError


@dataclass(frozen=True, eq=False, kw_only=True)
class TwoDomains(ImageSet):
    """The images of two domains; code that expects a single ImageSet sees those of domain b.

    Attributes:
        a: the images of domain a, of the same resolution.
        is_paired: image n of one domain corresponds to image n of the other, and has the same name.
        a_as_b, b_as_a: ground truth for each image of a translated to b, and of b to a; None if unknown.
    """

    a: ImageSet
    is_paired: bool
    a_as_b: ImageSet | None = None
    b_as_a: ImageSet | None = None

    def __post_init__(self) -> None:
        assert self.a.resolution == self.resolution, "both domains must have one resolution"
        assert not self.is_paired or self.names == self.a.names, "pairs have one name"
        is_given = bool(self.fingerprint)
        super().__post_init__()
        if not is_given:
            both = f"{self.fingerprint} {self.a.fingerprint} {self.is_paired}"
            object.__setattr__(self, "fingerprint", hashlib.sha256(both.encode()).hexdigest()[:16])

    @classmethod
    def pairs(cls, a: ImageSet, b: ImageSet) -> TwoDomains:
        """Make pairs: image n of `a` should become image n of `b`, and vice versa."""
        return cls(**_fields(b), a=a, is_paired=True, a_as_b=b, b_as_a=a)

    @classmethod
    def unpaired(
        cls, a: ImageSet, b: ImageSet, *, a_as_b: ImageSet | None = None, b_as_a: ImageSet | None = None
    ) -> TwoDomains:
        """Combine two unpaired sets of any sizes."""
        return cls(**_fields(b), a=a, is_paired=False, a_as_b=a_as_b, b_as_a=b_as_a)

    @property
    def b(self) -> ImageSet:
        """Domain b alone."""
        return ImageSet(**_fields(self))

    def side(self, direction: str) -> tuple[ImageSet, ImageSet | None]:
        """The images to translate in a direction, "forward" (a to b) or "backward", and their ground truth."""
        return (self.a, self.a_as_b) if direction == "forward" else (self.b, self.b_as_a)

    def describe(self) -> dict[str, Any]:
        """Plain values for logs: those of b as for any set, and those of a that differ."""
        a = {key: value for key, value in self.a.describe().items() if self.b.describe().get(key) != value}
        return {**super().describe(), "is_paired": self.is_paired, "a": a}

    def subset(self, indices: Tensor) -> ImageSet:
        """Images of b at `indices` int64 (M,); pairs keep their partners."""
        found = self.b.subset(indices)
        return TwoDomains.pairs(self.a.subset(indices), found) if self.is_paired else found


def _fields(images: ImageSet) -> dict[str, Any]:
    """The fields of a plain ImageSet, without its fingerprint."""
    return {each.name: getattr(images, each.name) for each in fields(ImageSet) if each.name != "fingerprint"}


def refuse_one_set(source: Callable[..., Any], *, paired: bool, model: str) -> None:
    """Raise UserError for a source declared to return a single set of images, before it draws or reads anything."""
    makes = get_type_hints(source).get("return")
    if isinstance(makes, type) and issubclass(makes, ImageSet) and not issubclass(makes, TwoDomains):
        raise _one_set(paired=paired, model=model)


def require_domains(images: ImageSet, *, paired: bool, model: str) -> TwoDomains:
    """Return the images as two domains; UserError if they are a single set, or unpaired where pairs are required."""
    if not isinstance(images, TwoDomains):
        raise _one_set(paired=paired, model=model)
    if paired and not images.is_paired:
        raise UserError(
            f"{model} learns from pairs, and data has two unpaired sets: choose data=cat_pairs or data=pairs, or "
            "model=cyclegan, which needs no pairs."
        )
    return images


def _one_set(*, paired: bool, model: str) -> UserError:
    return UserError(
        f"{model} needs images of two domains and data has one set of them: choose data=cat_pairs"
        f"{'' if paired else ', data=cat_domains, data=unpaired'} or data=pairs."
    )


class DomainBatches:
    """Yields (images uint8 (B, C_a + C_b, H, W), a's channels first; no labels) endlessly, as `Batches` does.

    Pairs stay together and are mirrored together. Otherwise each domain has its own order and flips, so that an image
    gets a different partner every time; epochs of the smaller set are shorter.

    Args:
        data: the images.
        batch_size: images of each domain per step over all ranks.
        paired: whether to keep pairs together; has no effect on unpaired data.
        seed, options: those of `Batches`.
    """

    def __init__(self, data: TwoDomains, batch_size: int, *, paired: bool, seed: int = 0, **options: Any) -> None:
        seeds = (seed, seed) if paired else (seed, step_seed(seed, "domain b"))
        self.sides = [Batches(part, batch_size, seed=own, **options)
                      for part, own in zip((data.a, data.b), seeds, strict=True)]  # fmt: skip

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for (a, labels), (b, _) in zip(*self.sides, strict=False):
            yield self._joined(a, b), labels[:, :0]

    def at(self, nimg: int) -> tuple[Tensor, Tensor]:
        """The batch that starts at image number `nimg` of the run."""
        (a, labels), (b, _) = (side.at(nimg) for side in self.sides)
        return self._joined(a, b), labels[:, :0]

    def _joined(self, a: Tensor, b: Tensor) -> Tensor:
        return pinned(torch.cat([a, b], dim=1), self.sides[0].device)


def same_names(a: ImageSet, b: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Restrict two sets to the image names they have in common, both sorted by name."""
    common = set(a.names) & set(b.names)
    return _named(a, common), _named(b, common)


def _named(images: ImageSet, names: set[str]) -> ImageSet:
    rows = [row for row, name in enumerate(images.names) if name in names]
    return images if len(rows) == len(images) else images.subset(torch.tensor(rows, dtype=torch.int64))
