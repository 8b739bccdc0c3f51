"""Render one cat: five painted layers over a plain background, slightly shifted, scaled and mirrored.

The layers are set 4 of the `robohash` package, painted by David Revoy (CC-BY-4.0). A cat is a pure function of its
factors and the resolution: integers in, uint8 pixels out.
"""

import importlib.util
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from wplus.core.random import uniforms
from wplus.data.cache import cached_array
from wplus.errors import UserError, check_number

RENDER_VERSION = 1  # part of every cache key: increment it when the same factors give different pixels
FACTORS = ("body", "fur", "eyes", "mouth", "accessory")
"""The painted factors, from the bottom layer to the top."""
NUISANCES = ("background_red", "background_green", "background_blue", "shift_x", "shift_y", "size", "flip")
"""Colours 0..255; shifts (right and down) and size in thousandths of the image's width; flip 0 or 1."""

_PAINTED_PX = 1024
_MEAN_SIZE = 0.9  # of the painted frame, relative to the image's width: leaves a margin around ears and tail
_BACKGROUND = 208  # grey level: light enough for the dark cats, dark enough for the cream one
MAX_CACHED_PX = 512  # larger layers are not cached: reading them would be no faster than making them


@dataclass(frozen=True)
class Strengths:
    """How much the nuisance factors vary; 0 turns one off.

    Attributes:
        background: 0 is a constant grey, 1 any colour.
        shift: largest shift in image widths, sideways in both directions but vertically only down: the paintings end in
            a straight line at the bottom, which must not float in the image.
        scale: largest relative change of size, in both directions.
        flip: probability of a mirrored cat.
    """

    background: float
    shift: float
    scale: float
    flip: float

    def __post_init__(self) -> None:
        for name, largest in {"background": 1, "shift": 0.25, "scale": 0.5, "flip": 1}.items():
            check_number(name, getattr(self, name), lowest=0, highest=largest)


@dataclass(frozen=True)
class Layer:
    """A painting cropped to its opaque part: an RGBA image and the position of its corner in pixels."""

    image: Image.Image
    left: int
    top: int


@dataclass(frozen=True)
class Paintings:
    """One of robohash's sets of paintings, of a cat or a robot.

    Args:
        name: what they depict.
        root: the set's folder.
        folders: part -> the folder of its paintings, from the bottom layer to the top.
        num_files: total number of paintings.
        version: part of the cache's key.
    """

    name: str
    root: str
    folders: Mapping[str, str]
    num_files: int
    version: int

    def files(self) -> dict[str, list[Path]]:
        """The files of each part, sorted by name. UserError if the set is missing or not the expected one."""
        package = importlib.util.find_spec("robohash")
        if package is None or package.origin is None:
            raise UserError(
                f"The {self.name}s need the package robohash, which is not installed: pip install robohash."
            )
        root = Path(package.origin).parent / "sets" / self.root
        files = {part: sorted((root / folder).glob("*.png")) for part, folder in self.folders.items()}
        if sum(map(len, files.values())) != self.num_files:
            raise UserError(f"The package robohash does not have the expected {self.num_files} paintings in '{root}'.")
        return files

    def shrunk(self, resolution: int, cache_dir: str | None) -> dict[str, list[Image.Image]]:
        """The paintings of each part, RGBA, scaled for images of `resolution`; computed once and cached."""
        files, px = self.files(), painted_px(resolution)

        def shrink() -> np.ndarray:  # Pillow premultiplies alpha before averaging, so edges do not darken
            paintings = (Image.open(file).convert("RGBA") for part in files.values() for file in part)
            return np.stack([np.asarray(painting.resize((px, px), Image.Resampling.BOX)) for painting in paintings])

        key = {"version": self.version, "pillow": Image.__version__, "px": px}
        shape, is_cached = (self.num_files, px, px, 4), px <= MAX_CACHED_PX
        name = f"{self.name}-layers"
        stack = iter(cached_array(name, key, shrink, shape=shape, cache_dir=cache_dir) if is_cached else shrink())
        return {part: [Image.fromarray(each) for each in itertools.islice(stack, len(files[part]))] for part in files}


