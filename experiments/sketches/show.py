"""Show sketches above the images generated from them: `python experiments/sketches/show.py runs/sketches`."""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.core.images import captioned_rows

HERE = Path(__file__).parent
TILE = 128  # px


def on_chequers(sketch: Image.Image) -> Image.Image:
    """Put an RGBA sketch on a chequered background, which shows transparency."""
    rows, columns = np.indices((sketch.height, sketch.width)) // 16
    ground = Image.fromarray(np.where((rows + columns) % 2, 170, 200).astype(np.uint8)).convert("RGBA")
    return Image.alpha_composite(ground, sketch)


def tile(image: Image.Image, resample: Image.Resampling) -> Tensor:
    """Read an RGB image (3, 128, 128), uint8."""
    pixels = np.array(image.convert("RGB").resize((TILE, TILE), resample))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def main(folder: Path) -> None:
    """Write results.png beside this file from a folder of inversions."""
    names = sorted(path.stem for path in (HERE / "cats").glob("*.png"))
    sketches = [on_chequers(Image.open(HERE / "cats" / f"{name}.png")) for name in names]
    pictures = [Image.open(folder / "images" / f"{name}.png") for name in names]
    above = [(tile(image, Image.Resampling.BOX), name) for name, image in zip(names, sketches, strict=True)]
    below = [(tile(image, Image.Resampling.NEAREST), "") for image in pictures]
    captioned_rows([above, below], ["sketches", "pictures"], min_px=TILE).save(HERE / "results.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
