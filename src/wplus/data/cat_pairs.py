"""Pairs for translation: the second picture is a bundled cat, the first is derived from it (outline, silhouette, ...).

outline         dark lines at colour edges, on white
silhouette      the cat in black on white
low_resolution  a quarter of the resolution, enlarged by nearest-neighbour interpolation
scribble        a contour with gaps and jitter of a pixel, and some dabs of the cat's colours, on white
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from wplus.core.random import uniforms
from wplus.data.build import with_options_of
from wplus.data.cat_render import NUISANCES, RENDER_VERSION, load_layers, render
from wplus.data.cats import Drawing, cat_images, drawn_images
from wplus.data.domains import TwoDomains
from wplus.data.image_set import ImageSet
from wplus.errors import check_choice

SHRINK = 4  # factor of low_resolution
EDGE = 64  # smallest difference between neighbours (of 255 levels) that draws a line
NUM_DABS, KEPT = 24, 0.7  # scribble: number of colour dabs, share of the contour that is drawn
_STREAM = 200  # random stream
Cat = dict[str, int]


@with_options_of(Drawing)
def cat_pairs(*, task: str = "outline", **options: Any) -> TwoDomains:
    """Pairs of a picture (domain a) and the cat it is derived from (domain b), by `task`; see above.

    Outlines and silhouettes are grey, 1 channel; the others are RGB. No combination of a held-out cat's factors occurs
    in training. The other options are those of `cat_images`; the background is a constant grey, since an outline tells
    nothing about its colour.

    Raises:
        UserError: what `cat_images` raises, or an unknown task.
    """
    check_choice("task", task, TASKS)
    drawing = Drawing(**options)
    cats = cat_images(**asdict(drawing))
    every = cat_images(**asdict(replace(drawing, split="all")))
    assert every.attributes is not None
    attributes = {name: values.numpy() for name, values in every.attributes.items()}
    make, channels = TASKS[task]

    def draw(index: int) -> np.ndarray:
        cat = {name: int(values[index]) for name, values in attributes.items()}
        opacity = partial(_opacity, cat, drawing.resolution, drawing.cache_dir)
        return make(every.images[index].numpy(), opacity, index)

    kept = np.array([int(name.removeprefix("cat")) for name in cats.names])
    key = {"version": RENDER_VERSION, "pillow": Image.__version__, "num_images": drawing.num_images, "task": task,
           **drawing.asked}  # fmt: skip
    pictures = drawn_images(draw, key, kept, name=f"cat-{task}", channels=channels, **drawing.kept)
    policies = {**cats.policies, "task": task}
    return TwoDomains.pairs(ImageSet(pictures, None, cats.names, policies=policies), cats)


def _opacity(cat: Cat, resolution: int, cache_dir: str | None) -> np.ndarray:
    """The cat's opacity, uint8 (resolution, resolution), 255 inside, computed from its pictures on black and white."""
    layers = load_layers(resolution, cache_dir)
    black, white = (
        render({**cat, **dict.fromkeys(NUISANCES[:3], level)}, resolution, layers).astype(np.int16)
        for level in (0, 255)
    )
    return (255 - (white - black).clip(0, 255).max(axis=0)).astype(np.uint8)


# (a cat's pixels (3, R, R), a function that returns its opacity, its number) -> picture (C, R, R); all uint8
Maker = Callable[[np.ndarray, Callable[[], np.ndarray], int], np.ndarray]


def _outline(pixels: np.ndarray, opacity: Callable[[], np.ndarray], index: int) -> np.ndarray:
    colours = pixels.astype(np.int16)
    below = np.abs(np.diff(colours, axis=1, append=colours[:, -1:])).max(axis=0)
    beside = np.abs(np.diff(colours, axis=2, append=colours[:, :, -1:])).max(axis=0)
    return np.where(np.maximum(below, beside) > EDGE, 0, 255).astype(np.uint8)[None]


def _silhouette(pixels: np.ndarray, opacity: Callable[[], np.ndarray], index: int) -> np.ndarray:
    return 255 - opacity()[None]


def _low_resolution(pixels: np.ndarray, opacity: Callable[[], np.ndarray], index: int) -> np.ndarray:
    channels, size, _ = pixels.shape
    blocks = pixels.reshape(channels, size // SHRINK, SHRINK, size // SHRINK, SHRINK).astype(np.uint32)
    means = (blocks.sum(axis=(2, 4)) + SHRINK**2 // 2) // SHRINK**2
    return means.astype(np.uint8).repeat(SHRINK, axis=1).repeat(SHRINK, axis=2)


def _scribble(pixels: np.ndarray, opacity: Callable[[], np.ndarray], index: int) -> np.ndarray:
    inside = opacity() > 127
    size, page = len(inside), np.full_like(pixels, 255)
    step = max(1, size // 32)  # width of the pen
    drawn = uniforms(np.arange(NUM_DABS + size * size), _STREAM, index)
    rows, columns = np.nonzero(inside)
    if len(rows):
        chosen = (drawn[:NUM_DABS] * len(rows)).astype(np.int64)
        for y, x in zip(rows[chosen], columns[chosen], strict=True):
            page[:, y : y + step, max(x - step, 0) : x + 2 * step] = (pixels[:, y, x] // 32 * 32 + 16)[:, None, None]
    contour = inside & ~_eroded(inside, step)
    rows, columns = np.nonzero(contour)
    chance = drawn[NUM_DABS + rows * size + columns]
    off = np.where(chance < KEPT / 2, 0, step)  # jitter of an unsteady hand
    drawn_here = chance < KEPT
    page[:, (rows - off).clip(0)[drawn_here], columns[drawn_here]] = 30
    return page


def _eroded(mask: np.ndarray, num: int) -> np.ndarray:
    """Erode a mask: keep pixels whose neighbours at `num` pixels up, down, left and right are all in it."""
    padded = np.pad(mask, num, mode="edge")
    size = len(mask)
    parts = [padded[num + dy : num + dy + size, num + dx : num + dx + size]
             for dy, dx in ((num, 0), (-num, 0), (0, num), (0, -num))]  # fmt: skip
    return np.logical_and.reduce([mask, *parts])


TASKS: dict[str, tuple[Maker, int]] = {
    "outline": (_outline, 1),
    "silhouette": (_silhouette, 1),
    "low_resolution": (_low_resolution, 3),
    "scribble": (_scribble, 3),
}
"""Task -> the function that makes the picture, and its number of channels."""
