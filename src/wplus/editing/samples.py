"""Codes with what is known about them: attributes by name, from a data set, a CSV or a JSON file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.progress import track
from wplus.errors import UserError
from wplus.latents.latent import load_latent, ws_of


@dataclass(frozen=True)
class Attributes:
    """Attributes of named things: `values` holds for each attribute one number or word per name, (N,)."""

    names: Sequence[str]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Samples:
    """Labelled codes.

    Attributes
        codes       (N, num_ws, w_dim)
        attributes  name -> (N,) numbers or words
        source      where both come from, as plain values
    """

    codes: Tensor
    attributes: Mapping[str, np.ndarray]
    source: dict[str, Any] = field(default_factory=dict)


def read_attributes(path: str | Path) -> Attributes:
    """Attributes from a CSV, whose first column holds the names, or a JSON object name -> {attribute: value}.

    UserError for a file that is missing or of another form, and for a row that lacks a value.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = _json_rows(text) if Path(path).suffix == ".json" else _csv_rows(text)
    except OSError as error:
        raise UserError(f"Cannot read the attributes '{path}': {error.strerror or error}.") from error
    except ValueError as error:
        raise UserError(f"'{path}' holds no attributes by name: {error}; see configs/directions.yaml.") from error
    columns = list(next(iter(rows.values()), {}))
    lacking = next((name for name, row in rows.items() if set(row) != set(columns)), None)
    if lacking is not None or not columns:
        raise UserError(f"In '{path}' every name needs the same attributes, one or more; look at '{lacking}'.")
    return Attributes(list(rows), {column: as_array([row[column] for row in rows.values()]) for column in columns})


def as_array(values: Sequence[Any]) -> np.ndarray:
    """Whole numbers where all are (true and false are 1 and 0), else numbers where all are, else words."""
    words = [str(int(value)) if isinstance(value, bool) else str(value) for value in values]
    for kind in (int, float):
        try:
            return np.array([kind(word) for word in words])
        except ValueError:
            continue
    return np.array(words)


def read_codes(folder: str | Path, models: Any) -> tuple[list[str], Tensor]:
    """Names and codes (N, num_ws, w_dim) of all latent files below a folder, a folder of inversions for example."""
    root, suffix = Path(folder), ".safetensors"
    files = sorted(root.rglob(f"*{suffix}"))
    if not files:
        raise UserError(f"There are no latent files in '{folder}': give a folder of them, or codes=encoder.")
    latents = [load_latent(file, fingerprint=models.fingerprint) for file in files]
    names = [file.relative_to(root).as_posix().removesuffix(suffix) for file in files]
    with torch.no_grad():
        return names, torch.stack([ws_of(latent, models.generator).cpu() for latent in latents])


class Images(Protocol):
    """What encoding needs of a set of images (`wplus.data.ImageSet`)."""

    names: list[str]

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image numbers (B,) -> uint8 images (B, C, R, R), labels (B, c_dim)."""


def check_encoder(encoder: Any) -> None:
    """UserError unless there is an encoder that answers in one pass."""
    if encoder is None or encoder.is_iterative:
        lacking = "no encoder" if encoder is None else "an iterative encoder"
        raise UserError(f"The checkpoint has {lacking}; invert images with invert.py and give codes=RUN/latents.")


@torch.no_grad()
def encode(encoder: Any, images: Images, *, batch_size: int) -> Tensor:
    """Codes (N, num_ws, w_dim) of images by the encoder of a checkpoint, in one pass."""
    check_encoder(encoder)
    device = encoder.latent_avg.device
    batches = torch.arange(len(images.names)).split(batch_size)
    pictures = (to_float(images.batch(indices)[0].to(device)) for indices in batches)
    return torch.cat([encoder(batch).cpu() for batch in track(pictures, "Encoding (batches)", total=len(batches))])


def join(names: Sequence[str], codes: Tensor, attributes: Attributes, source: Mapping[str, Any]) -> Samples:
    """The codes (N, num_ws, w_dim) whose names have attributes, by full name or by name without extension.

    UserError when there are none; `source` gets the number of codes that had to be left out.
    """
    rows = {_stem(name): row for row, name in enumerate(attributes.names)}
    rows |= {name: row for row, name in enumerate(attributes.names)}
    found = [(index, rows.get(name, rows.get(_stem(name)))) for index, name in enumerate(names)]
    kept = [(index, row) for index, row in found if row is not None]
    if not kept:
        raise UserError(
            f"None of {len(names)} codes has attributes: the codes have names like '{names[0]}', "
            f"the attributes like '{attributes.names[0]}'."
        )
    indices, chosen = (list(column) for column in zip(*kept, strict=True))
    values = {key: column[chosen] for key, column in attributes.values.items()}
    return Samples(codes[indices], values, {**source, "num_without_attributes": len(names) - len(kept)})


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _csv_rows(text: str) -> dict[str, dict[str, str]]:
    lines = [line for line in csv.reader(text.splitlines()) if line]
    if len(lines) < 2 or len(lines[0]) < 2:
        raise ValueError("a CSV has a line of column names, then a line for each name")
    columns = lines[0][1:]
    return {line[0]: dict(zip(columns, line[1:], strict=True)) for line in lines[1:]}


def _json_rows(text: str) -> dict[str, dict[str, Any]]:
    content = json.loads(text)
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise ValueError("JSON is an object of objects, name -> attribute -> value")
    return content
