"""The bundled cats as an ImageSet: rendered by index, some combinations of factors held out, true factors attached."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from wplus.core.progress import track
from wplus.core.random import uniforms
from wplus.data.cache import cached_array
from wplus.data.cat_render import FACTORS, RENDER_VERSION, Strengths, draw_factors, load_layers, render
from wplus.data.image_set import ImageSet, LazyImages
from wplus.data.reader import check_resolution, check_split, one_hot
from wplus.errors import UserError, check_choice, check_number

LABELS = ("none", *FACTORS)
_HELD_OUT = 100  # the stream of randomness that decides about combinations; streams below draw the factors


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The options that all sets of two domains share which are drawn of the cats: those of `cat_images`, on one grey
    background.
    """

    resolution: int
    split: str = "train"
    num_images: int = 20000
    seed: int = 0
    held_out_fraction: float = 0.15
    background: float = 0.0
    shift: float = 0.03
    scale: float = 0.08
    flip: float = 0.5
    memory_limit_gb: float = 4.0
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        check_number("num_images", self.num_images, lowest=1, highest=10_000_000, whole=True)
        check_number("seed", self.seed, lowest=0, highest=2**63 - 1, whole=True)
        check_split(self.split, self.held_out_fraction)

    @property
    def strengths(self) -> Strengths:
        """Of the nuisances."""
        return Strengths(self.background, self.shift, self.scale, self.flip)

    @property
    def kept(self) -> dict[str, Any]:
        """Where pictures are kept, as `drawn_images` takes it."""
        return {"memory_limit_gb": self.memory_limit_gb, "cache_dir": self.cache_dir}

    @property
    def asked(self) -> dict[str, Any]:
        """What decides about the pixels of a number."""
        return {"resolution": self.resolution, "seed": self.seed, **asdict(self.strengths)}


def cat_images(
    *,
    resolution: int,
    split: str = "train",
    num_images: int = 20000,
    seed: int = 0,
    held_out_fraction: float = 0.15,
    held_out_factors: Sequence[str] = FACTORS,
    labels: str = "none",
    background: float = 0.3,
    shift: float = 0.03,
    scale: float = 0.08,
    flip: float = 0.5,
    memory_limit_gb: float = 4.0,
    cache_dir: str | None = None,
    without: Mapping[str, Sequence[int]] | None = None,
) -> ImageSet:
    """Painted cats, RGB; cat number i depends on (seed, i, resolution) and the strengths of the nuisances alone.

    Args:
        resolution: height and width in pixels, a power of two from 8 to 1024.
        split: "train", "held_out" or "all" (both together, by number).
        num_images: cats in both splits together.
        seed: of the set; another seed gives other cats.
        held_out_fraction: about this share of all combinations of factors, and so of the cats, is held out.
        held_out_factors: which factors make up a combination. All five by default: no held-out cat has a twin in
            training, and both splits have the same statistics. Fewer, such as [body, accessory], hold out regions.
        labels: "none", or the factor that becomes a one-hot label: "body", "fur", "eyes", "mouth", "accessory".
        background, shift, scale, flip: strengths of the nuisances, see `cat_render.Strengths`; 0 turns one off.
        memory_limit_gb: a set that needs more than this (in GiB) is rendered when it is asked for.
        cache_dir: where rendered sets are kept; see `cache.cache_folder`.
        without: values of factors that the split "train" leaves out, as {"accessory": [3]}.

    Raises:
        UserError: an option that is not allowed, or a split that comes out empty.
    """
    check_resolution(resolution)
    check_number("num_images", num_images, lowest=1, highest=10_000_000, whole=True)
    check_number("seed", seed, lowest=0, highest=2**63 - 1, whole=True)
    check_choice("labels", labels, LABELS)
    check_split(split, held_out_fraction)
    strengths = Strengths(background, shift, scale, flip)
    layers = load_layers(resolution, cache_dir)
    num_choices = {factor: len(layers[factor]) for factor in FACTORS}
    attributes = draw_factors(np.arange(num_images), seed, num_choices, strengths)
    kept = select_cats(attributes, num_choices, split, held_out_fraction, held_out_factors)
    key = {"version": RENDER_VERSION, "pillow": Image.__version__, "resolution": resolution, "num_images": num_images,
           "seed": seed, **asdict(strengths)}  # fmt: skip
    drawn = {name: torch.from_numpy(values[kept]) for name, values in attributes.items()}
    draw = partial(draw_cat, attributes, resolution, cache_dir)
    return ImageSet(
        drawn_images(draw, key, kept, memory_limit_gb=memory_limit_gb, cache_dir=cache_dir),
        None if labels == "none" else one_hot(drawn[labels], num_choices[labels]),
        [f"cat{index:06d}" for index in kept],
        attributes=drawn,
        label_names=None if labels == "none" else [f"{labels}{index}" for index in range(num_choices[labels])],
        policies={
            "source": "cats (robohash set4, David Revoy, CC-BY-4.0)", "split": split, "labels": labels, "seed": seed,
            "held_out_fraction": held_out_fraction, "held_out_factors": list(held_out_factors), **asdict(strengths),
        },
    ).without(without, split=split)  # fmt: skip


