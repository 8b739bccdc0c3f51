"""What several commands do alike: the one place where data sets and tasks meet outside the entry points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wplus.data import ImageSet, read_image
from wplus.inversion.run import invert_folder
from wplus.inversion.store import output_names


def invert_files(
    files: Sequence[str], names: Sequence[str], *, models: Any, output_dir: Path, fit: str = "crop", **inverting: Any
) -> list[Path]:
    """Latent files of image files, in a folder of inversions that the same command again finds and continues.

    `fit` is that of `wplus.data.read_image`; `inverting` are the arguments of `FolderInversion`.
    """
    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    pixels = torch.stack([read_image(file, fit=fit, **size) for file in files])
    invert_folder(ImageSet(pixels, None, list(names)), models=models, output_dir=output_dir, **inverting)
    return [output_dir / "latents" / f"{name}.safetensors" for name in output_names(names)]
