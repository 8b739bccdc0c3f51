"""The package's representation of an image set: uint8 pixels, labels, names, and a fingerprint of all three."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wplus.core.runtime import usable_cores
from wplus.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(work: Callable[[T], R], items: Iterable[T], *, num_threads: int | None = None) -> Iterator[R]:
    """`map(work, items)` on threads; only a few results per thread are buffered for the consumer.

    Pillow releases the GIL while it decodes and resizes.
    """
    num_threads = num_threads or usable_cores()
    with ThreadPoolExecutor(num_threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class LazyImages:
    """Images that are decoded on demand, on threads; indexed like a uint8 tensor (N, C, H, W).

    Args:
        decode: number of the image -> uint8 array (C, H, W); called from several threads.
        numbers: which images of `decode` these are, in order.
        image_shape: (C, H, W).
        digests: (N, 32) uint8, the SHA-256 of each image's content, so that the fingerprint needs no decoding.
        num_threads: how many images are decoded concurrently; None uses all available cores.
    """

    dtype = torch.uint8

    def __init__(
        self,
        decode: Callable[[int], np.ndarray],
        *,
        numbers: np.ndarray,
        image_shape: Sequence[int],
        digests: np.ndarray,
        num_threads: int | None = None,
    ) -> None:
        self._decode, self._numbers, self.digests = decode, numbers, digests
        self.shape = torch.Size((len(numbers), *image_shape))
        self._num_threads = num_threads or usable_cores()
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Tensor | slice | int) -> Tensor:
        """Decode now: an integer index gives (C, H, W), a slice or a tensor of integers (B, C, H, W)."""
        wanted = torch.arange(len(self))[indices]
        return self.request(wanted.reshape(-1))().reshape(*wanted.shape, *self.shape[1:])

    def request(self, indices: Tensor) -> Callable[[], Tensor]:
        """Start decoding the images at `indices` (B,) on threads; the returned function waits for (B, C, H, W)."""
        self._pool = self._pool or ThreadPoolExecutor(self._num_threads, thread_name_prefix="decode")
        futures = [self._pool.submit(self._decode, int(self._numbers[index])) for index in indices.tolist()]

        def wait() -> Tensor:
            batch = torch.empty((len(futures), *self.shape[1:]), dtype=torch.uint8)
            for row, future in zip(batch, futures, strict=True):
                row.copy_(torch.from_numpy(future.result()))
            return batch

        return wait

    def subset(self, indices: Tensor) -> LazyImages:
        """The images at `indices`, still decoded lazily."""
        rows = indices.numpy()
        return self._changed(numbers=self._numbers[rows], digests=self.digests[rows])

    def mapped(self, change: Callable[[np.ndarray], np.ndarray], num_channels: int) -> LazyImages:
        """Apply `change` lazily to each image (C, H, W); `num_channels` is its number of output channels."""
        decode = self._decode
        return self._changed(decode=lambda number: change(decode(number)), image_shape=(num_channels, *self.shape[2:]))

    def _changed(self, **changes: Any) -> LazyImages:
        same = {"decode": self._decode, "numbers": self._numbers, "digests": self.digests}
        return LazyImages(**{**same, "image_shape": self.shape[1:], "num_threads": self._num_threads, **changes})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}  # threads cannot be pickled for other processes


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels, names and known factors. Nothing here is random; see `loader.Batches` for that.

    Attributes:
        images: uint8 (N, C, H, W), in memory or decoded on demand; H = W = a power of two.
        labels: float32 (N, c_dim), one-hot for classes; None without labels.
        names: one per image, unique: relative paths with `/`, or generated names for rendered images.
        fingerprint: 16 hex characters of a SHA-256 over pixels, labels and names; computed if not given.
        attributes: true factors of variation if they are known: name -> int64 (N,).
        label_names: one per column of `labels`; None if the columns have no names.
        policies: how the images were made (source, split, resize filter, ...), for logs.
    """

    images: Tensor | LazyImages
    labels: Tensor | None
    names: list[str]
    fingerprint: str = ""
    attributes: dict[str, Tensor] | None = None
    label_names: list[str] | None = None
    policies: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8, "images must be uint8"
        assert len(self.images.shape) == 4, "images must be (N, C, H, W)"
        assert len(self.images) == len(self.names) == (len(self) if self.labels is None else len(self.labels))
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", _fingerprint(self))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def resolution(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[3]

    @property
    def img_channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.images.shape[1]

    @property
    def c_dim(self) -> int:
        """Dimension of a label, 0 without labels."""
        return 0 if self.labels is None else self.labels.shape[1]

    @property
    def digests(self) -> np.ndarray:
        """(N, 32) uint8: the SHA-256 of each image's content, independent of its position in a set; recomputed."""
        if isinstance(self.images, LazyImages):
            return self.images.digests
        content = b"".join(map(image_digest, self.images.numpy()))
        return np.frombuffer(content, dtype=np.uint8).reshape(len(self), -1)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 (B, C, H, W) and labels float32 (B, c_dim) at `indices` int64 (B,)."""
        return self.request(indices)()

    def request(self, indices: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        """Like `batch`, but decodes in the background until the returned function is called."""
        images = self.images
        pixels = images.request(indices) if isinstance(images, LazyImages) else lambda: images[indices]
        labels = torch.empty(len(indices), 0) if self.labels is None else self.labels[indices]
        return lambda: (pixels(), labels)

    def subset(self, indices: Tensor) -> ImageSet:
        """The images at `indices` int64 (M,), in that order, as a new set with its own fingerprint."""
        return replace(
            self,
            images=self.images.subset(indices) if isinstance(self.images, LazyImages) else self.images[indices],
            labels=None if self.labels is None else self.labels[indices],
            names=[self.names[index] for index in indices.tolist()],
            fingerprint="",
            attributes=self.attributes and {name: values[indices] for name, values in self.attributes.items()},
            policies={**self.policies, **({"subset_of": len(self)} if len(indices) < len(self) else {})},
        )

    def without(self, left_out: Mapping[str, Sequence[int]] | None, *, split: str) -> ImageSet:
        """Exclude images that have any of the values {attribute: [value, ...]}, in the split "train" only.

        Raises UserError for an unknown attribute, a value that no training image has, or if no image is left.
        """
        if not left_out:
            return self
        kept, known = torch.ones(len(self), dtype=torch.bool), self.attributes or {}
        for name, values in left_out.items():
            if name not in known:
                raise UserError(
                    f"without must name attributes of the images, {', '.join(known) or 'none'}, got '{name}'."
                )
            _check_values(name, values, known[name] if split == "train" else None)
            if split == "train":
                kept &= ~torch.isin(known[name], torch.tensor(list(values)))
        if not kept.any():
            raise UserError(f"Without {dict(left_out)} no training image is left.")
        found = self if kept.all() else self.subset(kept.nonzero()[:, 0])
        listed = {name: list(values) for name, values in left_out.items()}
        return replace(found, policies={**found.policies, "without": listed})

    def describe(self) -> dict[str, Any]:
        """A description of the set for logs: plain values only."""
        return {
            "num_images": len(self),
            "resolution": self.resolution,
            "img_channels": self.img_channels,
            "c_dim": self.c_dim,
            "class_counts": self._class_counts(),
            "decoded": "lazily" if isinstance(self.images, LazyImages) else "in memory",
            "fingerprint": self.fingerprint,
            **self.policies,
        }

    def _class_counts(self) -> dict[str, int] | None:
        """Number of images per label; None if labels do not mark classes (one or several per image)."""
        if self.labels is None or not bool(((self.labels == 0) | (self.labels == 1)).all()):
            return None
        names = self.label_names or [str(index) for index in range(self.c_dim)]
        return dict(zip(names, self.labels.sum(dim=0, dtype=torch.int64).tolist(), strict=True))


def _check_values(name: str, values: object, known: Tensor | None) -> None:
    """Raise UserError for values of an attribute that are not a list of integers, or do not occur in the images."""
    if not isinstance(values, Sequence) or not all(isinstance(value, int) for value in values):
        raise UserError(f"without must list whole numbers for each attribute, as in {{{name}: [1]}}, got {values!r}.")
    there = sorted(set(values) if known is None else set(known.tolist()))
    if missing := sorted(set(values) - set(there)):
        raise UserError(
            f"No training image has {name}={missing[0]}, which without leaves out; they have "
            f"{', '.join(map(str, there))}."
        )


def image_digest(pixels: np.ndarray) -> bytes:
    """SHA-256 of one image's pixels, uint8 (C, H, W)."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


def _fingerprint(image_set: ImageSet) -> str:
    # Hashed image by image, so that a lazily decoded set has the same fingerprint as one in memory.
    total = hashlib.sha256(repr(tuple(image_set.images.shape)).encode())
    for digest in image_set.digests:
        total.update(bytes(digest))
    if image_set.labels is not None:
        total.update(image_set.labels.contiguous().numpy().data)
    total.update("\0".join(image_set.names).encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:16]
