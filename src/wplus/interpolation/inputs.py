"""What a user names as key points: latent files, images (which are inverted first), seeds, folders of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.images import to_float
from wplus.latents import Latent, load_latent, save_latent

LATENT_SUFFIX = ".safetensors"


def read_key_points(
    inputs: Sequence[str | Path],
    *,
    models: Any,
    space: str,
    read_image: Callable[[Path], Tensor],
    invert: Callable[..., Any],
    latents_dir: str | Path,
    label: int | None = None,
) -> tuple[list[Latent], list[str]]:
    """Latents and names of `inputs`, in their order.

    An input is a latent file (refused when another generator made it), `seed:N` (a random z), an image, or a folder,
    which stands for its files by name. Images go through `read_image` (-> uint8 (C, R, R) at the generator's size) and,
    all at once, `invert` (see `wplus.inversion.result`; everything but generator, targets, space, names and labels
    bound), into `space`, w+ where that is auto; their latents are kept in `latents_dir`. `label` is the class of images
    and seeds of a conditional generator.
    """
    sources = [source for item in inputs for source in _expanded(str(item))]
    if len(sources) < 2:
        raise UserError(
            f"An interpolation needs at least 2 inputs, got {len(sources)}: {', '.join(sources) or 'none'}."
        )
    one_hot = _one_hot(label, models.generator)
    images = {source: read_image(Path(source)) for source in sources if _is_image(source)}
    # Read before anything slow starts, so that a bad latent file is named at once.
    found = {source: _read(source, models, one_hot) for source in sources if not _is_image(source)}
    if images:
        targets = to_float(torch.stack(list(images.values())))
        chosen = {"space": "w+" if space == "auto" else space, "labels": one_hot}
        found |= _inverted(list(images), targets, models=models, invert=invert, folder=Path(latents_dir), **chosen)
    return [found[source] for source in sources], [Path(source).stem for source in sources]


def _expanded(item: str) -> list[str]:
    path = Path(item)
    if item.startswith("seed:") or path.is_file():
        return [item]
    if not path.is_dir():
        raise UserError(
            f"The input '{item}' does not exist; give images, latent files (.safetensors), folders or seed:N."
        )
    files = sorted(str(file) for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise UserError(f"The folder '{item}' is empty; an interpolation needs images or latent files.")
    return files


def _is_image(source: str) -> bool:
    return not source.startswith("seed:") and Path(source).suffix != LATENT_SUFFIX


def _read(source: str, models: Any, one_hot: Tensor | None) -> Latent:
    if not source.startswith("seed:"):
        return load_latent(source, fingerprint=models.fingerprint)
    number = source.removeprefix("seed:")
    if not number.isdecimal():
        raise UserError(f"The input '{source}' is no seed; write seed: and a whole number, as in seed:7.")
    z = torch.randn(models.generator.z_dim, generator=torch.Generator().manual_seed(int(number)))
    return Latent(z, "z", models.fingerprint, label=one_hot)


def _one_hot(label: int | None, generator: Any) -> Tensor | None:
    if label is None:
        return None
    if not 0 <= label < generator.c_dim:
        allowed = f"0 to {generator.c_dim - 1}" if generator.c_dim else "null (the generator has no classes)"
        raise UserError(f"label={label} is no class of this generator; allowed: {allowed}.")
    return torch.nn.functional.one_hot(torch.tensor(label), generator.c_dim).float()


def _inverted(sources: list[str], targets: Tensor, *, models: Any, invert: Callable[..., Any], folder: Path, space: Any,
              labels: Tensor | None) -> dict[str, Latent]:  # fmt: skip
    """One latent for each image, kept as a file."""
    device = models.generator.mapping.w_avg.device
    all_labels = None if labels is None else labels.expand(len(targets), -1).to(device)
    names = [Path(source).name for source in sources]
    inversion = invert(models.generator, targets.to(device), space=space, names=names, labels=all_labels)
    found = {}
    for row, source in enumerate(sources):
        noise = None if inversion.noise is None else tuple(layer[row].cpu() for layer in inversion.noise)
        code = inversion.codes[row].detach().cpu()
        found[source] = Latent(
            code, space, models.fingerprint, noise=noise, label=labels, metadata={"image": names[row]}
        )
        save_latent(folder / f"{Path(source).stem}{LATENT_SUFFIX}", found[source])
    return found
