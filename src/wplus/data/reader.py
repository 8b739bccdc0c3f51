"""Base class of the folder and zip readers: sorted names, the files' bytes, labels and splits."""

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.core.random import name_fraction
from wplus.data.names import clean_name, decoded_names
from wplus.errors import UserError, check_choice, check_number

LABEL_FILE = "dataset.json"
RECORD_FILE = "wplus.json"
"""The file in which `prepare` records how a zip was made."""
LABEL_MODES = ("none", "folder", "json")
SPLITS = ("train", "held_out", "all")
MIN_RESOLUTION, MAX_RESOLUTION = 8, 1024
MAX_CLASSES, MAX_LABEL_BYTES = 2**16, 2**32
_LARGEST = 3.4e38  # the largest float32
# Files that are often found next to images and are not images themselves; others hold latents.
_BESIDE = (
    ".txt", ".md", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".html", ".csv", ".tsv", ".log", ".ini", ".db", ".pdf",
    ".py", ".sh", ".zip", ".mp4", ".mov",
)  # fmt: skip
_LATENTS = (".npy", ".npz", ".pt", ".safetensors")


class Reader:
    """A container of image files; names are relative, use `/`, and are sorted; `read` is thread-safe.

    `files` are (name, name in storage), with names as bytes if their encoding is not declared; names from any system
    are normalized by `clean_name`.

    Attributes:
        source: the path given by the user, for messages.
        stored: name -> the file's name in storage.
        names: files with an image extension.
        other_names: other files, except hidden ones and those that belong to the format.
    """

    cure = ""  # advice for names in an unknown encoding

    def __init__(self, source: str | Path, kind: str, files: Iterable[tuple[str | bytes, str]]) -> None:
        self.source, self.stored = os.fsencode(source).decode(errors="replace"), dict[str, str]()
        unknown: list[tuple[bytes, str]] = []
        for text, stored in files:
            if isinstance(text, bytes):
                unknown.append((text, stored))
            else:
                self._add(clean_name(text), stored, kind)
        for name, (_, stored) in zip(self._decoded([text for text, _ in unknown], kind), unknown, strict=True):
            self._add(name, stored, kind)
        visible = sorted(name for name in self.stored if not _is_hidden(name) and name not in (LABEL_FILE, RECORD_FILE))
        self.names = [name for name in visible if _extension(name) in _image_extensions()]
        self.other_names = [name for name in visible if _extension(name) not in _image_extensions()]
        if not self.names:
            others = f"; {self.unread()}" if self.unread() else ""
            raise UserError(
                f"The image {kind} '{self.source}' has no file with an image's extension (.png, .jpg, ...){others}."
            )

    def _add(self, name: str, stored: str, kind: str) -> None:
        if name in self.stored:
            raise UserError(f"The {kind} '{self.source}' holds two files that are both called '{name}': rename one.")
        self.stored[name] = stored

    def _decoded(self, names: list[bytes], kind: str) -> list[str]:
        """Decode names whose encoding is not declared; UserError if it is ambiguous and an image has such a name."""
        found = decoded_names(names, self._labelled()) if names else []
        if found is not None:
            return found
        texts = [name.decode("cp437") for name in names]
        seen = [text for text in texts if _extension(text) in _image_extensions() and not _is_hidden(text)]
        if seen:
            raise UserError(
                f"The names of {len(seen)} image(s) in the {kind} '{self.source}', such as '{seen[0]}', are in an "
                f"encoding that cannot be determined: {self.cure}."
            )
        return texts

    def _labelled(self) -> set[str]:
        """The names in `dataset.json`, empty if it cannot be read."""
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError, UserError):
            return {clean_name(str(name)) for name, _ in json.loads(self.label_file() or b"{}")["labels"]}
        return set()

    def unread(self) -> str:
        """A message about files that may be images and are not read; empty if there are none."""
        missed = [name for name in self.other_names if _extension(name) not in (*_BESIDE, *_LATENTS)]
        is_heic = any(_extension(name) in (".heic", ".heif") for name in missed)
        cure = ": HEIC is read where its plugin is installed, pip install pillow-heif" if is_heic else ""
        return f"{len(missed)} file(s) are not read, such as '{missed[0]}'{cure}" if missed else ""

    def read(self, name: str) -> bytes:
        """The file's bytes; OSError if they cannot be read."""
        raise NotImplementedError

    def signature(self, name: str) -> tuple[int, ...]:
        """Numbers that change when the file's content does (size and time, or a checksum), without reading it."""
        raise NotImplementedError

    def label_file(self) -> bytes | None:
        """The content of `dataset.json` at the top level, None if there is none; UserError if it is in a sub-folder."""
        below = [name for name in self.stored if name.endswith(f"/{LABEL_FILE}") and not _is_hidden(name)]
        if below and LABEL_FILE not in self.stored:
            raise UserError(
                f"The labels of '{self.source}' lie in '{below[0]}', not at its top: give that folder, or pack what is "
                "in it, or leave labels out with labels=none."
            )
        try:
            return self.read(LABEL_FILE) if LABEL_FILE in self.stored else None
        except OSError as error:
            raise UserError(f"{LABEL_FILE} of '{self.source}' cannot be read ({error}).") from error


@lru_cache(maxsize=1)
def _image_extensions() -> frozenset[str]:
    """All extensions, lower case with the dot, that this installation of Pillow can read."""
    return frozenset(extension for extension, form in Image.registered_extensions().items() if form in Image.OPEN)


