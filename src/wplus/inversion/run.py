"""A folder of images in, a folder of inversions out: resumable, every image's files written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from wplus.checkpoint import fingerprint
from wplus.core.files import ensure_folder
from wplus.core.images import to_float, to_uint8
from wplus.core.progress import Bar
from wplus.core.tables import Table
from wplus.errors import UserError
from wplus.inversion.encoding import check_encoder
from wplus.inversion.folder import (
    TARGET,
    InversionFolder,
    describe,
    digest,
    output_names,
    pixel_digest,
    require_same_settings,
    uses_encoder,
)
from wplus.inversion.ground_truth import Truth
from wplus.inversion.objective import image_terms
from wplus.inversion.report import SCORE, InversionFilm, check_masks, report, scores
from wplus.inversion.result import Callback, Inversion, Progress
from wplus.latents.latent import Latent, Space, check_space, to_ws
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance
from wplus.tracking import Tracker


class Images(Protocol):
    """What an inversion needs of a set of images (`wplus.data.ImageSet`)."""

    names: list[str]
    labels: Tensor | None

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image numbers (B,) -> uint8 images (B, C, R, R), labels (B, c_dim)."""


class Masks(Protocol):
    """Where images count: a uint8 tensor (N, 1, R, R), or what is indexed like one; 255 is fully."""

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Image numbers (B,) -> uint8 masks (B, 1, R, R)."""


class FolderInversion:
    """The inversion of all images into `output_dir` (see `store` for its layout).

    Constructing it checks everything and refuses, with a UserError, what cannot work: among others a folder that holds
    inversions with other settings. `run` then goes on with the images that are missing; the batch size may change.

    models   as of `wplus.load`; its generator makes the images, its fingerprint is what latents are bound to; its
             encoder, where there is one, is offered to the inverter
    invert   an inverter with its options bound, see `wplus.inversion.result`
    losses   further image terms by name: for the inverter, and as scores
    masks    where the images count; None: everywhere
    label    class of all images for a conditional generator; None takes the labels of `images`
    truth    folder of the images' true latents, where they are known: adds the score `latent_error`
    video    keep: films the first batch that is inverted, see `film.InversionFilm`, if that was not done before
    """

    def __init__(
        self,
        images: Images,
        *,
        models: Any,
        invert: Callable[..., Inversion],
        space: Space,
        perceptual: PerceptualDistance | None,
        output_dir: str | Path,
        losses: Mapping[str, ImageDistance] | None = None,
        masks: Masks | None = None,
        batch_size: int = 8,
        seed: int = 0,
        label: int | None = None,
        truth: str | Path | None = None,
        video: Literal["drop", "keep"] = "drop",
    ) -> None:
        check_space(space)
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} is not allowed: it must be 1 or more.")
        if video not in ("drop", "keep"):
            raise UserError(f"video={video} is not allowed: choose one of drop, keep.")
        self.images, self.masks, self.invert = images, masks, invert
        self.generator, self.encoder = models.generator, models.networks.get("encoder")
        self.perceptual, self.losses, self.terms = perceptual, losses, image_terms(perceptual, losses)
        self.space, self.batch_size, self.seed, self.video = space, batch_size, seed, video
        if masks is not None:
            check_masks(self.terms, self.generator)
        encoded = uses_encoder(invert)
        if encoded:
            check_encoder(self.encoder, self.generator, space)
        self.labels = choose_labels(images, models.generator, label)
        self.names = output_names(images.names)
        known = {"generator": self.generator, "fingerprint": models.fingerprint}
        self.truth = None if truth is None else Truth(truth, self.names, **known)
        self.settings = {
            "space": space,
            "seed": seed,
            "generator": models.fingerprint,
            "perceptual": None if perceptual is None else dict(perceptual.provenance),
            "losses": {name: dict(loss.provenance) for name, loss in (losses or {}).items()},
            "masked": masks is not None,
            "truth": None if truth is None else str(truth),
            "encoder": fingerprint(self.encoder) if encoded else None,
            "inverter": describe(invert),
        }
        folder = ensure_folder(output_dir)
        require_same_settings(folder, self.settings)
        self.store = InversionFolder(folder, fingerprint=models.fingerprint, settings_digest=digest(self.settings))
        self.done = [self._is_done(index) for index in range(len(self.names))]

    def run(self, tracker: Tracker | None = None) -> Table:
        """Invert what is missing and return the scores of all images; the tracker gets them and the pictures.

        Interrupted, it leaves complete files of the images that are done, and their table.
        """
        missing = [index for index, is_done in enumerate(self.done) if not is_done]
        try:
            with Bar(f"Inverting into {self.space} (images)", len(self.names), start=sum(self.done)) as progress:
                for first in range(0, len(missing), self.batch_size):
                    self._run_batch(self._batch(missing[first : first + self.batch_size]), progress)
        finally:  # also when interrupted, perhaps between the last file of an image and the note that it is done
            finished = [name for index, name in enumerate(self.names) if self.done[index] or self._is_done(index)]
            table = report(self.store, finished, settings=self.settings, tracker=tracker or Tracker())
        return table

    @cached_property
    def _whitened(self) -> Whitened:
        return Whitened.of(self.generator)

    def _is_done(self, index: int) -> bool:
        one = self._batch([index])
        return self.store.is_done(self.names[index], one.pixels[0], one.mask(0))

    def _batch(self, indices: list[int]) -> Batch:
        pixels = self.images.batch(torch.tensor(indices))[0]
        masks = None if self.masks is None else self.masks[torch.tensor(indices)]
        labels = None if self.labels is None else self.labels[indices]
        return Batch(indices, [self.names[index] for index in indices], pixels, masks, labels)

    def _run_batch(self, batch: Batch, progress: Bar) -> None:
        batch = batch.to(self.generator.mapping.w_avg.device)
        steps = _Steps(progress, len(batch.names))
        with contextlib.ExitStack() as stack:
            film = stack.enter_context(InversionFilm(self.store.film, batch.targets)) if self._is_to_film() else None
            found = self.invert(
                self.generator, batch.targets, space=self.space, perceptual=self.perceptual, seed=self.seed,
                names=batch.names, labels=batch.labels, encoder=self.encoder, masks=batch.weights, losses=self.losses,
                callback=_each([steps, *([film] if film else [])]),
            )  # fmt: skip
            if film:
                film.finish(found.images)
        ws = to_ws(found.codes, self.space, self.generator, labels=batch.labels)
        measures = {"terms": self.terms, "masks": batch.weights, "whitened": self._whitened}
        table = scores(found, ws, batch.targets, **measures)
        if self.truth is not None:
            table["latent_error"] = self.truth.errors(batch.names, ws)
        for row, index in enumerate(batch.indices):
            self._save(batch, row, found, {key: values[row].item() for key, values in table.items()})
            self.done[index] = True
        steps.finish()

    def _is_to_film(self) -> bool:
        return self.video == "keep" and not self.store.film.is_file()

    def _save(self, batch: Batch, row: int, found: Inversion, scores: Mapping[str, float]) -> None:
        latent = Latent(
            code=found.codes[row],
            space=self.space,
            generator=self.store.fingerprint,
            noise=None if found.noise is None else tuple(layer[row] for layer in found.noise),
            label=None if batch.labels is None else batch.labels[row],
            metadata={
                "settings": self.store.settings_digest,
                TARGET: pixel_digest(batch.pixels[row]),
                **{f"{SCORE}{key}": repr(value) for key, value in scores.items()},
            },
        )
        self.store.save(
            batch.names[row], latent, image=to_uint8(found.images[row]), target=batch.pixels[row], mask=batch.mask(row),
            history={term: values[:, row] for term, values in found.history.items()},
            delta=None if found.deltas is None else found.deltas[row],
        )  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Images that are inverted together: their numbers and names, uint8 pixels (B, C, R, R), masks, labels."""

    indices: list[int]
    names: list[str]
    pixels: Tensor
    masks: Tensor | None  # uint8 (B, 1, R, R)
    labels: Tensor | None  # (B, c_dim)

    @property
    def targets(self) -> Tensor:
        """The pixels in [-1, 1]."""
        return to_float(self.pixels)

    @property
    def weights(self) -> Tensor | None:
        """The masks in [0, 1]."""
        return None if self.masks is None else self.masks / 255

    def mask(self, row: int) -> Tensor | None:
        """One mask, uint8 (1, R, R)."""
        return None if self.masks is None else self.masks[row]

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        moved = [None if each is None else each.to(device) for each in (self.pixels, self.masks, self.labels)]
        return Batch(self.indices, self.names, *moved)


