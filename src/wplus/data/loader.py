"""Endless batches that can start anywhere: the batch at `nimg` depends only on (seed, rank, world size, nimg)."""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from wplus.core.random import hashes, permutation
from wplus.data.image_set import ImageSet
from wplus.data.on_device import OnDevice, Place, pinned, uploaded
from wplus.errors import UserError, check_choice

MIRRORS = ("none", "x")
_ORDER, _FLIP = 1, 2  # random streams under one seed


class EpochOrder:
    """Maps positions to image numbers below `num`: epochs are permutations, `draw(epoch)`, joined without a gap."""

    def __init__(self, num: int, draw: Callable[[int], np.ndarray]) -> None:
        self._num, self._draw = num, draw
        self._orders: dict[int, np.ndarray] = {}  # epoch -> permutation, the last few

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The image at each of `positions` (int64, any order)."""
        epochs, offsets = np.divmod(positions, self._num)
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            if epoch not in self._orders:
                self._orders = {old: order for old, order in self._orders.items() if abs(old - epoch) <= 1}
                self._orders[epoch] = self._draw(epoch)
            here = epochs == epoch
            indices[here] = self._orders[epoch][offsets[here]]
        return indices


class Batches:
    """Yields (images uint8 (B, C, H, W), labels float32 (B, c_dim)) endlessly; each `iter()` starts at `start_nimg()`.

    The position p of an image is the number of images that all ranks together have seen before it. Epoch p // n is a
    permutation of the n images drawn from (seed, epoch), so that every image is seen once per epoch and epochs join
    without a gap. The batch at nimg takes the positions nimg + rank, nimg + rank + world_size, ... below
    nimg + batch_size: all ranks together see what one process would see.

    Args:
        image_set: the images; lazily decoded ones are prefetched on threads.
        batch_size: images per step over *all* ranks; each rank yields batch_size / world_size of them.
        seed: seed of order and flips.
        rank, world_size: this process's rank and the number of processes.
        start_nimg: called when iteration begins; returns the position to start at.
        mirror: "x" flips about half of the positions left to right, decided by a hash of (seed, position).
        prefetch: how many batches are decoded ahead.
        device: target device of the batches.
        place: "device" keeps the uint8 images on the device once they have been seen; "host" copies every batch from
            pinned memory asynchronously.

    Raises:
        UserError: an unknown `mirror`, or a batch size that is not divisible by the number of ranks.
    """

    def __init__(
        self,
        image_set: ImageSet,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_nimg: Callable[[], int] = lambda: 0,
        mirror: str = "none",
        prefetch: int = 3,
        device: torch.device | str = "cpu",
        place: Place = "host",
    ) -> None:
        check_choice("mirror", mirror, MIRRORS)
        if batch_size < 1 or batch_size % world_size:
            raise UserError(f"batch_size must be a multiple of the {world_size} process(es), got {batch_size}.")
        self.image_set, self.batch_size, self.seed, self.mirror = image_set, batch_size, seed, mirror
        self.rank, self.world_size, self.start_nimg, self.prefetch = rank, world_size, start_nimg, prefetch
        self.device = torch.device(device)
        self._source = OnDevice(image_set, self.device) if place == "device" else image_set
        self.indices = EpochOrder(len(image_set), lambda epoch: permutation(len(image_set), seed, _ORDER, epoch))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        nimg = self.start_nimg()
        ahead: deque[Callable[[], tuple[Tensor, Tensor]]] = deque()
        while True:
            while len(ahead) < max(1, self.prefetch):
                ahead.append(self._request(nimg))
                nimg += self.batch_size
            yield ahead.popleft()()

    def at(self, nimg: int) -> tuple[Tensor, Tensor]:
        """The batch that starts at image number `nimg` of the run."""
        return self._request(nimg)()

    def flips(self, positions: np.ndarray) -> np.ndarray:
        """Boolean per position: whether the image there is mirrored."""
        if self.mirror == "none":
            return np.zeros(len(positions), dtype=bool)
        return (hashes(positions, self.seed, _FLIP) & np.uint64(1)).astype(bool)

    def _request(self, nimg: int) -> Callable[[], tuple[Tensor, Tensor]]:
        positions = np.arange(nimg + self.rank, nimg + self.batch_size, self.world_size)
        pending = self._source.request(torch.from_numpy(self.indices(positions)))
        flips = torch.from_numpy(self.flips(positions))

        def finish() -> tuple[Tensor, Tensor]:
            images, labels = pending()
            if flips.any():
                mask = uploaded(flips, images.device)[:, None, None, None]
                images = torch.where(mask, images.flip(3), images)
            return pinned(images, self.device), pinned(labels, self.device)

        return finish