def _extension(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def is_beside(name: str) -> bool:
    """Whether a file's name marks it as neither image nor latent: hidden files, lists, and files left by the system."""
    return _is_hidden(name) or _extension(name) in _BESIDE


def _is_hidden(name: str) -> bool:
    """Whether any part of the relative name starts with a dot, or is one that macOS adds to zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def check_resolution(resolution: int) -> int:
    """Return `resolution` if it is a power of two from 8 to 1024, else raise UserError."""
    whole = isinstance(resolution, int) and not isinstance(resolution, bool)
    if not whole or not MIN_RESOLUTION <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
        raise UserError(f"resolution must be a power of two from 8 to 1024, got {resolution!r}.")
    return resolution


# Splits. Adding or removing an image never moves another image between splits.


def check_split(split: str, held_out_fraction: float) -> None:
    """Raise UserError unless `split` is a known name and `held_out_fraction` lies in [0, 1]."""
    check_choice("split", split, SPLITS)
    check_number("held_out_fraction", held_out_fraction, lowest=0, highest=1)


def select(names: Sequence[str], split: str, fraction: float) -> np.ndarray:
    """The int64 positions of the `names` that belong to `split`, in order; about `fraction` of them are held out."""
    if split == "all":
        return np.arange(len(names))
    held_out = np.array([name_fraction(name) < fraction for name in names], dtype=bool)
    return np.flatnonzero(held_out == (split == "held_out"))


# Labels


def read_labels(reader: Reader, mode: str) -> tuple[Tensor | None, list[str] | None]:
    """Labels float32 (N, c_dim) of all images and the names of their columns, both None without labels.

    `mode` is "none"; "folder": one class per top-level folder, sorted; or "json": from `dataset.json`.
    """
    check_choice("labels", mode, LABEL_MODES)
    if mode == "none":
        return None, None
    labels, names = _folder_labels(reader) if mode == "folder" else _json_labels(reader)
    if len(labels) > 1 and bool((labels == labels[0]).all()):
        warnings.warn(f"Every image of '{reader.source}' has the same label, which is uninformative.", stacklevel=3)
    return labels, names


def one_hot(classes: Sequence[int] | Tensor, num_classes: int) -> Tensor:
    """Class numbers (N,) -> float32 (N, num_classes)."""
    return torch.nn.functional.one_hot(torch.as_tensor(classes, dtype=torch.int64), num_classes).to(torch.float32)


def is_one_hot(labels: Tensor) -> bool:
    """Whether each row of `labels` (N, c_dim) marks one class."""
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(dim=1) == 1).all())


def _folder_labels(reader: Reader) -> tuple[Tensor, list[str]]:
    loose = [name for name in reader.names if "/" not in name]
    if loose:
        raise UserError(
            f"labels=folder needs every image of '{reader.source}' in a sub-folder, but '{loose[0]}' is in none."
        )
    if all(_is_chunk(name) for name in reader.names):
        raise UserError(
            f"The folders of '{reader.source}' ({reader.names[0]}, ...) are the parts of a prepared set, not classes: "
            "use labels=json, where it was prepared from the folder of classes with --labels folder."
        )
    classes, indices = np.unique([name.split("/")[0] for name in reader.names], return_inverse=True)
    return one_hot(torch.from_numpy(indices), len(classes)), classes.tolist()


def _is_chunk(name: str) -> bool:
    """Whether a name follows prepared and NVlabs' sets, 00001/img00001234.png, or FFHQ, 01000/01234.png."""
    found = re.fullmatch(r"(?:.*/)?(\d{5})/(?:img)?(\d{5}|\d{8})\.\w+", name)
    return found is not None and int(found[2]) // 1000 in (int(found[1]), int(found[1]) / 1000)


def _json_labels(reader: Reader) -> tuple[Tensor, list[str] | None]:
    """Read NVlabs' format, {"labels": [[name, class number or list of numbers], ...]}, plus optional "label_names"."""
    place = f"{LABEL_FILE} of '{reader.source}'"
    entries, label_names = _parse(reader, place)
    missing = [name for name in reader.names if name not in entries]
    if missing:
        raise UserError(f"{place} has no label for {len(missing)} image(s), the first is '{missing[0]}'.")
    values, wanted = list(entries.values()), [entries[name] for name in reader.names]
    of_classes = all(_is_class(value) for value in values)
    if not of_classes and not all(_is_vector(value) and len(value) == len(values[0]) for value in values):
        raise UserError(
            f"{place} must label every image with a class number from 0 to {MAX_CLASSES - 1}, or every image with a "
            "list of finite numbers of one length."
        )
    num_classes = max(max(values) + 1, len(label_names or ())) if of_classes else len(values[0])
    if 4 * len(wanted) * num_classes > MAX_LABEL_BYTES:
        raise UserError(f"{place} has labels of {num_classes} numbers, too many for {len(wanted)} images in memory.")
    if label_names is not None and len(label_names) > num_classes:
        raise UserError(f"{place} has {len(label_names)} label_names for labels of {num_classes} numbers.")
    numbers = map(str, range(len(label_names or ()), num_classes))
    labels = one_hot(wanted, num_classes) if of_classes else torch.tensor(wanted, dtype=torch.float32)
    return labels, None if label_names is None else [*label_names, *numbers]


def _parse(reader: Reader, place: str) -> tuple[dict[str, Any], list[str] | None]:
    label_file = reader.label_file()
    if label_file is None:
        raise UserError(f"labels=json needs a file {LABEL_FILE} in '{reader.source}', and there is none.")
    try:
        content = json.loads(label_file)
        entries = {clean_name(str(name)): label for name, label in content["labels"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f'{place} is not of the form {{"labels": [["name.png", 3], ...]}} ({reason}).') from error
    label_names = content.get("label_names")
    return entries, [str(name) for name in label_names] if isinstance(label_names, list) else None


def _is_class(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_CLASSES


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and value != [] and all(map(_is_finite, value))


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST
