"""Images on a GPU: uploaded once, when they are first asked for, and taken from there ever after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from wplus.data.image_set import ImageSet

Place = Literal["host", "device"]
SHARE = 0.25
"""Of a GPU's free memory that images may fill; the rest is for training."""


def place_of(sets: Sequence[ImageSet], device: torch.device, asked: Literal["auto", "host", "device"]) -> Place:
    """Where images of a training lie: as `asked`; auto: on a GPU where they fit."""
    if device.type != "cuda":
        return "host"
    if asked != "auto":
        return asked
    free, _ = torch.cuda.mem_get_info(device)
    return "device" if sum(images.images.shape.numel() for images in sets) <= SHARE * free else "host"


class OnDevice:
    """The pixels of a set on a device, uint8; asked for as the set itself is.

    What is not there yet is decoded and uploaded when it is asked for, so that the first epoch costs what it would
    without and nothing waits before it.
    """

    def __init__(self, images: ImageSet, device: torch.device) -> None:
        self._set, self._device = images, device
        self._pixels: Tensor | None = None
        self._is_here = torch.zeros(len(images), dtype=torch.bool)

    def request(self, indices: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        """As `ImageSet.request`; the images come on the device, the labels as the set has them."""
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
    """A tensor of the CPU on a device; a GPU fetches it while the host goes on."""
    return pinned(tensor, device).to(device, non_blocking=True)


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU in memory from which a GPU fetches while the host goes on; for other devices as it is."""
    return tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
