"""Draws one robot: seven painted parts over a plain background; framed as the cats are.

The parts are set 3 of the `robohash` package, drawn by Julian Peter Arias (CC-BY-3.0).
"""

import importlib.util
import itertools
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from wplus.data.cache import cached_array
from wplus.data.cat_render import MAX_CACHED_PX, NUISANCES, Layer, cut, framed, margin_of, painted_px
from wplus.errors import UserError

RENDER_VERSION = 1  # part of every cache key
PARTS = ("face", "wave", "antenna", "eyes", "eyebrows", "nose", "mouth")
"""From the lowest to the highest, as robohash puts them together."""
_FOLDERS = (
    "005#01BaseFace",
    "001#02Wave",
    "006#03Antenna",
    "003#04Eyes",
    "002#05Eyebrows",
    "004#06Nose",
    "000#07Mouth",
)
_NUM_FILES = 145


def render_robot(robot: Mapping[str, int], resolution: int, layers: Mapping[str, list[Layer | None]]) -> np.ndarray:
    """One robot, uint8 (3, resolution, resolution); `robot` has a number for each of PARTS and of the nuisances."""
    painted = painted_px(resolution)
    margin = margin_of(robot, resolution)
    colour = tuple(robot[name] for name in NUISANCES[:3])
    canvas = Image.new("RGB", (painted + 2 * margin, painted + margin), colour)
    for part in PARTS:
        layer = layers[part][robot[part]]
        if layer is not None:
            canvas.paste(layer.image, (margin + layer.left, margin + layer.top), layer.image)
    return framed(canvas, robot, resolution)


@lru_cache(maxsize=2)
def load_parts(resolution: int, cache_dir: str | None = None) -> dict[str, list[Layer | None]]:
    """The paintings for images of `resolution`, by part."""
    files, px = _part_files(), painted_px(resolution)

    def shrink() -> np.ndarray:
        paintings = (Image.open(file).convert("RGBA") for part in PARTS for file in files[part])
        return np.stack([np.asarray(painting.resize((px, px), Image.Resampling.BOX)) for painting in paintings])

    key = {"version": RENDER_VERSION, "pillow": Image.__version__, "px": px}
    shape, is_cached = (_NUM_FILES, px, px, 4), px <= MAX_CACHED_PX
    stack = cached_array("robot-layers", key, shrink, shape=shape, cache_dir=cache_dir) if is_cached else shrink()
    paintings = iter(stack)
    return {part: [cut(Image.fromarray(each)) for each in itertools.islice(paintings, len(files[part]))]
            for part in PARTS}  # fmt: skip


def _part_files() -> dict[str, list[Path]]:
    package = importlib.util.find_spec("robohash")
    if package is None or package.origin is None:
        raise UserError("The robots need the package robohash, which is not installed: pip install robohash.")
    root = Path(package.origin).parent / "sets" / "set3"
    files = {part: sorted((root / folder).glob("*.png")) for part, folder in zip(PARTS, _FOLDERS, strict=True)}
    if sum(map(len, files.values())) != _NUM_FILES:
        raise UserError(f"The package robohash does not have the expected {_NUM_FILES} paintings in '{root}'.")
    return files
