"""Latents with attributes: their sources, and how attributes are split into two classes."""

import contextlib
import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.batching import in_batches
from wplus.core.images import to_float, to_uint8
from wplus.core.progress import track
from wplus.core.random import rng
from wplus.data import ImageSet
from wplus.data.names import clean_name
from wplus.data.reader import is_beside
from wplus.errors import UserError, check_number
from wplus.latents import foreign
from wplus.latents.latent import ws_of
from wplus.latents.w_stats import map_samples
from wplus.models.encoders.base import Encoder
from wplus.pretrained.attribute_classifier import AttributeClassifier

_NUM_SAMPLES = 4000  # samples labelled by a classifier
MAX_CLASSES = 20  # an attribute with more values is treated as continuous and split at its median
COMPARISONS = {
    "!=": np.not_equal, ">=": np.greater_equal, "<=": np.less_equal, "=": np.equal, ">": np.greater, "<": np.less,
}  # fmt: skip


class Attributes(NamedTuple):
    """Attributes by name: `values` holds, for each attribute, one number or word per name, (N,)."""

    names: Sequence[str]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LabelledLatents:
    """Latents ws (N, num_ws, w_dim) with attributes, name -> (N,) numbers or words, and the source of both."""

    ws: Tensor
    attributes: Mapping[str, np.ndarray]
    source: dict[str, Any] = field(default_factory=dict)


def labelled_latents(
    models: Models, images: Callable[[], ImageSet], *, latents: str = "encoder", attributes: str | None = None,
    classifier: AttributeClassifier | None = None, num_images: int | None = None, batch_size: int = 64, seed: int = 0,
) -> LabelledLatents:  # fmt: skip
    """Latents with attributes: the first `num_images` images encoded by the checkpoint's encoder, as many samples
    labelled by a classifier, or a folder of latents.

    `attributes` is a file, see `read_attributes`; None uses those of the images, which are loaded when needed.
    """
    if latents == "samples":
        if attributes is not None:
            raise UserError(
                f"attributes must be null with latents=samples, which a classifier labels, got '{attributes}'."
            )
        return named_samples(models, classifier, num_images or _NUM_SAMPLES, seed=seed, batch_size=batch_size)
    if classifier is not None:
        raise UserError(f"classifier only labels latents=samples, got latents={latents}: leave one of them out.")
    encoder = one_pass_encoder(models) if latents == "encoder" else None
    pictures = images() if encoder is not None or attributes is None else None
    if attributes is not None:
        known = read_attributes(attributes)
    elif pictures is not None and pictures.attributes is not None:
        known = Attributes(pictures.names, {name: each.numpy() for name, each in pictures.attributes.items()})
    else:
        raise UserError("These images come without attributes: give a CSV or JSON file as attributes=FILE.")
    source = {"latents": latents, "attributes": attributes or "of the data"}
    if encoder is None or pictures is None:
        return join(*read_latents(latents, models), known, source)
    if num_images is not None:
        pictures = pictures.subset(torch.arange(min(num_images, len(pictures))))
    source["images"] = pictures.fingerprint
    return join(pictures.names, encode(encoder, pictures, batch_size=batch_size), known, source)


@torch.no_grad()
def named_samples(
    models: Models, classifier: AttributeClassifier | None, num: int, *, seed: int, batch_size: int = 64
) -> LabelledLatents:
    """Samples of the generator, with its stored noise, labelled by a classifier."""
    if classifier is None:
        raise UserError("latents=samples needs classifier=FILE to label them: `wplus classifier` trains one.")
    check_number("num_images", num, lowest=2, whole=True)
    generator = models.generator
    w = map_samples(generator, torch.randn(num, generator.z_dim, generator=rng(seed, "named samples")), None)
    ws = w[:, None].repeat(1, generator.num_ws, 1)
    named = classifier.to(w.device)

    def numbers(some: Tensor) -> list[Tensor]:
        return [named.predicted(to_uint8(generator.synthesis(some, noise_mode="const"))).cpu()]

    (predicted,) = in_batches(numbers, ws, batch_size)
    source = {"latents": f"{num} samples", "attributes": f"named by {named.name}"}
    return LabelledLatents(ws.cpu(), factor_values(named, predicted), source)


def factor_values(classifier: AttributeClassifier, predicted: Tensor) -> dict[str, np.ndarray]:
    """Factor -> values (N,) for predicted class indices (N, factors)."""
    return {factor: as_array([classes[index] for index in column.tolist()])
            for (factor, classes), column in zip(classifier.classes.items(), predicted.T, strict=True)}  # fmt: skip


def one_pass_encoder(models: Models) -> Encoder:
    """The checkpoint's encoder; UserError unless there is one that needs a single pass."""
    if "encoder" not in models.networks or models.encoder.is_iterative:
        found = "an iterative encoder" if "encoder" in models.networks else "no encoder"
        raise UserError(f"The checkpoint has {found}; invert images with invert.py and give latents=RUN/latents.")
    return models.encoder


@torch.no_grad()
def encode(encoder: Encoder, images: ImageSet, *, batch_size: int) -> Tensor:
    """ws (N, num_ws, w_dim) of images, predicted by an encoder in one pass."""
    batches = torch.arange(len(images)).split(batch_size)
    pictures = (to_float(images.batch(indices)[0].to(encoder.latent_avg.device)) for indices in batches)
    return torch.cat([encoder(batch).cpu() for batch in track(pictures, "Encoding (batches)", total=len(batches))])


