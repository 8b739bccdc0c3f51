"""What every way to invert takes and gives.

An inverter is a function

    invert(generator, targets, *, space, perceptual, seed, names, labels, callback, encoder, masks, losses,
           **its options) -> Inversion

    generator    with `mapping`, `synthesis`, `num_ws`, ... as `wplus.models.stylegan2.Generator`; it is not changed
    targets      images (N, C, R, R) in [-1, 1] at the generator's resolution
    space        z, z+, w or w+
    perceptual   a `wplus.losses.perceptual.PerceptualDistance`, or None where the options do not ask for one
    seed, names  all randomness of an image comes from the seed and its name (its index by default), so that the
                 batch an image travels in does not change its result
    labels       (N, c_dim) one-hot for a conditional generator, else None, the default
    callback     called with a `Progress` after every step; None by default
    encoder      a `wplus.models.encoders.base.Encoder` for this generator; None by default. An inverter that cannot
                 do without one has no default for it
    masks        (N, 1, R, R) in [0, 1], how much each pixel of the targets counts; None, the default: all alike
    losses       further image terms by name, each a `wplus.losses.image_pair.ImageDistance`; None by default
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor


class Delta(Protocol):
    """What belongs to one image besides its code, such as a change of the generator's weights."""

    def save(self, path: Path) -> object:
        """Write it to a file, whole or not at all."""


@dataclass(frozen=True)
class Inversion:
    """Codes of a batch of images, and how they were found.

    Attributes
        codes    (N, ...) of the space that was asked for
        images   (N, C, R, R), the generator's pictures of the codes (and of the deltas, where there are any)
        noise    one (N, 1, r, r) per noise layer where noise was optimised, else None: the stored noise
        history  term -> (steps, N) on the CPU: "loss" and each of its terms, unweighted, at every evaluation
        seconds  (N,) wall time of the batch divided by N
        deltas   one per image where the inverter makes more than a code, else None; a folder of inversions keeps them
                 in `deltas/`, and an image without its file is not done
        scores   name -> (N,), what else the inverter measured: columns of the table
    """

    codes: Tensor
    images: Tensor
    noise: list[Tensor] | None
    history: dict[str, Tensor]
    seconds: Tensor
    deltas: Sequence[Delta] | None = None
    scores: Mapping[str, Tensor] = field(default_factory=dict)


class Progress(NamedTuple):
    """What a callback hears; tensors live on the device, reading their values waits for it."""

    step: int  # from 1; steps that turn out not to be needed are passed over
    num_steps: int
    loss: Tensor  # (N,)
    images: Tensor  # (N, C, R, R)


Callback = Callable[[Progress], object]