def _each(callbacks: Sequence[Callback]) -> Callback:
    """One callback that tells all of them."""

    def tell(progress: Progress) -> None:
        for callback in callbacks:
            callback(progress)

    return tell


class _Steps:
    """Moves a bar of images by the share of a batch's steps that are done."""

    def __init__(self, progress: Bar, num: int) -> None:
        self._progress, self._num, self._share = progress, num, 0.0

    def __call__(self, step: Progress) -> None:
        self._reach(step.step / step.num_steps)

    def finish(self) -> None:
        """Steps that were not needed, and what came after the last one, are done too."""
        self._reach(1.0)

    def _reach(self, share: float) -> None:
        if share > self._share:
            self._progress.update(self._num * (share - self._share))
            self._share = share


def invert_folder(images: Images, *, tracker: Tracker | None = None, **arguments: Any) -> Table:
    """`FolderInversion(images, **arguments).run(tracker)` in one call."""
    return FolderInversion(images, **arguments).run(tracker)


def choose_labels(images: Images, generator: Any, label: int | None) -> Tensor | None:
    """Labels (N, c_dim) of the images for a conditional generator: all of class `label`, or their own; else None."""
    if not generator.c_dim:
        if label is not None:
            raise UserError(
                f"label={label} does not fit the generator; allowed: null, as the generator has no classes."
            )
        return None
    if label is not None:
        if not 0 <= label < generator.c_dim:
            raise UserError(f"label={label} is not allowed: this generator has the classes 0 to {generator.c_dim - 1}.")
        return torch.eye(generator.c_dim)[label].expand(len(images.names), -1)
    if images.labels is not None and images.labels.shape[1] != generator.c_dim:
        raise UserError(f"The images have {images.labels.shape[1]} classes, the generator {generator.c_dim}.")
    return images.labels
