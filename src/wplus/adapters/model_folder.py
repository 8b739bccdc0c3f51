"""A model as a folder in the style of Hugging Face's hub: config.json, model.safetensors, and a model card (README.md).

`wplus.load` reads it; nothing of the hub's libraries is needed. The weights are our ordinary file, which describes
itself; config.json says the same for whoever looks without opening it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wplus import __version__, checkpoint
from wplus.adapters.model_card import model_card
from wplus.adapters.rebuild import plain
from wplus.core.files import atomic_write, write_json
from wplus.errors import UserError

CARD = "README.md"


def write(
    target: str | Path,
    models: checkpoint.Models,
    *,
    licence: str | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> bool:
    """Write the folder `target`; returns whether a model card that was there is kept.

    A new folder appears whole or not at all. In one that holds a model the files are replaced one by one, weights
    first: what a reader finds in between is the old model or the new one. `licence` is an identifier as in "cc-by-4.0",
    `metrics` the values of an evaluation's result.json by name. UserError for a folder with other things in it.
    """
    folder = Path(target)
    _require_free(folder)
    if folder.is_dir():
        return _fill(folder, folder, models, licence, metrics)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        _fill(temporary, folder, models, licence, metrics)
        os.replace(temporary, folder)
    except OSError as error:
        raise UserError(f"Cannot write '{folder}': {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return False


def _fill(
    folder: Path,
    final: Path,
    models: checkpoint.Models,
    licence: str | None,
    metrics: Mapping[str, Mapping[str, Any]] | None,
) -> bool:
    networks = models.networks
    checkpoint.save(folder / checkpoint.WEIGHTS, **networks, metadata=models.metadata)
    config = {"library_name": "wplus", "wplus_version": __version__, **checkpoint.describe(networks)}
    write_json(folder / checkpoint.CONFIG, {**config, "metadata": plain(models.metadata)})
    if (folder / CARD).exists():
        return True
    text = model_card(final.resolve().name, networks, models.metadata, licence=licence, metrics=metrics)
    atomic_write(folder / CARD, lambda file: file.write(text.encode()))
    return False


def _require_free(folder: Path) -> None:
    """A README.md of something else must not be taken for a model card, nor its neighbours for a model."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"Cannot write the folder '{folder}': a file of this name is there.")
    visible = [item.name for item in folder.iterdir() if not item.name.startswith(".")] if folder.is_dir() else []
    if visible and checkpoint.WEIGHTS not in visible:
        raise UserError(f"The folder '{folder}' holds other things ('{sorted(visible)[0]}'); give a new or empty one.")
