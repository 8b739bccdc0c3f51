"""Build an ImageSet from a reader: split, labels, decoding with a full report of bad files, in memory or lazily."""

import hashlib
import inspect
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wplus.core.progress import track
from wplus.data.cache import cached_array
from wplus.data.decode import BadImage, Box, Decoded, Policies, decode
from wplus.data.image_set import ImageSet, LazyImages, image_digest, ordered_map
from wplus.data.reader import Reader, check_resolution, check_split, read_labels, select
from wplus.errors import UserError, check_choice, check_number

BAD_FILES = ("refuse", "skip")
_DIGEST_BYTES = 32
Source = TypeVar("Source", bound=Callable[..., ImageSet])
_MAX_BYTES = 2**31  # largest file that is read: a zip's directory may claim any size


def build_dataset(
    reader: Reader,
    *,
    resolution: int,
    split: str = "train",
    held_out_fraction: float = 0.1,
    num_images: int | None = None,
    labels: str = "none",
    fit: str = "crop",
    resize: str = "lanczos",
    channels: int = 3,
    alpha: str = "white",
    boxes: Mapping[str, Box] | None = None,
    bad_files: str = "refuse",
    memory_limit_gb: float = 4.0,
    num_threads: int | None = None,
    cache_dir: str | None = None,
) -> ImageSet:
    """The images of `reader` that belong to `split`, sorted by name.

    Every image is decoded once up front, so that a bad one is reported now and not at step 40,000. For the held-out
    split only the held-out images are checked, otherwise all images of the source.

    Args:
        reader: a folder or zip.
        resolution: height and width in pixels, a power of two from 8 to 1024.
        split: "train", "held_out" or "all". Images are assigned by a hash of their names.
        held_out_fraction: approximate share of the images that is held out.
        num_images: total number for both splits, spread evenly over the sorted names; None: all.
        labels: "none", "folder" (class of the first sub-folder) or "json" (`dataset.json`).
        fit, resize, channels, alpha: see `decode.Policies`. fit=refuse also refuses images of another size than most.
        boxes: image name -> the part of the image to use; images without a box are made square by `fit`.
        bad_files: "refuse" raises an error naming all unusable files; "skip" leaves them out with a warning.
        memory_limit_gb: sets that need more than this (in GiB, as uint8) are decoded on demand.
        num_threads: number of decoding threads; None uses all available cores.
        cache_dir: where the digests of a lazily decoded set are cached; see `cache.cache_folder`.

    Raises:
        UserError: an option that is not allowed, bad files under "refuse", labels that are missing, an empty split.
    """
    policies = Policies(resolution=check_resolution(resolution), fit=fit, resize=resize, channels=channels, alpha=alpha)
    check_split(split, held_out_fraction)
    check_choice("bad_files", bad_files, BAD_FILES)
    check_number("memory_limit_gb", memory_limit_gb, lowest=0, highest=1e6)
    all_labels, label_names = read_labels(reader, labels)
    if reader.unread():
        warnings.warn(f"In '{reader.source}' {reader.unread()}.", stacklevel=3)
    decoder = Decoder(reader, policies, boxes=dict(boxes or {}), num_threads=num_threads)
    used = _spread(len(reader.names), num_images)
    wanted = np.intersect1d(select(reader.names, split, held_out_fraction), used)
    checked = wanted if split == "held_out" else used
    images, bad = _read(decoder, checked, wanted, memory_limit_gb, cache_dir)
    _report_bad(reader, bad, len(checked), bad_files)
    is_good = np.array([reader.names[number] not in bad for number in wanted], dtype=bool)
    kept = wanted[is_good]
    if not len(kept):
        raise UserError(
            f"The {split} split of '{reader.source}' is empty: {len(reader.names)} image(s) and "
            f"held_out_fraction={held_out_fraction} leave nothing for it; change held_out_fraction or add images."
        )
    if not is_good.all():
        rows = torch.from_numpy(np.flatnonzero(is_good))
        images = images.subset(rows) if isinstance(images, LazyImages) else images[rows]
    return ImageSet(
        images,
        None if all_labels is None else all_labels[torch.from_numpy(kept)],
        [reader.names[number] for number in kept],
        label_names=label_names,
        policies={
            "source": reader.source,
            "split": split,
            "held_out_fraction": held_out_fraction,
            "labels": labels,
            **{key: value for key, value in asdict(policies).items() if key != "resolution"},
            "num_boxes": len(boxes or {}),
            "num_skipped": len(wanted) - len(kept),
            **({"subset_of": len(reader.names)} if len(used) < len(reader.names) else {}),
        },
    )


