"""A folder of images in, a folder of inversions out: resumable, every image's files written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.checkpoint import fingerprint
from wplus.errors import UserError
from wplus.files import ensure_folder
from wplus.images import to_float, to_uint8
from wplus.inversion.objective import image_terms
from wplus.inversion.report import SCORE, report
from wplus.inversion.result import Inversion, Progress
from wplus.inversion.scores import check_masks, scores
from wplus.inversion.settings import claim, describe, digest, uses_encoder
from wplus.inversion.store import Store, output_names, pixel_digest
from wplus.inversion.table import Table
from wplus.latents import Latent, Space, check_space
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance
from wplus.progress import Bar, bar
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
    ) -> None:
        check_space(space)
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} is not allowed: it must be 1 or more.")
        self.images, self.masks, self.invert = images, masks, invert
        self.generator, self.encoder = models.generator, getattr(models, "encoder", None)
        self.perceptual, self.losses, self.terms = perceptual, losses, image_terms(perceptual, losses)
        self.space, self.batch_size, self.seed = space, batch_size, seed
        if masks is not None:
            check_masks(self.terms, self.generator)
        self.labels = choose_labels(images, models.generator, label)
        self.names = output_names(images.names)
        self.settings = {
            "space": space,
            "seed": seed,
            "generator": models.fingerprint,
            "perceptual": None if perceptual is None else dict(perceptual.provenance),
            "losses": {name: dict(loss.provenance) for name, loss in (losses or {}).items()},
            "masked": masks is not None,
            "encoder": fingerprint(self.encoder) if self.encoder is not None and uses_encoder(invert) else None,
            "inverter": describe(invert),
        }
        folder = ensure_folder(output_dir)
        claim(folder, self.settings)
        self.store = Store(folder, fingerprint=models.fingerprint, settings_digest=digest(self.settings))
        self.done = [self._is_done(index) for index in range(len(self.names))]

    def run(self, tracker: Tracker | None = None) -> Table:
        """Invert what is missing and return the scores of all images; the tracker gets them and the pictures.

        Interrupted, it leaves complete files of the images that are done, and their table.
        """
        missing = [index for index, is_done in enumerate(self.done) if not is_done]
        try:
            with bar(f"Inverting into {self.space} (images)", len(self.names), start=sum(self.done)) as progress:
                for first in range(0, len(missing), self.batch_size):
                    self._run_batch(missing[first : first + self.batch_size], progress)
        finally:  # also when interrupted, perhaps between the last file of an image and the note that it is done
            finished = [name for index, name in enumerate(self.names) if self.done[index] or self._is_done(index)]
            table = report(self.store, finished, settings=self.settings, tracker=tracker or Tracker())
        return table

    def _is_done(self, index: int) -> bool:
        masks = self._masks([index])
        return self.store.is_done(self.names[index], self._pixels([index])[0], None if masks is None else masks[0])

    def _pixels(self, indices: list[int]) -> Tensor:
        """uint8 images (B, C, R, R)."""
        return self.images.batch(torch.tensor(indices))[0]

    def _masks(self, indices: list[int]) -> Tensor | None:
        """uint8 masks (B, 1, R, R)."""
        return None if self.masks is None else self.masks[torch.tensor(indices)]

    def _run_batch(self, indices: list[int], progress: Bar) -> None:
        device = self.generator.mapping.w_avg.device
        names, pixels = [self.names[index] for index in indices], self._pixels(indices).to(device)
        labels = None if self.labels is None else self.labels[indices].to(device)
        masks = self._masks(indices)
        weights = None if masks is None else masks.to(device) / 255
        steps = _Steps(progress, len(names))
        found = self.invert(
            self.generator, to_float(pixels), space=self.space, perceptual=self.perceptual, seed=self.seed, names=names,
            labels=labels, callback=steps, encoder=self.encoder, masks=weights, losses=self.losses,
        )  # fmt: skip
        table = scores(found, to_float(pixels), terms=self.terms, masks=weights)
        for row, (index, name) in enumerate(zip(indices, names, strict=True)):
            own = {key: values[row].item() for key, values in table.items()}
            mask = None if masks is None else masks[row]
            self._save(name, found, row, pixels[row], mask, None if labels is None else labels[row], own)
            self.done[index] = True
        steps.finish()

    def _save(
        self,
        name: str,
        found: Inversion,
        row: int,
        target: Tensor,
        mask: Tensor | None,
        label: Tensor | None,
        scores: Mapping[str, float],
    ) -> None:
        latent = Latent(
            code=found.codes[row],
            space=self.space,
            generator=self.store.fingerprint,
            noise=None if found.noise is None else tuple(layer[row] for layer in found.noise),
            label=label,
            metadata={
                "settings": self.store.settings_digest,
                "target": pixel_digest(target),
                **{f"{SCORE}{key}": repr(value) for key, value in scores.items()},
            },
        )
        history = {term: values[:, row] for term, values in found.history.items()}
        delta = None if found.deltas is None else found.deltas[row]
        image = to_uint8(found.images[row])
        self.store.save(name, latent, image=image, target=target, history=history, mask=mask, delta=delta)


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
        return None
    if label is not None:
        if not 0 <= label < generator.c_dim:
            raise UserError(f"label={label} is not allowed: this generator has the classes 0 to {generator.c_dim - 1}.")
        return torch.eye(generator.c_dim)[label].expand(len(images.names), -1)
    if images.labels is not None and images.labels.shape[1] != generator.c_dim:
        raise UserError(f"The images have {images.labels.shape[1]} classes, the generator {generator.c_dim}.")
    return images.labels
