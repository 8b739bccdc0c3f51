"""Read the latents a command works on: latent files, images (inverted first), seeds, and folders of files."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from wplus.checkpoint import Models
from wplus.core.files import at_home
from wplus.data.names import clean_name
from wplus.data.reader import is_beside
from wplus.errors import UserError
from wplus.latents.foreign import is_latent_file, read_latents
from wplus.latents.labels import Label, allowed_labels, read_label
from wplus.latents.latent import Latent, load_latent

SEED = "seed:"


def read_inputs(
    inputs: str | Path | Sequence[str | Path],
    *,
    models: Models,
    invert: Callable[[list[str], list[str]], Sequence[str | Path]] | None,
    label: Label = None,
    at_least: int = 1,
    truncation_psi: float = 1.0,
) -> tuple[list[Latent], list[str]]:
    """Latents and names of `inputs`, in order; inputs may repeat, as in a video that returns to its start.

    An input is a latent file (refused if made with another generator; for other projects' files see `foreign`),
    `seed:N` (a random z), an image, or a folder, which stands for its files sorted by name. `invert` (None: images are
    refused) is called once with all image files and a name for each, and returns their latent files. A single input
    need not be a list. `label` (`labels.read_label`) and `truncation_psi` apply to seeds.
    """
    items = [inputs] if isinstance(inputs, (str, Path)) else inputs
    sources = [source for item in items for source in _expanded(str(item))]
    # Latents first, so that a bad file is reported before anything slow starts.
    read = functools.partial(_read, models=models, label=label, truncation_psi=truncation_psi)
    found = {source: read(source) for source in sources if not _is_image(source)}
    number = sum(len(found.get(source, [source])) for source in sources)
    if number < at_least:
        raise UserError(
            f"this command needs at least {at_least} input(s), got {number}: {', '.join(sources) or 'none'}."
        )
    images = list(dict.fromkeys(source for source in sources if _is_image(source)))
    if images and invert is None:
        raise UserError(f"the input must be seed:N or a latent file, got the image '{images[0]}'.")
    files = invert(images, names_of_images(images)) if images and invert is not None else []
    for source, file in zip(images, files, strict=True):
        found[source] = [(Path(source).stem, load_latent(file, fingerprint=models.fingerprint))]
    names, latents = zip(*[entry for source in sources for entry in found[source]], strict=True)
    return list(latents), [clean_name(name) for name in names]


def _expanded(item: str) -> list[str]:
    path = at_home(item)
    if item.startswith(SEED) or path.is_file():
        return [item if item.startswith(SEED) else str(path)]
    if not path.is_dir():
        raise UserError(
            f"inputs must be images, latent files, folders of them, or seed:N, got '{item}', which does not exist."
        )
    files = sorted(str(file) for file in path.iterdir() if file.is_file() and not is_beside(file.name))
    if not files:
        raise UserError(f"the folder '{item}' must hold images or latent files, and has no files.")
    return files


def _is_image(source: str) -> bool:
    return not source.startswith(SEED) and not is_latent_file(source)


def names_of_images(images: Sequence[str]) -> list[str]:
    """Unique names of image files: their paths relative to their common folder."""
    paths = [Path(image).resolve() for image in images]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [clean_name(path.relative_to(shared).as_posix()) for path in paths]


def _read(source: str, models: Models, *, label: Label, truncation_psi: float) -> list[tuple[str, Latent]]:
    if not source.startswith(SEED):
        return read_latents(source, models)
    number, generator = source.removeprefix(SEED), models.generator
    if not (number.isascii() and number.isdecimal() and len(number) < 20 and int(number) < 2**63):
        raise UserError(f"a seed must be seed: and a whole number below 2^63, as in seed:7, got '{source:.80}'.")
    if label is None and generator.c_dim:
        raise UserError(f"label must be {allowed_labels(generator)} for the input '{source}', got null.")
    z = torch.randn(generator.z_dim, generator=torch.Generator().manual_seed(int(number)))
    own = read_label(label, generator)
    return [(source, Latent(z, "z", models.fingerprint, truncation_psi=truncation_psi, label=own))]
