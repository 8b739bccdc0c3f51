"""Labels of images in folders and zips: the class of a sub-folder, or the entries of a `dataset.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import torch
from torch import Tensor

from wplus.data.reader import LABEL_FILE
from wplus.errors import UserError

LABELS_FROM_FILE = "json"
LABEL_MODES = ("none", "folder", LABELS_FROM_FILE)


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


def _folder_labels(names: Sequence[str], source: str) -> tuple[Tensor, list[str]]:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise UserError(f"labels=folder needs every image of '{source}' in a sub-folder, but '{loose[0]}' is in none.")
    classes = sorted({name.split("/")[0] for name in names})
    column = {name: index for index, name in enumerate(classes)}
    return one_hot([column[name.split("/")[0]] for name in names], len(classes)), classes


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


def _parse(label_file: bytes | None, source: str) -> tuple[dict, list[str] | None]:
    if label_file is None:
        raise UserError(f"labels=json needs a file {LABEL_FILE} in '{source}', and there is none.")
    try:
        content = json.loads(label_file)
        # Both slashes: a file that was written on Windows.
        entries = {str(name).replace("\\", "/"): label for name, label in content["labels"]}
    except (ValueError, KeyError, TypeError) as error:
        form = '{"labels": [["name.png", 3], ...]}'
        raise UserError(f"{LABEL_FILE} of '{source}' is not of the form {form} ({_first_line(error)}).") from error
    label_names = content.get("label_names")
    return entries, label_names if isinstance(label_names, list) else None


def one_hot(classes: Sequence[int] | Tensor, num_classes: int) -> Tensor:
    """Class numbers (N,) -> float32 (N, num_classes)."""
    return torch.nn.functional.one_hot(torch.as_tensor(classes, dtype=torch.int64), num_classes).to(torch.float32)


def _is_class(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_vector(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, (int, float)) and not isinstance(item, bool) for item in value
    )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
