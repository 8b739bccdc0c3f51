"""One folder of inversions: where each image's files are, whether they are complete, and how they are read back.

images/NAME.png           the inversion       latents/NAME.safetensors   the code, written last
targets/NAME.png          what it aimed at    history/NAME.safetensors   every term at every step
masks/NAME.png            where, if not everywhere                deltas/NAME.safetensors    what else belongs to it
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from wplus.core.files import atomic_write, write_json
from wplus.core.images import save_png
from wplus.errors import UserError
from wplus.inversion.result import Delta
from wplus.latents.latent import Latent, load_latent, save_latent

# Names in a latent's metadata: digest of the target, digest of the mask where there is one, has a delta.
TARGET, MASK, DELTA = "target", "mask", "delta"


def output_names(names: Sequence[str]) -> list[str]:
    """Names of the output files without extension: those of the inputs.

    Where two inputs differ in their extension alone, both keep it: `a.jpg` and `a.png` become `a.jpg` and `a.png`
    (files `a.jpg.png` and `a.png.png`). Names that lead out of the folder are refused.
    """
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"The image name '{name}' leads out of the output folder: no absolute names, no '..'.")
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    times = Counter(stem.casefold() for stem in stems)  # some file systems do not tell a from A
    return [name if times[stem.casefold()] > 1 else stem for name, stem in zip(names, stems, strict=True)]


def pixel_digest(pixels: Tensor) -> str:
    """16 hex characters that identify uint8 pixels (C, H, W)."""
    return hashlib.sha256(np.ascontiguousarray(pixels.cpu().numpy()).tobytes()).hexdigest()[:16]


class InversionFolder:
    """The files of inversions in `folder`, made with the settings of this digest for this generator."""

    def __init__(self, folder: Path, *, fingerprint: str, settings_digest: str) -> None:
        self.folder, self.fingerprint, self.settings_digest = folder, fingerprint, settings_digest

    def image(self, name: str) -> Path:
        """The inversion's picture."""
        return self.folder / "images" / f"{name}.png"

    def target(self, name: str) -> Path:
        """What the inversion aimed at, at the generator's resolution."""
        return self.folder / "targets" / f"{name}.png"

    def latent(self, name: str) -> Path:
        """The latent file."""
        return self.folder / "latents" / f"{name}.safetensors"

    def history_file(self, name: str) -> Path:
        """Terms of the loss over the steps."""
        return self.folder / "history" / f"{name}.safetensors"

    def mask(self, name: str) -> Path:
        """Where the target counts, as a grey picture; only where not all of it does."""
        return self.folder / "masks" / f"{name}.png"

    def delta(self, name: str) -> Path:
        """What the inverter made besides the code, see `result.Delta`; only where it makes that."""
        return self.folder / "deltas" / f"{name}.safetensors"

    @property
    def film(self) -> Path:
        """How the first batch got better, where it was filmed."""
        return self.folder / "inversion.mp4"

    def names(self) -> list[str]:
        """The images that are done, whatever their settings."""
        folder, suffix = self.folder / "latents", ".safetensors"
        return sorted(path.relative_to(folder).as_posix().removesuffix(suffix) for path in folder.rglob(f"*{suffix}"))

    def is_done(self, name: str, target: Tensor, mask: Tensor | None = None) -> bool:
        """Whether all files of an image are here and belong to this target (C, H, W) and mask (1, H, W), both uint8.

        UserError when they were made with other settings or another generator. Damaged files, and those of a picture
        that has changed since, count as missing.
        """
        files = (self.image(name), self.target(name), self.history_file(name), self.latent(name))
        if not all(path.is_file() for path in files):
            return False
        try:
            metadata = load_latent(self.latent(name), fingerprint=None).metadata
        except UserError:
            return False
        if metadata.get("settings") != self.settings_digest:
            raise UserError(f"'{self.latent(name)}' was made with other settings: delete it or choose another run_dir.")
        extra = [*([self.mask(name)] if MASK in metadata else []), *([self.delta(name)] if DELTA in metadata else [])]
        theirs = None if mask is None else pixel_digest(mask)
        same = metadata.get(TARGET) == pixel_digest(target) and metadata.get(MASK) == theirs
        return same and all(path.is_file() for path in extra)

    def save(
        self,
        name: str,
        latent: Latent,
        *,
        image: Tensor,
        target: Tensor,
        history: Mapping[str, Tensor],
        mask: Tensor | None = None,
        delta: Delta | None = None,
    ) -> None:
        """Write all files of one image: uint8 pictures (C, H, W), terms (steps,); the latent comes last, as a seal.

        It gets notes of the mask and of the delta, so that it is not taken for complete without their files.
        """
        notes = {
            **({} if mask is None else {MASK: pixel_digest(mask)}),
            **({} if delta is None else {DELTA: self.delta(name).relative_to(self.folder).as_posix()}),
        }
        save_png(self.target(name), target)
        save_png(self.image(name), image)
        if mask is not None:
            save_png(self.mask(name), mask)
        if delta is not None:
            delta.save(self.delta(name))
        terms = to_bytes({term: values.contiguous().clone() for term, values in history.items()})
        atomic_write(self.history_file(name), lambda file: file.write(terms))
        save_latent(self.latent(name), dataclasses.replace(latent, metadata={**latent.metadata, **notes}))

    def metadata(self, name: str) -> dict[str, str]:
        """What was noted about an image."""
        return load_latent(self.latent(name), fingerprint=self.fingerprint).metadata

    def pictures(self, name: str) -> tuple[Tensor, Tensor]:
        """Target and inversion, uint8 (C, H, W)."""
        return _read_png(self.target(name)), _read_png(self.image(name))

    def read_mask(self, name: str) -> Tensor:
        """The mask, uint8 (1, H, W)."""
        return _read_png(self.mask(name))

    def history(self, name: str) -> dict[str, Tensor]:
        """Term -> (steps,)."""
        try:
            return from_bytes(self.history_file(name).read_bytes())
        except (OSError, SafetensorError) as error:
            raise UserError(f"Cannot read '{self.history_file(name)}' ({error}): delete it and run again.") from error


