"""Readers of folders and zips: sorted names, the bytes behind them, their labels and their split."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.core.random import name_fraction
from wplus.errors import UserError, check_choice, check_number

LABEL_FILE = "dataset.json"
RECORD_FILE = "wplus.json"
"""What `prepare` writes about how a zip was made."""
LABELS_FROM_FILE = "json"
LABEL_MODES = ("none", "folder", LABELS_FROM_FILE)
SPLITS = ("train", "held_out", "all")
MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024


class Reader(Protocol):
    """A container of image files; names are relative, use `/`, and are sorted; threads may call `read` at once."""

    source: str
    """The path that the user gave, for messages."""
    names: list[str]
    """The files with an image's extension."""
    other_names: list[str]
    """The other files, hidden ones and those that belong to the format left out."""

    def read(self, name: str) -> bytes:
        """The file's bytes; OSError, or UserError, when they cannot be had."""
        ...

    def label_file(self) -> bytes | None:
        """The content of `dataset.json` at the top, None where there is none."""
        ...

    def signature(self, name: str) -> tuple[int, ...]:
        """Numbers that change when the file's content does (size and time, or a checksum), without reading it."""
        ...


def sort_names(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Relative names of all files -> the sorted names of the images, and of the other files that someone may miss."""
    visible = sorted(name for name in files if not _is_hidden(name) and name not in (LABEL_FILE, RECORD_FILE))
    images = [name for name in visible if _has_image_extension(name)]
    return images, [name for name in visible if not _has_image_extension(name)]


@lru_cache(maxsize=1)
def image_extensions() -> frozenset[str]:
    """All extensions, lower case with the dot, that Pillow can read here."""
    return frozenset(extension for extension, form in Image.registered_extensions().items() if form in Image.OPEN)


def _has_image_extension(name: str) -> bool:
    return "." in name and "." + name.rsplit(".", 1)[1].lower() in image_extensions()


def _is_hidden(name: str) -> bool:
    """Whether any part of the relative name starts with a dot, or is what macOS puts into zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def check_resolution(resolution: int) -> int:
    """`resolution` when it is a power of two from 8 to 1024, else UserError."""
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
        raise UserError(f"resolution must be a power of two from 8 to 1024, got {resolution!r}.")
    return resolution


# Splits. An image that joins or leaves a set moves no other image from one split to the other.


def check_split(split: str, held_out_fraction: float) -> None:
    """UserError unless `split` is a known name and `held_out_fraction` lies in [0, 1]."""
    check_choice("split", split, SPLITS)
    check_number("held_out_fraction", held_out_fraction, lowest=0, highest=1)


def select(names: Sequence[str], split: str, fraction: float) -> np.ndarray:
    """The int64 positions of the `names` that belong to `split`, in order; about `fraction` of them are held out."""
    if split == "all":
        return np.arange(len(names))
    held_out = np.array([name_fraction(name) < fraction for name in names], dtype=bool)
    return np.flatnonzero(held_out == (split == "held_out"))


# Labels


def read_labels(
    names: Sequence[str], mode: str, label_file: bytes | None, source: str
) -> tuple[Tensor | None, list[str] | None]:
    """Labels float32 (N, c_dim) and the names of their columns, both None without labels.

    Args:
        names: relative names with `/`, all of the source's images, so that both splits get the same columns.
        mode: "none"; "folder": one class per first folder of the names, sorted; "json": from `label_file`.
        label_file: the content of `dataset.json`, None where the source has none.
        source: what errors call the folder or zip.
    """
    if mode == "folder":
        return _folder_labels(names, source)
    if mode == LABELS_FROM_FILE:
        return _json_labels(names, label_file, source)
    return None, None


def one_hot(classes: Sequence[int] | Tensor, num_classes: int) -> Tensor:
    """Class numbers (N,) -> float32 (N, num_classes)."""
    return torch.nn.functional.one_hot(torch.as_tensor(classes, dtype=torch.int64), num_classes).to(torch.float32)


def _folder_labels(names: Sequence[str], source: str) -> tuple[Tensor, list[str]]:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise UserError(f"labels=folder needs every image of '{source}' in a sub-folder, but '{loose[0]}' is in none.")
    folders = [name.split("/")[0] for name in names]
    classes = sorted(set(folders))
    return one_hot([classes.index(folder) for folder in folders], len(classes)), classes


def _json_labels(names: Sequence[str], label_file: bytes | None, source: str) -> tuple[Tensor, list[str] | None]:
    """NVlabs' format, {"labels": [[name, class number or list of numbers], ...]}; ours adds a key "label_names"."""
    entries, label_names = _parse(label_file, source)
    missing = [name for name in names if name not in entries]
    if missing:
        raise UserError(
            f"{LABEL_FILE} of '{source}' has no label for {len(missing)} image(s), the first is '{missing[0]}'."
        )
    values = list(entries.values())
    if all(_is_class(value) for value in values):
        num_classes = max(max(values) + 1, len(label_names or ()))
        return one_hot([entries[name] for name in names], num_classes), label_names
    if all(_is_vector(value) and len(value) == len(values[0]) for value in values):
        return torch.tensor([entries[name] for name in names], dtype=torch.float32), label_names
    raise UserError(
        f"{LABEL_FILE} of '{source}' must label every image with a class number from 0 up, or every image with "
        "a list of numbers of one length."
    )


def _parse(label_file: bytes | None, source: str) -> tuple[dict[str, Any], list[str] | None]:
    if label_file is None:
        raise UserError(f"labels=json needs a file {LABEL_FILE} in '{source}', and there is none.")
    try:
        content = json.loads(label_file)
        # Both slashes: a file that was written on Windows.
        entries = {str(name).replace("\\", "/"): label for name, label in content["labels"]}
    except (ValueError, KeyError, TypeError) as error:
        form = '{"labels": [["name.png", 3], ...]}'
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{LABEL_FILE} of '{source}' is not of the form {form} ({reason}).") from error
    label_names = content.get("label_names")
    return entries, label_names if isinstance(label_names, list) else None


def _is_class(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in value)