def draw_factors(
    indices: np.ndarray, seed: int, num_choices: Mapping[str, int], strengths: Strengths
) -> dict[str, np.ndarray]:
    """Sample all factors and nuisances of the cats `indices` (N,): name -> int64 (N,), uniform and independent."""
    streams = {name: uniforms(indices, seed, stream) for stream, name in enumerate((*FACTORS, *NUISANCES))}
    drawn = {name: np.floor(streams[name] * num_choices[name]) for name in FACTORS}
    for name in NUISANCES[:3]:
        drawn[name] = np.rint(_BACKGROUND * (1 - strengths.background) + 255 * strengths.background * streams[name])
    drawn["shift_x"] = np.rint(1000 * strengths.shift * (2 * streams["shift_x"] - 1))
    drawn["shift_y"] = np.rint(1000 * strengths.shift * streams["shift_y"])
    drawn["size"] = np.rint(1000 * _MEAN_SIZE * (1 + strengths.scale * (2 * streams["size"] - 1)))
    drawn["flip"] = streams["flip"] < strengths.flip
    return {name: values.astype(np.int64) for name, values in drawn.items()}


def render(cat: Mapping[str, int], resolution: int, layers: Mapping[str, list[Layer | None]]) -> np.ndarray:
    """Render one cat, uint8 (3, resolution, resolution); `layers` come from `load_layers(resolution)`."""
    painted, margin = painted_px(resolution), margin_of(cat, resolution)
    colour = tuple(cat[name] for name in NUISANCES[:3])
    canvas = Image.new("RGB", (painted + 2 * margin, painted + margin), colour)
    body = layers["body"][cat["body"]]
    for factor in FACTORS:
        layer = layers[factor][cat[factor]]
        if layer is not None:
            assert body is not None, "every body is visible"
            mask = _inside(body, layer) if factor == "fur" else layer.image
            canvas.paste(layer.image, (margin + layer.left, margin + layer.top), mask)
    return framed(canvas, cat, resolution)


def _width(cat: Mapping[str, int], resolution: int) -> float:
    """Width of the image in pixels of the layers."""
    return 1000 * painted_px(resolution) / cat["size"]


def margin_of(cat: Mapping[str, int], resolution: int) -> int:
    """Margin of the canvas around the painting on three sides, wide enough for the window and the filter's support
    beyond it (3 pixels of the image); at the bottom the canvas ends with the cat.
    """  # fmt: skip
    width = _width(cat, resolution)
    reach = max(width - painted_px(resolution), 0) + width * max(abs(cat["shift_x"]), cat["shift_y"]) / 1000
    return math.ceil(reach + 4 * width / resolution)


def framed(canvas: Image.Image, cat: Mapping[str, int], resolution: int) -> np.ndarray:
    """Apply shift, size and flip to a canvas with margin `margin_of`; uint8 (3, resolution, resolution)."""
    painted, margin, width = painted_px(resolution), margin_of(cat, resolution), _width(cat, resolution)
    # Mirroring comes last, so a mirrored cat is shifted left in order to end up shifted right.
    shift_x = -cat["shift_x"] if cat["flip"] else cat["shift_x"]
    left = margin + (painted - width) / 2 - width * shift_x / 1000
    bottom = margin + painted - width * cat["shift_y"] / 1000
    window = (left, bottom - width, left + width, bottom)
    image = canvas.resize((resolution, resolution), Image.Resampling.LANCZOS, box=window)
    pixels = np.asarray(image).transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[:, :, ::-1] if cat["flip"] else pixels)


def _inside(body: Layer, fur: Layer) -> Image.Image:
    """The fur's alpha restricted to the body: a pattern painted for one tail would float beside another."""
    shape = Image.new("L", fur.image.size)
    shape.paste(body.image.getchannel("A"), (body.left - fur.left, body.top - fur.top))
    return ImageChops.multiply(fur.image.getchannel("A"), shape)


def painted_px(resolution: int) -> int:
    """Width of the layers in pixels: twice the image's, so that shifting and scaling do not blur them."""
    return min(_PAINTED_PX, max(64, 2 * resolution))


CATS = Paintings("cat", "set4", dict(zip(FACTORS, ("000#00body", "001#01fur", "002#02eyes", "003#03mouth",
                                                  "004#04accessories"), strict=True)), 66, RENDER_VERSION)  # fmt: skip


@lru_cache(maxsize=2)
def load_layers(resolution: int, cache_dir: str | None = None) -> dict[str, list[Layer | None]]:
    """The paintings for images of `resolution`, by factor; None for an empty one ("no fur pattern", "no accessory").

    Two of the fur paintings are identical (both empty); only the first is kept, so that all choices look different.
    """
    layers = {}
    for factor, paintings in CATS.shrunk(resolution, cache_dir).items():
        unique = {painting.tobytes(): painting for painting in paintings}
        layers[factor] = [cut(painting) for painting in unique.values()]
    return layers


def cut(painting: Image.Image) -> Layer | None:
    """Crop a painting to its non-empty part; None if it is empty."""
    box = painting.getchannel("A").getbbox()
    return Layer(painting.crop(box), box[0], box[1]) if box else None
