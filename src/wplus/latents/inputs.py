"""Read a command's latents: latent files, images (inverted first), seeds, folders of either."""

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.latents.latent import Latent, load_latent

SEED, LATENT_SUFFIX = "seed:", ".safetensors"


def read_inputs(
    inputs: str | Path | Sequence[str | Path],
    *,
    models: Models,
    invert: Callable[[list[str], list[str]], Sequence[str | Path]] | None,
    label: int | None = None,
    at_least: int = 1,
    truncation_psi: float = 1.0,
) -> tuple[list[Latent], list[str]]:
    """Latents and names of `inputs`, in their order; an input may come twice, as in a video that returns to its start.

    An input is a latent file (refused when another generator made it), `seed:N` (a random z), an image, or a folder,
    which stands for its files by name. `invert`, None where images are refused, gets the image files, all at once, and
    a name for each, and returns their latent files. One input may stand without its list. `label` is the class of
    seeds for a conditional generator, `truncation_psi` their truncation.
    """
    items = [inputs] if isinstance(inputs, (str, Path)) else inputs
    sources = [source for item in items for source in _expanded(str(item))]
    if len(sources) < at_least:
        raise UserError(
            f"this command needs at least {at_least} input(s), got {len(sources)}: {', '.join(sources) or 'none'}"
        )
    # Latents first: a bad file is named before anything slow starts.
    read = functools.partial(_read, models=models, label=label, truncation_psi=truncation_psi)
    found = {source: read(source) for source in sources if not _is_image(source)}
    images = list(dict.fromkeys(source for source in sources if _is_image(source)))
    if images and invert is None:
        raise UserError(f"the input must be seed:N or a latent file, got the image '{images[0]}'")
    files = invert(images, _names(images)) if images and invert is not None else []
    found |= {source: read(str(file)) for source, file in zip(images, files, strict=True)}
    return [found[source] for source in sources], [Path(source).stem for source in sources]


def _expanded(item: str) -> list[str]:
    path = Path(item)
    if item.startswith(SEED) or path.is_file():
        return [item]
    if not path.is_dir():
        raise UserError(
            f"inputs must be images, latent files, folders of them, or seed:N, got '{item}', which does not exist"
        )
    files = sorted(str(file) for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise UserError(f"the folder '{item}' must hold images or latent files, and has no files")
    return files


def _is_image(source: str) -> bool:
    return not source.startswith(SEED) and Path(source).suffix != LATENT_SUFFIX


def _names(images: list[str]) -> list[str]:
    """Different files get different names: their paths from the folder that they share."""
    paths = [Path(image).resolve() for image in images]
    shared = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return [path.relative_to(shared).as_posix() for path in paths]


def _read(source: str, models: Models, *, label: int | None, truncation_psi: float) -> Latent:
    if not source.startswith(SEED):
        return load_latent(source, fingerprint=models.fingerprint)
    number, generator = source.removeprefix(SEED), models.generator
    if not number.isdecimal():
        raise UserError(f"a seed must be seed: and a whole number, as in seed:7, got '{source}'")
    z = torch.randn(generator.z_dim, generator=torch.Generator().manual_seed(int(number)))
    return Latent(z, "z", models.fingerprint, truncation_psi=truncation_psi, label=_one_hot(label, generator.c_dim))


def _one_hot(label: int | None, c_dim: int) -> torch.Tensor | None:
    if label is None and c_dim == 0:
        return None
    if label is None or not 0 <= label < c_dim:
        allowed = f"0 to {c_dim - 1}" if c_dim else "null, as the generator has no classes"
        raise UserError(f"label must be {allowed}, got {'null' if label is None else label}")
    return torch.nn.functional.one_hot(torch.tensor(label), c_dim).float()
