"""Write the pictures of the study: cats from the generator's domain, and four kinds from outside it.

    python -m experiments.studies.out_of_domain.pictures

cats          held-out ones, for comparison
other_cats    on backgrounds of any colour, off centre, small and large
scribbles     of cats: contours with gaps, dabs of colour
robots        of the package robohash, set 3, by Julian Peter Arias (CC-BY-3.0)
photographs   square crops of those that scikit-learn and matplotlib ship: a temple, a flower, a portrait
"""

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.data.cat_domains import cat_domains
from wplus.data.cat_pairs import cat_pairs
from wplus.data.cats import cat_images
from wplus.data.image_set import ImageSet

FOLDER = Path("runs/out_of_domain")
PX, NUM, NUM_DRAWN = 32, 24, 2000
PHOTOGRAPHS = (("sklearn.datasets", "images/china.jpg"), ("sklearn.datasets", "images/flower.jpg"),
               ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))  # fmt: skip


def main() -> None:
    """Write a folder for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="(default: %(default)s)")
    parser.add_argument("--num", type=int, default=NUM, help="pictures of each kind (default: %(default)s)")
    options = parser.parse_args()
    for kind, images in kinds(options.num).items():
        folder = options.output / kind
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:02d}.png")
    print(f"Pictures: {options.output}")


def kinds(num: int) -> dict[str, Tensor]:
    """Kind -> uint8 (num, 3, PX, PX), deterministic."""
    shared = {"resolution": PX, "split": "held_out", "num_images": max(NUM_DRAWN, 10 * num)}
    return {
        "cats": _first(cat_images(**shared), num),
        "other_cats": _first(cat_images(**shared, background=1.0, shift=0.25, scale=0.5, seed=1), num),
        "scribbles": _first(cat_pairs(**shared, task="scribble").a, num),
        "robots": _first(cat_domains(**shared, task="robots").b, num),
        "photographs": photographs(num),
    }


def photographs(num: int) -> Tensor:
    """Random square crops, at least a quarter of the picture's shorter side wide, downsampled; deterministic."""
    rng, squares = np.random.default_rng(0), []
    pictures = [Image.open(str(files(package).joinpath(name))).convert("RGB") for package, name in PHOTOGRAPHS]
    for number in range(num):
        picture = pictures[number % len(pictures)]
        side = int(min(picture.size) * rng.uniform(0.25, 1.0))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        square = picture.resize((PX, PX), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        squares.append(torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1))
    return torch.stack(squares)


def _first(images: ImageSet, num: int) -> Tensor:
    found = images.batch(torch.arange(num))[0]
    return found.expand(-1, 3, -1, -1)


if __name__ == "__main__":
    main()
