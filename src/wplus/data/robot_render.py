"""Render one robot: seven painted parts over a plain background, framed like the cats.

The parts are set 3 of the `robohash` package, drawn by Julian Peter Arias (CC-BY-3.0).
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from PIL import Image

from wplus.data.cat_render import NUISANCES, Layer, Paintings, cut, framed, margin_of, painted_px

RENDER_VERSION = 1  # part of every cache key
PARTS = ("face", "wave", "antenna", "eyes", "eyebrows", "nose", "mouth")
"""From bottom to top, as robohash composes them."""
_FOLDERS = ("005#01BaseFace", "001#02Wave", "006#03Antenna", "003#04Eyes", "002#05Eyebrows", "004#06Nose",
            "000#07Mouth")  # fmt: skip
ROBOTS = Paintings("robot", "set3", dict(zip(PARTS, _FOLDERS, strict=True)), 145, RENDER_VERSION)


def render_robot(robot: Mapping[str, int], resolution: int, layers: Mapping[str, list[Layer | None]]) -> np.ndarray:
    """Render one robot, uint8 (3, resolution, resolution); `robot` has a number for each of PARTS and the nuisances."""
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
    """The paintings of each part, for images of `resolution`."""
    return {part: [cut(each) for each in paintings] for part, paintings in ROBOTS.shrunk(resolution, cache_dir).items()}
