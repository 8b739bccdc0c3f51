"""Translate images into a folder: resumable, with atomic file writes, scored against the truth if it is known.

settings.json     the settings that determine the results
images/NAME.png   the translation, with metadata on how it was made      inputs/NAME.png   the input image
truth/NAME.png    the target image, if known                             grid.png, table.csv, table.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from wplus.checkpoint import Models, fingerprint
from wplus.core.batching import in_batches
from wplus.core.files import ensure_folder
from wplus.core.images import grouped_rows, pixels_of, save_png, to_float, to_uint8
from wplus.core.metric_result import MetricResult
from wplus.core.progress import Bar
from wplus.core.tables import Table
from wplus.data.image_set import ImageSet
from wplus.errors import UserError, check_choice, check_number
from wplus.evaluation.translation_scores import Judges, factor_shares, image_columns
from wplus.inversion.folder import digest, output_names, pixel_digest, require_same_settings
from wplus.models.translation.base import TranslatorNetwork
from wplus.tracking import Tracker

Direction = Literal["forward", "backward"]
ROLES: dict[Direction, str] = {"forward": "generator", "backward": "generator_backward"}
OPPOSITE: dict[Direction, Direction] = {"forward": "backward", "backward": "forward"}
MODES = ("inference", "batch")
NOTE = "wplus"  # key of the PNG text that records how an image was made
_MAX_ROWS, _GROUPS_PER_ROW, _BATCH = 16, 2, 64


def translator_of(models: Models, direction: Direction) -> TranslatorNetwork:
    """Return the network of a direction; UserError if the checkpoint has none."""
    check_choice("direction", direction, ROLES)
    role = ROLES[direction]
    if role not in models.networks and "generator" in models.networks and direction == "backward":
        raise UserError(f"'{models.path}' translates forward only: direction=backward needs a CycleGAN.")
    network = models.need(role)
    if not isinstance(network, TranslatorNetwork):
        raise UserError(f"The {role} in '{models.path}' makes images of latents and translates none; see wplus invert.")
    return network


class FolderTranslation:
    """Translation of all images into `output_dir`; see the module for the folder's layout.

    The constructor raises UserError for anything that cannot work, including a folder created with other settings;
    `run` continues with whatever is missing. The batch size does not affect the results.

    Args:
        images: uint8 images with the translator's number of channels and a size it accepts.
        models: models of a checkpoint.
        direction: "forward" or "backward".
        mode: normalisation mode: "inference", or "batch" for each image's own statistics, as pix2pix is tested.
        truth: target images in the same order; None if unknown.
        judges: distances and classifier for comparison with the truth.
    """

    def __init__(
        self, images: ImageSet, *, models: Models, direction: Direction, output_dir: str | Path,
        mode: Literal["inference", "batch"] = "inference", truth: ImageSet | None = None, judges: Judges | None = None,
        batch_size: int = 16,
    ) -> None:  # fmt: skip
        check_number("batch_size", batch_size, lowest=1, whole=True)
        check_choice("mode", mode, MODES)
        self.network = translator_of(models, direction)
        other = models.networks.get(ROLES[OPPOSITE[direction]])
        self.way_back = other if isinstance(other, TranslatorNetwork) else None
        _check_images(self.network, images, truth)
        self.images, self.truth, self.judges = images, truth, judges or Judges()
        self.direction, self.mode, self.batch_size = direction, mode, batch_size
        self.names = output_names(images.names)
        self.settings = {
            "translator": fingerprint(self.network), "direction": direction, "mode": mode,
            "resolution": images.resolution,
        }  # fmt: skip
        self.folder = ensure_folder(output_dir)
        require_same_settings(self.folder, self.settings, noun="translations")
        self._digest = digest(self.settings)

    def run(self, tracker: Tracker | None = None) -> tuple[Table, list[MetricResult]]:
        """Translate the missing images; return the scores of all finished images and their factor shares.

        If interrupted, it leaves complete files for the finished images, and their table.
        """
        missing = [index for index in range(len(self.names)) if not self._is_done(index)]
        done = len(self.names) - len(missing)
        try:
            with Bar(f"Translating {self.direction} (images)", len(self.names), start=done) as progress:
                for first in range(0, len(missing), self.batch_size):
                    progress.update(self._run_batch(missing[first : first + self.batch_size]))
        finally:
            finished = [index for index in range(len(self.names)) if self._is_done(index)]
            found = self._report(finished, tracker or Tracker())
        return found

    def _run_batch(self, indices: Sequence[int]) -> int:
        pixels = self.images.batch(torch.tensor(indices))[0]
        outputs = to_uint8(translated(self.network, to_float(pixels), mode=self.mode))
        for index, image, made in zip(indices, pixels, outputs, strict=True):
            name = self.names[index]
            save_png(self._path("inputs", name), image)
            if self.truth is not None:
                save_png(self._path("truth", name), self.truth.batch(torch.tensor([index]))[0][0])
            save_png(self._path("images", name), made, notes={NOTE: json.dumps(self._note(image, made))})
        return len(indices)

    def _note(self, image: Tensor, made: Tensor) -> dict[str, str]:
        """Metadata stored in a translation: digests of the settings, the input and the output."""
        return {"settings": self._digest, "input": pixel_digest(image), "output": pixel_digest(made)}

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.png"

    def _is_done(self, index: int) -> bool:
        """Whether an intact translation of exactly this image exists."""
        path = self._path("images", self.names[index])
        image = self.images.batch(torch.tensor([index]))[0][0]
        try:
            with Image.open(path) as file:
                note, made = json.loads(file.info.get(NOTE, "{}")), pixels_of(file)
            return note == self._note(image, made) and self._path("inputs", self.names[index]).is_file()
        except (OSError, ValueError, SyntaxError):  # missing or damaged, for which Pillow raises several types
            return False

    def _report(self, indices: Sequence[int], tracker: Tracker) -> tuple[Table, list[MetricResult]]:
        """Write table, grid and factor shares of the finished images, all computed from the stored files."""
        names = [self.names[index] for index in indices]
        if not names:
            return Table({}), []
        truth = None if self.truth is None else self.truth.subset(torch.tensor(indices))
        outputs = torch.stack([self.read("images", name) for name in names])
        columns = image_columns(
            self.images.subset(torch.tensor(indices)), outputs, truth, judges=self.judges, way_back=self._back
        )
        rows = {name: {column: score.values[row].item() for column, score in columns.items()}
                for row, name in enumerate(names)}  # fmt: skip
        table = Table(rows, info={column: score.info for column, score in columns.items()})
        protocol = {**self.settings, "num_images": len(names), "images": self.images.fingerprint,
                    "pixels": "8 bits, range [-1, 1]", "interval": "95 % bootstrap"}  # fmt: skip
        table.write(self.folder, protocol)
        shares = list(factor_shares(self.images.subset(torch.tensor(indices)), outputs, truth, judges=self.judges))
        tracker.image(
            "translate/grid", self._grid(names), caption="input, translation, and the truth where it is known"
        )
        tracker.summary(table.entries("translate/", protocol))
        tracker.results(shares)
        return table, shares

    def _back(self, outputs: Tensor) -> Tensor | None:
        """Translate translations in [-1, 1] back with the other translator; None if there is none."""
        return None if self.way_back is None else translated(self.way_back, outputs, mode=self.mode)

    def read(self, kind: str, name: str) -> Tensor:
        """Read an image of the folder as uint8 (C, H, W); `kind` is "images", "inputs" or "truth"."""
        with Image.open(self._path(kind, name)) as file:
            return pixels_of(file)

    def _grid(self, names: Sequence[str]) -> Path:
        kinds = {"inputs": "input", "images": "translation", **({} if self.truth is None else {"truth": "truth"})}
        grid = grouped_rows(names[:_MAX_ROWS], kinds, self.read, per_row=_GROUPS_PER_ROW)
        return save_png(self.folder / "grid.png", grid)


@torch.no_grad()
def translated(network: TranslatorNetwork, images: Tensor, *, mode: str = "inference") -> Tensor:
    """Translate images (N, C, H, W) in [-1, 1] -> (N, D, H, W) on the CPU; on a CPU bit-identical for any batching."""
    device = next(network.parameters()).device

    def through(rows: Tensor) -> list[Tensor]:
        rows = rows.to(device)
        if mode == "inference":
            return [network(rows, mode="inference").cpu()]
        return [torch.cat([network(row, mode="batch").cpu() for row in rows.split(1)])]  # each with its own statistics

    return in_batches(through, images, _BATCH)[0]


def _check_images(network: TranslatorNetwork, images: ImageSet, truth: ImageSet | None) -> None:
    if images.img_channels != network.in_channels:
        raise UserError(
            f"The images have {images.img_channels} channel(s), this translator takes {network.in_channels}: give "
            "images of the domain that it translates, direction=forward or backward."
        )
    if images.resolution % network.size_divisor:
        raise UserError(
            f"resolution={images.resolution} is refused: this translator takes sizes that are multiples of "
            f"{network.size_divisor}."
        )
    if truth is not None and (len(truth), truth.img_channels) != (len(images), network.img_channels):
        raise UserError(
            f"The truth must be {len(images)} image(s) of {network.img_channels} channel(s), got {len(truth)} of "
            f"{truth.img_channels}."
        )
