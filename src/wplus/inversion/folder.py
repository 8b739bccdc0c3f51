"""A folder of inversions: its layout, reading and writing the files of each image, and checking their completeness.

settings.json             the settings that determine the results
images/NAME.png           the inversion       latents/NAME.safetensors   the latent, written last
targets/NAME.png          the target          history/NAME.safetensors   every term at every step
masks/NAME.png            the mask, if any                        deltas/NAME.safetensors    the weight delta, if any
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from wplus.core.files import atomic_write, write_json
from wplus.core.images import pixels_of, save_png
from wplus.data.names import without_extension
from wplus.errors import UserError
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.latents.weight_delta import WeightDelta

SETTINGS_FILE = "settings.json"
# Keys in a latent's metadata: name of the image, digest of the target, digest of the mask if there is one, path of the
# delta if there is one, digest of all files of the image.
IMAGE, TARGET, MASK, DELTA, SEAL = "image", "target", "mask", "delta", "seal"
_LONGEST = 200  # bytes of a file name without its extension


def output_names(names: Sequence[str]) -> list[str]:
    """Names of the output files without extension: those of the inputs.

    Inputs that differ only in their extension keep it: `a.jpg` and `a.png` become `a.jpg` and `a.png` (files
    `a.jpg.png` and `a.png.png`). Names that lead out of the folder are refused, very long ones shortened.
    """
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"Image names must stay inside the output folder, without '..', got '{name}'.")
    found = [without_extension(name) for name in names]
    for _ in range(2):  # twice, in case a whole name is the stem of another: a.png, a.jpg, a.png.gif
        times = Counter(each.casefold() for each in found)  # some file systems ignore case
        found = [name if times[each.casefold()] > 1 else each for name, each in zip(names, found, strict=True)]
    return [_shortened(name) for name in found]


def _shortened(name: str) -> str:
    """Shorten a name to leave room for extensions within the 255 bytes that file systems allow."""
    path = PurePosixPath(name)
    kept = path.name.encode()[:_LONGEST].decode(errors="ignore")
    return name if kept == path.name else str(path.with_name(f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"))


def pixel_digest(pixels: Tensor) -> str:
    """16 hex characters that identify uint8 pixels (C, H, W)."""
    return hashlib.sha256(np.ascontiguousarray(pixels.cpu().numpy()).tobytes()).hexdigest()[:16]


class InversionFolder:
    """The files of inversions in `folder`, for a generator and settings given by fingerprint and digest."""

    def __init__(self, folder: str | Path, *, fingerprint: str = "", settings_digest: str = "") -> None:
        self.folder, self.fingerprint, self.settings_digest = Path(folder), fingerprint, settings_digest
        self.video = self.folder / "inversion.mp4"  # the progress of the first batch, if it was filmed

    def path(self, kind: str, name: str) -> Path:
        """The file of one image, see the layout above."""
        return self.folder / kind / f"{name}.{'png' if kind in ('images', 'targets', 'masks') else 'safetensors'}"

    def names(self) -> list[str]:
        """Names of the finished images, whatever their settings."""
        folder, suffix = self.folder / "latents", ".safetensors"
        return sorted(path.relative_to(folder).as_posix().removesuffix(suffix) for path in folder.rglob(f"*{suffix}"))

    def require_names(self, names: Mapping[str, str]) -> None:
        """UserError if the latent of an image is stored under another name than in `names`, image -> output name.

        This happens if a second image of the same stem was added or removed; the stale latent would count as one more.
        """
        for found in sorted({*self.names()} - {*names.values()}):
            path = self.path("latents", found)
            try:
                image = load_latent(path, fingerprint=None).metadata.get(IMAGE, "")
            except UserError:  # damaged, so not counted as an inversion
                continue
            if image in names:
                raise UserError(
                    f"'{path}' is an earlier inversion of '{image}', whose files are called '{names[image]}' now: "
                    "delete it, or choose another run_dir."
                )

    def is_done(self, name: str, target: Tensor, mask: Tensor | None = None, label: Tensor | None = None) -> bool:
        """Whether all files of an image exist and belong to this target (C, H, W), mask (1, H, W), both uint8, and
        label (c_dim,).

        UserError if they were made with other settings. Files that are damaged, even by a single bit, or belong to an
        image that has changed since, count as missing.
        """
        latent = self.path("latents", name)
        try:
            found = load_latent(latent, fingerprint=None)
        except UserError:
            return False
        notes = found.metadata
        if notes.get("settings") != self.settings_digest:
            raise UserError(f"'{latent}' was made with other settings: delete it or choose another run_dir.")
        digests = (pixel_digest(target), None if mask is None else pixel_digest(mask))
        labels = [None if each is None else each.tolist() for each in (found.label, label)]
        is_same = (notes.get(TARGET), notes.get(MASK)) == digests and labels[0] == labels[1]
        try:
            return is_same and notes.get(SEAL) in (None, self._seal(name, found))
        except OSError:  # one of the files is missing
            return False

    def save(
        self, name: str, latent: Latent, *, image: Tensor, target: Tensor, history: Mapping[str, Tensor],
        mask: Tensor | None = None, delta: WeightDelta | None = None,
    ) -> None:  # fmt: skip
        """Write all files of one image: uint8 images (C, H, W), terms (steps,). The latent is written last, as a seal.

        Its metadata names target, mask and delta, so that the image does not count as complete without these files.
        """
        notes = {"settings": self.settings_digest, TARGET: pixel_digest(target)}
        save_png(self.path("targets", name), target)
        save_png(self.path("images", name), image)
        if mask is not None:
            notes[MASK] = pixel_digest(mask)
            save_png(self.path("masks", name), mask)
        if delta is not None:
            notes[DELTA] = self.path("deltas", name).relative_to(self.folder).as_posix()
            delta.save(self.path("deltas", name))
        terms = to_bytes({term: values.contiguous().clone() for term, values in history.items()})
        atomic_write(self.path("history", name), lambda file: file.write(terms))
        sealed = dataclasses.replace(latent, metadata={**notes, **latent.metadata})
        sealed.metadata[SEAL] = self._seal(name, sealed)
        save_latent(self.path("latents", name), sealed)

    def _seal(self, name: str, latent: Latent) -> str:
        """16 hex characters that depend on every bit of an image's files; OSError where one is missing."""
        notes = {key: value for key, value in latent.metadata.items() if key != SEAL}
        found = hashlib.sha256(json.dumps([notes, latent.space, latent.generator], sort_keys=True).encode())
        further = {"masks": MASK, "deltas": DELTA}
        for kind in ("images", "targets", "history", *(kind for kind, note in further.items() if note in notes)):
            found.update(self.path(kind, name).read_bytes())
        for tensor in (latent.code, *(latent.noise or ()), *(() if latent.label is None else (latent.label,))):
            found.update(pixel_digest(tensor.detach()).encode())
        return found.hexdigest()[:16]

    def metadata(self, name: str) -> dict[str, str]:
        """The metadata of an image's latent."""
        return load_latent(self.path("latents", name), fingerprint=self.fingerprint or None).metadata

    def image(self, kind: str, name: str) -> Tensor:
        """A picture from images, targets or masks, uint8 (C, H, W)."""
        with Image.open(self.path(kind, name)) as file:
            return pixels_of(file)

    def history(self, name: str) -> dict[str, Tensor]:
        """The history of an image, term -> (steps,)."""
        path = self.path("history", name)
        try:
            return from_bytes(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise UserError(f"Cannot read '{path}' ({error}): delete it and run again.") from error


def digest(settings: Mapping[str, Any]) -> str:
    """16 hex characters that identify settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the results in a folder; UserError if the file is missing or damaged."""
    path = folder / SETTINGS_FILE
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read '{path}' ({error}): delete the folder, or choose another.") from error


def require_same_settings(folder: Path, settings: Mapping[str, Any], *, noun: str = "inversions") -> None:
    """Write the settings to a new folder; UserError if an old one has others. `noun` names the folder's contents."""
    if not (folder / SETTINGS_FILE).is_file():
        write_json(folder / SETTINGS_FILE, settings)
        return
    old, new = read_settings(folder), json.loads(json.dumps(settings, default=str))
    if old != new:
        key, before, now = _first_difference(old, new)
        raise UserError(
            f"The folder '{folder}' holds {noun} with other settings ({key} was {before}, now {now}; "
            f"see {SETTINGS_FILE}): choose another run_dir, or delete that folder."
        )


def _first_difference(old: object, new: object, key: str = "") -> tuple[str, Any, Any]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return key or "the file", old, new
    name = next(name for name in sorted({*old, *new}) if old.get(name, ...) != new.get(name, ...))
    return _first_difference(old.get(name, "absent"), new.get(name, "absent"), f"{key}.{name}".lstrip("."))