def select_cats(
    attributes: dict[str, np.ndarray], num_choices: dict[str, int], split: str, fraction: float, factors: Sequence[str]
) -> np.ndarray:
    """The numbers of the cats in `split`, int64, ascending."""
    if not factors:
        raise UserError(f"held_out_factors must name one or more of {', '.join(FACTORS)}, got none.")
    for factor in factors:
        check_choice("held_out_factors", factor, FACTORS)
    if split == "all":
        return np.arange(len(attributes["body"]))
    # A combination's number, whatever the order in which the factors are named; the same for every seed of the set.
    chosen = [factor for factor in FACTORS if factor in factors]
    combination = np.ravel_multi_index([attributes[name] for name in chosen], [num_choices[name] for name in chosen])
    held_out = uniforms(combination, _HELD_OUT, *(FACTORS.index(name) for name in chosen)) < fraction
    kept = np.flatnonzero(held_out == (split == "held_out"))
    if len(kept) == 0:
        raise UserError(
            f"The {split} split of the cats is empty; change num_images={len(held_out)} or "
            f"held_out_fraction={fraction}."
        )
    return kept


def draw_cat(attributes: dict[str, np.ndarray], resolution: int, cache_dir: str | None, index: int) -> np.ndarray:
    """The pixels of cat number `index`."""
    cat = {name: int(values[index]) for name, values in attributes.items()}
    return render(cat, resolution, load_layers(resolution, cache_dir))


def drawn_images(
    draw: Callable[[int], np.ndarray], key: dict[str, Any], kept: np.ndarray, *, name: str = "cats", channels: int = 3,
    memory_limit_gb: float, cache_dir: str | None,
) -> torch.Tensor | LazyImages:  # fmt: skip
    """The pictures `kept` of all that `draw` makes: from the cache or drawn now, or when asked for where they are many.

    Args:
        draw: number of the picture -> uint8 (channels, resolution, resolution).
        key: all that decides about the pixels, `num_images` and `resolution` among it.
        name: of the pictures in the cache, and for people.
    """
    shape = (key["num_images"], channels, key["resolution"], key["resolution"])
    if math.prod(shape) > memory_limit_gb * 2**30:
        return _lazily(draw, key, kept, shape[1:])

    def build() -> np.ndarray:
        images = np.empty(shape, dtype=np.uint8)
        for index in track(range(len(images)), f"Drawing {name} at {shape[2]} px"):
            images[index] = draw(index)
        return images

    return torch.from_numpy(cached_array(f"{name}-{shape[2]}px", key, build, shape=shape, cache_dir=cache_dir))[kept]


def _lazily(
    draw: Callable[[int], np.ndarray], key: dict[str, Any], kept: np.ndarray, shape: tuple[int, ...]
) -> LazyImages:
    """Pictures drawn when asked for. The parameters say all about the pixels, so they stand in for a digest."""
    text = json.dumps(key, sort_keys=True)
    content = b"".join(hashlib.sha256(f"{text} {index}".encode()).digest() for index in kept)
    digests = np.frombuffer(content, dtype=np.uint8).reshape(len(kept), 32)
    return LazyImages(draw, numbers=kept, image_shape=shape, digests=digests)
