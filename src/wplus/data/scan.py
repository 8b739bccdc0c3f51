"""One pass over all files of a set: decodes each, keeps the pixels or their digest, and collects what is bad."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wplus.core.progress import track
from wplus.data.boxes import Box
from wplus.data.cache import cached_array
from wplus.data.decode import BadImage, Decoded, decode
from wplus.data.image_set import LazyImages, image_digest
from wplus.data.reader import Reader
from wplus.data.threads import ordered_map

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Decoder:
    """Turns the number of an image in a reader into pixels, under fixed policies; see `decode.read_image`."""

    reader: Reader
    resolution: int
    fit: str
    resize: str
    channels: int
    alpha: str = "white"
    boxes: Mapping[str, Box] = field(default_factory=dict)
    num_threads: int | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what comes out."""
        return self.channels + (self.alpha == "keep"), self.resolution, self.resolution

    def decoded(self, number: int) -> Decoded:
        """The image with its report; BadImage when it cannot be used."""
        name = self.reader.names[number]
        try:
            content = self.reader.read(name)
        except OSError as error:
            raise BadImage(name, f"it cannot be read ({error.strerror or error})") from error
        policies = {"fit": self.fit, "resize": self.resize, "channels": self.channels, "alpha": self.alpha}
        return decode(content, name, resolution=self.resolution, box=self.boxes.get(name), **policies)

    def pixels(self, number: int) -> np.ndarray:
        """uint8 (C, H, W); BadImage when it cannot be used."""
        return self.decoded(number).pixels

    def attempt(self, number: int) -> Decoded | BadImage:
        """As `decoded`, but hands the exception back."""
        try:
            return self.decoded(number)
        except BadImage as error:
            return error


def scan(decoder: Decoder, numbers: np.ndarray, keep: Callable[[int, Decoded], None]) -> dict[str, str]:
    """Decode the images `numbers` on threads and call `keep(number, decoded)` in order; bad names with their reasons.

    Under fit=refuse all images must be of one size: those that differ from the most frequent one are bad.
    """
    bad: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    results = ordered_map(decoder.attempt, numbers.tolist(), num_threads=decoder.num_threads)
    for number, result in zip(numbers.tolist(), track(results, "Reading images", total=len(numbers)), strict=True):
        name = decoder.reader.names[number]
        if isinstance(result, BadImage):
            bad[name] = result.reason
        else:
            sizes[name] = result.size
            keep(number, result)
    return {**bad, **other_sizes(sizes)} if decoder.fit == "refuse" else bad


def other_sizes(sizes: dict[str, tuple[int, int]]) -> dict[str, str]:
    """The names whose size is not the most frequent one, with the reason in words."""
    if len(set(sizes.values())) < 2:
        return {}
    common = Counter(sizes.values()).most_common(1)[0][0]
    return {
        name: f"it is {size[0]}x{size[1]} where most images are {common[0]}x{common[1]} (fit=refuse)"
        for name, size in sizes.items()
        if size != common
    }


def load_images(decoder: Decoder, checked: np.ndarray, wanted: np.ndarray) -> tuple[Tensor, dict[str, str]]:
    """Decode `checked`, keep the pixels of `wanted`: uint8 (len(wanted), C, H, W), rows of bad images undefined."""
    images = np.empty((len(wanted), *decoder.image_shape), dtype=np.uint8)
    row_of = {int(number): row for row, number in enumerate(wanted)}

    def keep(number: int, decoded: Decoded) -> None:
        if number in row_of:
            images[row_of[number]] = decoded.pixels

    bad = scan(decoder, checked, keep)
    return torch.from_numpy(images), bad


def digest_images(
    decoder: Decoder, checked: np.ndarray, wanted: np.ndarray, cache_dir: str | None
) -> tuple[LazyImages, dict[str, str]]:
    """Decode `checked` once for errors and digests (kept in the cache, so once only); `wanted` is decoded on demand."""
    names = decoder.reader.names
    bad: dict[str, str] = {}

    def build() -> np.ndarray:
        digests = np.zeros((len(names), _DIGEST_BYTES), dtype=np.uint8)  # zeros: not checked, or bad

        def keep(number: int, decoded: Decoded) -> None:
            digests[number] = np.frombuffer(image_digest(decoded.pixels), dtype=np.uint8)

        bad.update(scan(decoder, checked, keep))
        digests[[number for number in checked if names[number] in bad]] = 0
        return digests

    key = {
        "listing": _listing_digest(decoder.reader),
        "checked": hashlib.sha256(checked.tobytes()).hexdigest(),
        "policies": [decoder.resolution, decoder.fit, decoder.resize, decoder.channels],
        **({} if decoder.alpha == "white" and not decoder.boxes else {"alpha": decoder.alpha, "boxes": decoder.boxes}),
    }
    digests = cached_array("digests", key, build, shape=(len(names), _DIGEST_BYTES), cache_dir=cache_dir)
    for number in checked[~digests[checked].any(axis=1)]:
        if names[number] not in bad:  # known from an earlier run, which also said why
            result = decoder.attempt(number)
            bad[names[number]] = result.reason if isinstance(result, BadImage) else "its size differs (fit=refuse)"
    images = LazyImages(
        decoder.pixels,
        numbers=wanted,
        image_shape=decoder.image_shape,
        digests=digests[wanted],
        num_threads=decoder.num_threads,
    )
    return images, bad


def _listing_digest(reader: Reader) -> str:
    listing = hashlib.sha256(reader.source.encode("utf-8", "surrogateescape"))
    for name in reader.names:
        listing.update(f"{name}\0{reader.signature(name)}\n".encode("utf-8", "surrogateescape"))
    return listing.hexdigest()
