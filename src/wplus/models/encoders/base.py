"""Base of every encoder: images in, ws of its generator out, relative to the generator's mean latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.errors import UserError, check_choice
from wplus.models.network import Network

LARGEST_INPUT = 1024  # px


class Encoder(Network):
    """Images -> ws of one generator; `forward` is `latent_avg` plus `offsets`.

    Subclasses implement `_offsets`. Constructor arguments shared by all encoders:
        num_ws, w_dim, img_channels  those of the generator
        input_size                   side of the network's input in pixels, a power of two; images are resized to it
        is_iterative                 takes an image and its current reconstruction, concatenated (ReStyle)

    Buffers
        latent_avg  (num_ws, w_dim), the latent that offsets are relative to; zeros until set
        stage       index of the last delta in use (e4e, section 3.2), 0 for w alone; stored in checkpoints, so that
                    untrained heads are never used
    """

    spaces: ClassVar[tuple[str, ...]] = ("w", "w+")  # spaces it can predict; w is the first row of its output
    has_stages: ClassVar[bool] = True  # False: all heads are always in use, and `stage` is refused
    smallest_input: ClassVar[int] = 32  # px

    latent_avg: Tensor
    stage: Tensor

    def __init__(self, *, num_ws: int, w_dim: int, img_channels: int, input_size: int, is_iterative: bool) -> None:
        super().__init__()
        sizes = [2**i for i in range(LARGEST_INPUT.bit_length()) if 2**i >= self.smallest_input]
        check_choice("input_size", input_size, sizes)
        self.num_ws, self.w_dim, self.img_channels = num_ws, w_dim, img_channels
        self.input_size, self.is_iterative = input_size, is_iterative
        self.in_channels = img_channels * (2 if is_iterative else 1)
        self.register_buffer("latent_avg", torch.zeros(num_ws, w_dim))
        self.register_buffer("stage", torch.tensor(num_ws - 1, dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, in_channels, R, R) in [-1, 1] of any size -> ws (N, num_ws, w_dim), at its current stage."""
        return self.latent_avg + self.offsets(images)

    if TYPE_CHECKING:
        __call__ = forward

    def offsets(self, images: Tensor, stage: int | None = None) -> Tensor:
        """ws (N, num_ws, w_dim) relative to `latent_avg`, with deltas 1 to `stage` (None: the buffer's).

        UserError for images that are not square or have other channels, and for a stage that does not exist.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels or images.shape[2] != images.shape[3]:
            raise UserError(f"images must be square, (N, {self.in_channels}, R, R), got {tuple(images.shape)}.")
        stage, last = int(self.stage) if stage is None else stage, self.num_ws - 1
        if not self.has_stages and stage != last:
            raise UserError(f"{type(self).__name__} has no stages: stage must be left out, got {stage}.")
        if not 0 <= stage <= last:
            raise UserError(f"stage must be from 0 (w alone) to {last} (all deltas), got {stage}.")
        return self._offsets(resized(images, self.input_size).contiguous(memory_format=torch.channels_last), stage)

    def _offsets(self, x: Tensor, stage: int) -> Tensor:
        """x (N, in_channels, input_size, input_size), channels last -> (N, num_ws, w_dim)."""
        raise NotImplementedError


def with_deltas(outputs: Sequence[Tensor], num_ws: int) -> Tensor:
    """w and the deltas of the following layers, (N, w_dim) each -> ws (N, num_ws, w_dim); w where there is no delta."""
    w, *deltas = outputs
    rows = [w, *(w + delta for delta in deltas)]
    return torch.stack(rows + [w] * (num_ws - len(rows)), dim=1)


def resized(images: Tensor, size: int) -> Tensor:
    """Square images (N, C, R, R) -> (N, C, size, size): averaged over areas when larger, bilinear when smaller."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="area" if images.shape[-1] > size else "bilinear")
