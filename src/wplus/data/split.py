"""Which images are held out: decided once and for all by a hash of what the image is called, or is made of.

An image that joins or leaves a set moves no other image from one split to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from wplus.core.random import name_fraction
from wplus.data.checks import check_choice, check_range

SPLITS = ("train", "held_out", "all")


def check_split(split: str, held_out_fraction: float) -> None:
    """UserError unless `split` is a known name and `held_out_fraction` lies in [0, 1]."""
    check_choice("split", split, SPLITS)
    check_range("held_out_fraction", held_out_fraction, 0, 1)


def held_out(names: Iterable[str], fraction: float) -> np.ndarray:
    """Boolean per name: True for about `fraction` of them, the same ones whatever else is in the set."""
    return np.array([name_fraction(name) < fraction for name in names], dtype=bool)


def select(names: Sequence[str], split: str, fraction: float) -> np.ndarray:
    """The int64 positions of the `names` that belong to `split`, in order."""
    if split == "all":
        return np.arange(len(names))
    return np.flatnonzero(held_out(names, fraction) == (split == "held_out"))
