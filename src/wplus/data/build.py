"""From a reader of files to an ImageSet: split, labels, decoding with a full report of what is bad, memory or lazy."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.data.boxes import Box
from wplus.data.checks import check_choice, check_range, check_resolution
from wplus.data.decode import check_policies
from wplus.data.image_set import ImageSet, LazyImages
from wplus.data.labels import LABEL_MODES, LABELS_FROM_FILE, read_labels
from wplus.data.reader import Reader
from wplus.data.scan import Decoder, digest_images, load_images
from wplus.data.split import check_split, select
from wplus.errors import UserError

BAD_FILES = ("refuse", "skip")


def assemble(
    reader: Reader,
    *,
    resolution: int,
    split: str = "train",
    held_out_fraction: float = 0.1,
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

    Every image is decoded once before anything else starts, so that a bad one is known now and not at step 40,000. For
    the held-out split these are the held-out images, else all images of the source.

    Args:
        reader: a folder or zip.
        resolution: height and width in pixels, a power of two from 8 to 1024.
        split: "train", "held_out" or "all". A hash of an image's name decides where it belongs.
        held_out_fraction: about this share of the images is held out.
        labels: "none", "folder" (class of the first sub-folder) or "json" (`dataset.json`).
        fit, resize, channels, alpha: see `decode.read_image`. fit=refuse also refuses images of another size than most.
        boxes: by name, the part of an image to take; those without one are made square by `fit`.
        bad_files: "refuse" raises with the names of all that cannot be used; "skip" leaves them out with a warning.
        memory_limit_gb: a set that needs more than this (in GiB, as uint8) is decoded when it is asked for.
        num_threads: threads that decode; None takes every usable core.
        cache_dir: where the digests of a lazily decoded set are kept; see `cache.cache_folder`.

    Raises:
        UserError: an option that is not allowed, bad files under "refuse", labels that are missing, an empty split.
    """
    policies = {"fit": fit, "resize": resize, "channels": channels, "alpha": alpha}
    check_policies(**policies)
    _check_options(resolution, split, held_out_fraction, labels, bad_files, memory_limit_gb)
    label_file = reader.label_file() if labels == LABELS_FROM_FILE else None
    all_labels, label_names = read_labels(reader.names, labels, label_file, reader.source)
    decoder = Decoder(reader, resolution=resolution, **policies, boxes=dict(boxes or {}), num_threads=num_threads)
    wanted = select(reader.names, split, held_out_fraction)
    checked = wanted if split == "held_out" else np.arange(len(reader.names))
    if len(wanted) * math.prod(decoder.image_shape) <= memory_limit_gb * 2**30:
        images, bad = load_images(decoder, checked, wanted)
    else:
        images, bad = digest_images(decoder, checked, wanted, cache_dir)
    _report_bad(bad, len(checked), reader.source, bad_files)
    kept = _without(bad, reader.names, wanted)
    _check_not_empty(kept, split, len(reader.names), reader.source, held_out_fraction)
    described = {
        "source": reader.source,
        "split": split,
        "held_out_fraction": held_out_fraction,
        "labels": labels,
        **policies,
        "num_boxes": len(boxes or {}),
        "num_skipped": len(wanted) - len(kept),
    }
    return ImageSet(
        images if len(kept) == len(wanted) else _rows(images, np.isin(wanted, kept)),
        None if all_labels is None else all_labels[torch.from_numpy(kept)],
        [reader.names[number] for number in kept],
        label_names=label_names,
        policies=described,
    )


def with_options_of_assemble(source: Callable[..., ImageSet]) -> Callable[..., ImageSet]:
    """Show the options of `assemble` in the signature of `source(path, **options)`: a wrong key is seen early."""
    path = inspect.signature(source).parameters["path"]
    options = [each for each in inspect.signature(assemble).parameters.values() if each.kind is each.KEYWORD_ONLY]
    source.__signature__ = inspect.Signature([path, *options], return_annotation=ImageSet)  # type: ignore[attr-defined]
    return source


def _check_options(
    resolution: Any, split: Any, held_out_fraction: Any, labels: Any, bad_files: Any, memory_limit_gb: Any
) -> None:
    check_resolution(resolution)
    check_split(split, held_out_fraction)
    check_choice("labels", labels, LABEL_MODES)
    check_choice("bad_files", bad_files, BAD_FILES)
    check_range("memory_limit_gb", memory_limit_gb, 0, 1e6)


def _report_bad(bad: dict[str, str], num_checked: int, source: str, bad_files: str) -> None:
    if not bad:
        return
    listing = "; ".join(f"{name}: {reason}" for name, reason in sorted(bad.items()))
    if bad_files == "refuse":
        raise UserError(
            f"{len(bad)} of {num_checked} image(s) in '{source}' cannot be used; repair or delete them, or leave them "
            f"out with bad_files=skip: {listing}."
        )
    warnings.warn(f"{len(bad)} of {num_checked} image(s) in '{source}' are left out: {listing}.", stacklevel=3)


def _without(bad: dict[str, str], names: list[str], numbers: np.ndarray) -> np.ndarray:
    return numbers[np.array([names[number] not in bad for number in numbers], dtype=bool)]


def _rows(images: Tensor | LazyImages, mask: np.ndarray) -> Tensor | LazyImages:
    indices = torch.from_numpy(np.flatnonzero(mask))
    return images.subset(indices) if isinstance(images, LazyImages) else images[indices]


def _check_not_empty(kept: np.ndarray, split: str, num_images: int, source: str, held_out_fraction: float) -> None:
    if len(kept) == 0:
        raise UserError(
            f"The {split} split of '{source}' is empty: {num_images} image(s) and "
            f"held_out_fraction={held_out_fraction} leave nothing for it; change held_out_fraction or add images."
        )