def _read_png(path: Path) -> Tensor:
    with Image.open(path) as image:
        pixels = np.array(image)
    return torch.from_numpy(pixels[:, :, None] if pixels.ndim == 2 else pixels).permute(2, 0, 1)


SETTINGS_FILE = "settings.json"
_GIVEN_PER_CALL = (
    "generator",
    "targets",
    "space",
    "perceptual",
    "seed",
    "names",
    "labels",
    "callback",
    "encoder",
    "masks",
    "losses",
)


def describe(invert: Callable[..., Any]) -> dict[str, Any]:
    """The function behind an inverter and the values of its options, defaults included; UserError for a wrong one.

    An option that is an inverter itself is described in turn.
    """
    invert, options = _unwrapped(invert)
    name = f"{invert.__module__}.{getattr(invert, '__qualname__', type(invert).__qualname__)}"
    parameters = inspect.signature(invert).parameters.values()
    optional = [each for each in parameters if each.default is not inspect.Parameter.empty]
    allowed = {each.name: each.default for each in optional if each.name not in _GIVEN_PER_CALL}
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise UserError(f"{name} has no option '{unknown[0]}': its options are {', '.join(allowed)}.")
    values = {**allowed, **options}
    return {"function": name, **{key: describe(each) if callable(each) else each for key, each in values.items()}}


def uses_encoder(invert: Callable[..., Any]) -> bool:
    """Whether an inverter, or one among its options, starts from an encoder or cannot do without."""
    invert, options = _unwrapped(invert)
    parameters = inspect.signature(invert).parameters
    needs = "encoder" in parameters and parameters["encoder"].default is inspect.Parameter.empty
    inner = [each for each in options.values() if callable(each)]
    return needs or options.get("start") == "encoder" or any(map(uses_encoder, inner))


def _unwrapped(invert: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function behind partials, and what they bind."""
    options: dict[str, Any] = {}
    while isinstance(invert, functools.partial):
        options = {**invert.keywords, **options}
        invert = invert.func
    return invert, options


def digest(settings: Mapping[str, Any]) -> str:
    """16 hex characters that identify settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def require_same_settings(folder: Path, settings: Mapping[str, Any], *, noun: str = "inversions") -> None:
    """Write the settings into a new folder, or check that an old one was made with the same; UserError if not.

    `noun` is what the folder holds.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        write_json(path, settings)
        return
    try:
        old = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"Cannot read '{path}' ({error}): delete the folder, or choose another run_dir.") from error
    new = json.loads(json.dumps(settings, default=str))
    if old != new:
        key, before, now = _first_difference(old, new)
        raise UserError(
            f"The folder '{folder}' holds {noun} with other settings ({key} was {before}, now {now}): "
            "choose another run_dir, or delete that folder."
        )


def _first_difference(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return key or "the file", old, new
    name = next(name for name in sorted({*old, *new}) if old.get(name, ...) != new.get(name, ...))
    return _first_difference(old.get(name, "absent"), new.get(name, "absent"), f"{key}.{name}".lstrip("."))
