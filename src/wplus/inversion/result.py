"""What every way to invert takes and gives.

An inverter is a function

    invert(generator, targets, *, space, perceptual, seed, names, labels, callback, **its options) -> Inversion

    generator    with `mapping`, `synthesis`, `num_ws`, ... as `wplus.models.stylegan2.Generator`; it is not changed
    targets      images (N, C, R, R) in [-1, 1] at the generator's resolution
    space        z, w or w+
    perceptual   a `wplus.losses.perceptual.PerceptualDistance`, or None where the options do not ask for one
    seed, names  all randomness of an image comes from the seed and its name (its index by default), so that the
                 batch an image travels in does not change its result
    labels       (N, c_dim) one-hot for a conditional generator, else None, the default
    callback     called with a `Progress` after every step; None by default
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Inversion:
    """Codes of a batch of images, and how they were found.

    Attributes
        codes    (N, ...) of the space that was asked for
        images   (N, C, R, R), the generator's pictures of the codes
        noise    one (N, 1, r, r) per noise layer where noise was optimised, else None: the stored noise
        history  term -> (steps, N) on the CPU: "loss" and each of its terms, unweighted, at every evaluation
        seconds  (N,) wall time of the batch divided by N
    """

    codes: Tensor
    images: Tensor
    noise: list[Tensor] | None
    history: dict[str, Tensor]
    seconds: Tensor


class Progress(NamedTuple):
    """What a callback hears; tensors live on the device, reading their values waits for it."""

    step: int  # from 1
    num_steps: int
    loss: Tensor  # (N,)
    images: Tensor  # (N, C, R, R)


Callback = Callable[[Progress], object]