def _report_bad(reader: Reader, bad: Mapping[str, str], num_checked: int, bad_files: str) -> None:
    """Raise an error listing the unusable images with their reasons, or warn that they are left out."""
    if not bad:
        return
    listing = "; ".join(f"{name}: {reason}" for name, reason in sorted(bad.items()))
    found = f"{len(bad)} of {num_checked} image(s) in '{reader.source}'"
    if bad_files == "refuse":
        cure = "repair or delete them, or leave them out with bad_files=skip"
        raise UserError(f"{found} cannot be used; {cure}: {listing}.")
    warnings.warn(f"{found} are left out: {listing}.", stacklevel=4)


def _spread(num: int, num_images: int | None) -> np.ndarray:
    """`num_images` of the positions 0 .. num - 1, evenly spaced and sorted; all if there are not more than that."""
    if num_images is None:
        return np.arange(num)
    check_number("num_images", num_images, lowest=1, whole=True)
    count = min(num_images, num)
    return np.arange(count) * num // count


def with_options_of(inner: Callable[..., Any], *, without: Collection[str] = ()) -> Callable[[Source], Source]:
    """A decorator that adds the options of `inner`, except `without`, to the signature of a source that passes them on,
    so that a wrong key is detected early.
    """
    handed = {name: each for name, each in inspect.signature(inner).parameters.items()
              if each.kind is each.KEYWORD_ONLY and name not in without}  # fmt: skip

    def decorated(source: Source) -> Source:
        signature = inspect.signature(source)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        source.__signature__ = signature.replace(parameters=[*own, *handed.values()])  # type: ignore[attr-defined]
        return source

    return decorated


# A single pass over all files


@dataclass(frozen=True)
class Decoder:
    """Decodes images of a reader, by number, under fixed policies."""

    reader: Reader
    policies: Policies
    boxes: Mapping[str, Box] = field(default_factory=dict)
    num_threads: int | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the decoded images."""
        assert self.policies.resolution is not None
        return len(self.policies.mode), self.policies.resolution, self.policies.resolution

    def __post_init__(self) -> None:
        if self.num_threads is not None:
            check_number("num_threads", self.num_threads, lowest=1, highest=1024, whole=True)

    def pixels(self, number: int) -> np.ndarray:
        """Decode an image to uint8 (C, H, W); BadImage if it cannot be used."""
        decoded = self.attempt(number)
        if isinstance(decoded, BadImage):
            raise decoded
        return decoded.pixels

    def attempt(self, number: int) -> Decoded | BadImage:
        """Decode an image; returns it with its report, or a BadImage with the reason why it cannot be used."""
        name = self.reader.names[number]
        try:
            if (size := self.reader.signature(name)[0]) > _MAX_BYTES:
                return BadImage(name, f"it has {size / 2**30:.1f} GiB, at most {_MAX_BYTES / 2**30:g} are read")
            return decode(self.reader.read(name), name, self.policies, box=self.boxes.get(name))
        except BadImage as error:
            return error
        except OSError as error:
            return BadImage(name, f"it cannot be read ({error.strerror or error})")


def decode_all(decoder: Decoder, numbers: np.ndarray, keep: Callable[[int, Decoded], None]) -> dict[str, str]:
    """Decode the images `numbers` on threads and call `keep(number, decoded)` in order; returns bad names -> reasons.

    With fit=refuse all images must have the same size: those that differ from the most frequent size are bad.
    """
    bad: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    results = ordered_map(decoder.attempt, numbers.tolist(), num_threads=decoder.num_threads)
    for number, result in zip(numbers, track(results, "Reading images", total=len(numbers)), strict=True):
        name = decoder.reader.names[number]
        if isinstance(result, BadImage):
            bad[name] = result.reason
        else:
            sizes[name] = result.size
            keep(int(number), result)
    return {**bad, **other_sizes(sizes)} if decoder.policies.fit == "refuse" else bad


def other_sizes(sizes: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Names of images whose size is not the most frequent one -> the reason in words."""
    common = Counter(sizes.values()).most_common(1)[0][0] if sizes else (0, 0)
    most = f"where most images are {common[0]}x{common[1]} (fit=refuse)"
    return {name: f"it is {size[0]}x{size[1]} {most}" for name, size in sizes.items() if size != common}


