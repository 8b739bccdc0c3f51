"""Images cached on a GPU: each is uploaded once, when first requested, and read from there afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from wplus.data.image_set import ImageSet

Place = Literal["host", "device"]
SHARE = 0.25
"""Fraction of a GPU's free memory that images may fill; the rest is for training."""


def place_of(sets: Sequence[ImageSet], device: torch.device, asked: Literal["auto", "host", "device"]) -> Place:
    """Where to keep the training images: as `asked`; "auto" chooses the GPU if they fit."""
    if device.type != "cuda":
        return "host"
    if asked != "auto":
        return asked
    free, _ = torch.cuda.mem_get_info(device)
    return "device" if sum(images.images.shape.numel() for images in sets) <= SHARE * free else "host"


class OnDevice:
    """The uint8 pixels of a set on a device, with the set's own `request` interface.

    Images not yet there are decoded and uploaded on request, so that the first epoch costs no more than without this
    class and no upload precedes it.
    """

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self._set, self._device = images, device
        self._pixels: Tensor | None = None
        self._is_here = torch.zeros(len(images), dtype=torch.bool)

    def request(self, indices: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        """Like `ImageSet.request`, but with the images on the device; labels stay where the set has them."""
        missing = indices[~self._is_here[indices]].unique()
        pending = self._set.request(missing) if len(missing) else None
        labels = torch.empty(len(indices), 0) if self._set.labels is None else self._set.labels[indices]

        def finish() -> tuple[Tensor, Tensor]:
            if self._pixels is None:
                self._pixels = torch.empty(self._set.images.shape, dtype=torch.uint8, device=self._device)
            if pending is not None:
                self._pixels[uploaded(missing, self._device)] = uploaded(pending()[0], self._device)
                self._is_here[missing] = True
            return self._pixels[uploaded(indices, self._device)], labels

        return finish


def uploaded(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to a device; asynchronously to a GPU."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to pinned memory, for asynchronous copies to a GPU; unchanged for other devices."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
