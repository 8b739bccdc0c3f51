"""The bundled cats as an ImageSet: rendered by index, with held-out combinations of factors and the true factors."""

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
_HELD_OUT = 100  # random stream that selects combinations; lower streams draw the factors


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The options shared by all two-domain sets of cats: those of `cat_images`, with a constant grey background."""

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
        """Strengths of the nuisances."""
        return Strengths(self.background, self.shift, self.scale, self.flip)

    @property
    def kept(self) -> dict[str, Any]:
        """Memory limit and cache folder, as arguments of `drawn_images`."""
        return {"memory_limit_gb": self.memory_limit_gb, "cache_dir": self.cache_dir}

    @property
    def asked(self) -> dict[str, Any]:
        """The options that determine the pixels of an image number."""
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
    """Painted cats, RGB; cat number i depends only on (seed, i, resolution) and the strengths of the nuisances.

    Args:
        resolution: height and width in pixels, a power of two from 8 to 1024.
        split: "train", "held_out" or "all" (both together, by number).
        num_images: total number of cats in both splits.
        seed: seed of the set; a different seed gives different cats.
        held_out_fraction: approximate share of the combinations of factors, and thus of the cats, that is held out.
        held_out_factors: which factors make up a combination. All five by default: no held-out cat has a twin in
            training, and both splits have the same statistics. Fewer, e.g. [body, accessory], hold out whole regions.
        labels: "none", or the factor that becomes a one-hot label: "body", "fur", "eyes", "mouth", "accessory".
        background, shift, scale, flip: strengths of the nuisances, see `cat_render.Strengths`; 0 turns one off.
        memory_limit_gb: sets that need more than this (in GiB) are rendered on demand.
        cache_dir: where rendered sets are cached; see `cache.cache_folder`.
        without: values of factors to exclude from the split "train", e.g. {"accessory": [3]}.

    Raises:
        UserError: an option that is not allowed, or an empty split.
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
    # Number the combinations independently of the order in which factors are named, and of the set's seed.
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
    """The pictures `kept` among those that `draw` makes: cached, drawn now, or on demand beyond the memory limit.

    Args:
        draw: number of the picture -> uint8 (channels, resolution, resolution).
        key: everything that determines the pixels, including `num_images` and `resolution`.
        name: name of the pictures in the cache and in messages.
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
    """Pictures drawn on demand. The parameters determine the pixels, so they are hashed instead of them."""
    text = json.dumps(key, sort_keys=True)
    content = b"".join(hashlib.sha256(f"{text} {index}".encode()).digest() for index in kept)
    digests = np.frombuffer(content, dtype=np.uint8).reshape(len(kept), 32)
    return LazyImages(draw, numbers=kept, image_shape=shape, digests=digests)