def _read(
    decoder: Decoder, checked: np.ndarray, wanted: np.ndarray, memory_limit_gb: float, cache_dir: str | None
) -> tuple[Tensor | LazyImages, dict[str, str]]:
    """Read the images `wanted`, in memory if they fit; also returns the bad ones among `checked` with their reasons."""
    if len(wanted) * math.prod(decoder.image_shape) <= memory_limit_gb * 2**30:
        return load_images(decoder, checked, wanted)
    return digest_images(decoder, checked, wanted, cache_dir)


def load_images(decoder: Decoder, checked: np.ndarray, wanted: np.ndarray) -> tuple[Tensor, dict[str, str]]:
    """Decode `checked` and keep the pixels of `wanted`, uint8 (len(wanted), C, H, W); bad rows are undefined."""
    images = np.empty((len(wanted), *decoder.image_shape), dtype=np.uint8)
    row_of = {int(number): row for row, number in enumerate(wanted)}

    def keep(number: int, decoded: Decoded) -> None:
        if number in row_of:
            images[row_of[number]] = decoded.pixels

    return torch.from_numpy(images), decode_all(decoder, checked, keep)


def digest_images(
    decoder: Decoder, checked: np.ndarray, wanted: np.ndarray, cache_dir: str | None
) -> tuple[LazyImages, dict[str, str]]:
    """Decode `checked` once for errors and digests, which are cached; `wanted` is then decoded on demand."""
    names = decoder.reader.names
    bad: dict[str, str] = {}

    def build() -> np.ndarray:
        digests = np.zeros((len(names), _DIGEST_BYTES), dtype=np.uint8)  # zeros: not checked, or bad

        def keep(number: int, decoded: Decoded) -> None:
            digests[number] = np.frombuffer(image_digest(decoded.pixels), dtype=np.uint8)

        bad.update(decode_all(decoder, checked, keep))
        digests[[number for number in checked if names[number] in bad]] = 0
        return digests

    listing = hashlib.sha256(decoder.reader.source.encode("utf-8", "surrogateescape"))
    for name in names:
        listing.update(f"{name}\0{decoder.reader.signature(name)}\n".encode("utf-8", "surrogateescape"))
    key = {
        "listing": listing.hexdigest(),
        "checked": hashlib.sha256(checked.tobytes()).hexdigest(),
        "policies": asdict(decoder.policies),
        "boxes": dict(decoder.boxes),
    }
    digests = cached_array("digests", key, build, shape=(len(names), _DIGEST_BYTES), cache_dir=cache_dir)
    for number in checked[~digests[checked].any(axis=1)]:
        if names[number] not in bad:  # found bad by an earlier run: decode it again for the reason
            result = decoder.attempt(number)
            bad[names[number]] = result.reason if isinstance(result, BadImage) else "its size differs (fit=refuse)"
    given: dict[str, Any] = {"image_shape": decoder.image_shape, "num_threads": decoder.num_threads}
    return LazyImages(decoder.pixels, numbers=wanted, digests=digests[wanted], **given), bad