@torch.no_grad()
def read_latents(folder: str | Path, models: Models) -> tuple[list[str], Tensor]:
    """Names and ws (N, num_ws, w_dim) of a latent file, or of all below a folder, such as a folder of inversions."""
    root = Path(folder)
    base = root.parent if root.is_file() else root
    files = [root] if root.is_file() else sorted(
        path for path in root.rglob("*")
        if foreign.is_latent_file(path) and not is_beside(path.relative_to(root).as_posix())
    )  # fmt: skip
    if not files:
        raise UserError(f"latents must be encoder or a folder of latent files, got '{folder}', which holds none.")
    found = [(file.parent, *entry) for file in files for entry in foreign.read_latents(file, models)]
    names = [clean_name((parent.relative_to(base) / name).as_posix()) for parent, name, _ in found]
    return names, torch.stack([ws_of(latent, models.generator).cpu() for _, _, latent in found])


def join(names: Sequence[str], ws: Tensor, attributes: Attributes, source: Mapping[str, Any]) -> LabelledLatents:
    """Match ws (N, num_ws, w_dim) with attributes, by full name or without extension; UserError if none match."""
    rows = {_stem(name): row for row, name in enumerate(attributes.names)}
    rows |= {name: row for row, name in enumerate(attributes.names)}
    found = [rows.get(name, rows.get(_stem(name))) for name in names]
    kept = [(index, row) for index, row in enumerate(found) if row is not None]
    if not kept:
        raise UserError(
            f"None of {len(names)} latents has attributes: the latents have names like '{names[0]}', "
            f"the attributes like '{attributes.names[0]}'."
        )
    indices, chosen = (list(column) for column in zip(*kept, strict=True))
    values = {key: column[chosen] for key, column in attributes.values.items()}
    return LabelledLatents(ws[indices], values, {**source, "num_without_attributes": len(names) - len(kept)})


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def read_attributes(path: str | Path) -> Attributes:
    """Read attributes from a CSV with names in the first column, or a JSON object name -> {attribute: value}."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = json.loads(text) if Path(path).suffix.lower() == ".json" else _csv_rows(text)
        columns = list(next(iter(rows.values())).keys())
        lacking = next((name for name, row in rows.items() if set(row.keys()) != set(columns)), None)
    except OSError as error:
        raise UserError(f"Cannot read the attributes '{path}': {error.strerror or error}.") from error
    except (ValueError, TypeError, AttributeError, StopIteration) as error:
        reason = str(error) or "none at all"
        raise UserError(
            f"'{path}' holds no attributes by name ({reason}): a CSV has a line of column names, then a line for each "
            "name; JSON is an object of objects, name -> attribute -> value."
        ) from error
    if lacking is not None or not columns:
        name = next(iter(rows)) if lacking is None else lacking
        raise UserError(f"In '{path}' every name needs the same attributes, one or more; look at '{name}'.")
    names = [clean_name(name) for name in rows]
    return Attributes(names, {column: as_array([row[column] for row in rows.values()]) for column in columns})


def _csv_rows(text: str) -> dict[str, dict[str, str]]:
    head, *lines = [line for line in csv.reader(text.splitlines()) if line]
    return {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}


def as_array(values: Sequence[Any]) -> np.ndarray:
    """Integers if all values are (true and false are 1 and 0), otherwise numbers if all are, otherwise words."""
    words = [str(int(value)) if isinstance(value, bool) else str(value) for value in values]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return np.array([kind(word) for word in words])
    return np.array(words)


# --- two classes: body=3 (one against the rest), accessory!=0, age>40, or every value in turn ------------------------


def expand(wanted: Sequence[str], attributes: Mapping[str, np.ndarray]) -> list[str]:
    """Keep comparisons; expand a bare name into one for each of its values (for two values, only the second).

    An attribute with more than 20 numbers is continuous: values above its median against the rest.
    """
    specs: list[str] = []
    for spec in wanted:
        name, comparison, _ = split_comparison(spec)
        values = np.unique(_values(name, attributes))
        if comparison:
            specs.append(spec)
        elif len(values) > MAX_CLASSES and values.dtype.kind in "if":
            specs.append(f"{name}>{np.median(attributes[name]):g}")
        else:
            specs += [f"{name}={value}" for value in (values[1:] if len(values) == 2 else values)]
    return list(dict.fromkeys(specs))


def members(spec: str, attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which samples satisfy a comparison: booleans (N,); UserError for an invalid attribute or value."""
    name, comparison, text = split_comparison(spec)
    values = _values(name, attributes)
    try:
        wanted = values.dtype.type(text) if values.dtype.kind in "U" else float(text)
    except ValueError:
        raise UserError(f"'{spec}' compares the number '{name}' with a word; its values are numbers.") from None
    return COMPARISONS[comparison](values, wanted)


def split_comparison(spec: str) -> tuple[str, str, str]:
    """`body=3` -> ("body", "=", "3"); a bare name has an empty comparison."""
    found = re.fullmatch(r"(.+?)(!=|>=|<=|=|>|<)(.+)", spec)
    return (found[1].strip(), found[2], found[3].strip()) if found else (spec.strip(), "", "")


def _values(name: str, attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    if name not in attributes:
        raise UserError(
            f"attributes must be some of {', '.join(attributes) or 'none'}, those of the samples, got '{name}'."
        )
    return attributes[name]
