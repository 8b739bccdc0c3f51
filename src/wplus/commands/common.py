"""Shared by several commands: open a checkpoint and a folder, read inputs, invert images among them."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wplus.checkpoint import Models, load
from wplus.commands.record import record_fields
from wplus.config import build
from wplus.core.files import ensure_folder
from wplus.core.images import to_uint8
from wplus.core.runtime import resolve_device
from wplus.data import ImageSet, read_image
from wplus.data.user_images import user_images_with_masks
from wplus.inversion.folder import DELTA, output_names, pixel_digest
from wplus.inversion.run import FolderInversion
from wplus.inversion.task import InversionTask, Inverter
from wplus.latents.inputs import read_inputs
from wplus.latents.latent import Latent
from wplus.latents.space import LatentSpace, Space, space_of
from wplus.latents.weight_delta import WeightDelta, load_delta
from wplus.tracking import Tracker


def opened(cfg: Mapping[str, Any]) -> tuple[Models, torch.device, Path]:
    """Open the checkpoint, which must contain a generator; also returns the device and the run's folder."""
    device = resolve_device(cfg["device"])
    return load(cfg["checkpoint"], device, needs=["generator"]), device, ensure_folder(cfg["run_dir"])


@contextmanager
def tracking(cfg: Mapping[str, Any], job_type: str) -> Iterator[Tracker]:
    """Track a run, including the files that it reads."""
    with build(cfg["tracking"], output_dir=Path(cfg["run_dir"]), job_type=job_type, **record_fields(cfg)) as tracker:
        tracker.rewind(None)
        for key, name in (("checkpoint", "model"), ("directions", "directions")):
            if cfg.get(key) is not None:
                tracker.use_artifact(cfg[key], name=name, kind=name)
        yield tracker


def images_to_invert(cfg: Mapping[str, Any], models: Models, **reading: Any) -> tuple[ImageSet, Any]:
    """Read `input` at the generator's resolution, and masks; `reading` as in `user_images_with_masks`."""
    resolution, channels = models.generator.resolution, models.generator.img_channels
    return user_images_with_masks(
        cfg["input"], held_out=partial(build, cfg["data"], split="held_out", resolution=resolution),
        num_images=cfg["num_images"], resolution=resolution, channels=channels, **reading,
    )  # fmt: skip


def read_latents(
    cfg: Mapping[str, Any], inputs: Sequence[str], models: Models, *, space: str, perceptual: object, **seeds: Any
) -> tuple[list[Latent], list[str], list[WeightDelta | None]]:
    """Latents of a command's inputs (images are inverted), their names, and their weight deltas."""
    folder = Path(cfg["run_dir"]) / "inversion"
    invert = partial(
        invert_files, models=models, invert=build(cfg["inverter"]), perceptual=perceptual, output_dir=folder,
        space=space, **{key: cfg[key] for key in ("fit", "seed", "label")},
    )  # fmt: skip
    latents, names = read_inputs(inputs, models=models, invert=invert, label=cfg["label"], **seeds)
    deltas = weight_deltas(latents, names, Path(cfg["deltas"] or folder / "deltas"), fingerprint=models.fingerprint)
    return latents, names, deltas


def listed(value: object) -> list[Any]:
    """Wrap a single value in a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def invert_files(
    files: Sequence[str], names: Sequence[str], *, models: Any, output_dir: Path, fit: str = "crop", **inverting: Any
) -> list[Path]:
    """Invert image files and return their latent files, in a folder that repeating the command finds and continues.

    `fit` is that of `wplus.data.read_image`, with a warning about the images that fit=crop cuts; `inverting` are
    arguments of `FolderInversion`.
    """
    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    pixels = torch.stack([read_image(file, fit=fit, **size) for file in files])
    if fit == "crop":
        _warn_of_cropping(files)
    FolderInversion(ImageSet(pixels, None, list(names)), models=models, output_dir=output_dir, **inverting).run()
    return [output_dir / "latents" / f"{name}.safetensors" for name in output_names(names)]


def _warn_of_cropping(files: Sequence[str]) -> None:
    cut = [file for file in files if not _is_square(file)]
    if cut:
        warnings.warn(
            f"{len(cut)} of {len(files)} image(s) are not square and are cropped to their centre ({', '.join(cut)}): "
            "fit=pad keeps the whole image, with white beside it.",
            stacklevel=3,
        )


def _is_square(file: str) -> bool:
    with Image.open(file) as image:
        return image.width == image.height


def codes_of(
    models: Models, invert: Inverter, *, space: Space, **shared: Any
) -> tuple[Callable[[Tensor], Tensor], LatentSpace]:
    """Turn an inverter into a function from images (N, C, R, R), about [-1, 1], to codes (N, ...) in the space that is
    also returned: w+, or `space` itself if it cannot be mapped to w+.

    Its randomness is derived from the images, so that results do not depend on the batch. `shared` are further fields
    of `InversionTask`: perceptual, seed, losses, labels.
    """
    found = space_of(space, models.generator)
    encoder = models.encoder if "encoder" in models.networks else None

    def codes(images: Tensor) -> Tensor:
        names = [pixel_digest(image) for image in to_uint8(images)]
        task = InversionTask(models.generator, images, space, names=names, encoder=encoder, **shared)
        latents = invert(task).latents
        return task.to_ws(latents) if found.has_ws else latents

    return codes, space_of("w+", models.generator) if found.has_ws else found


def weight_deltas(
    latents: Sequence[Latent], names: Sequence[str], folder: Path, *, fingerprint: str
) -> list[WeightDelta | None]:
    """Read the weight delta of each latent from a folder; None for latents without one.

    Warns about latents whose delta is missing in the folder: their images will come from the untuned generator.
    """
    return [_delta(latent, name, folder, fingerprint) for latent, name in zip(latents, names, strict=True)]


def _delta(latent: Latent, name: str, folder: Path, fingerprint: str) -> WeightDelta | None:
    if DELTA not in latent.metadata:
        return None
    path = folder / Path(latent.metadata[DELTA]).relative_to("deltas")
    if not path.is_file():
        warnings.warn(f"'{name}' was tuned, but its weight delta is not in '{folder}': it is left out.", stacklevel=3)
        return None
    delta = load_delta(path, fingerprint=fingerprint)
    delta.check_latent(latent)
    return delta
