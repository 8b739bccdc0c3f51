"""Invert a set of images into a folder: resumable, with the files of each image written atomically."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.checkpoint import Models, fingerprint
from wplus.core.batching import MIN_MADE, resolve_chunk_size
from wplus.core.files import ensure_folder
from wplus.core.images import to_float, to_uint8
from wplus.core.progress import Bar
from wplus.core.tables import Table
from wplus.data.image_set import ImageSet, LazyImages
from wplus.errors import UserError, check_choice, check_number
from wplus.inversion.encoder import check_encoder
from wplus.inversion.folder import IMAGE, InversionFolder, digest, output_names, require_same_settings
from wplus.inversion.objective import image_terms
from wplus.inversion.report import InversionVideo, read_ground_truth, report, score_notes, scores, with_marks
from wplus.inversion.result import Inversion
from wplus.inversion.task import InversionTask, Inverter, Progress, check_inverter, describe, uses_encoder
from wplus.latents.labels import Label, read_label
from wplus.latents.latent import Latent
from wplus.latents.space import Space
from wplus.models.generator import GeneratorNetwork
from wplus.tracking import Tracker


class FolderInversion:
    """The inversion of all images into `output_dir` (see `folder` for its layout).

    The constructor validates everything and raises a UserError for anything that cannot work, such as a folder of
    inversions with other settings. `run` then processes the images that are missing; the batch size may change.

    Args:
        models: latents are bound to its generator's fingerprint; its encoder, if any, is passed to the inverter.
        invert: an inverter with its options bound, see `wplus.inversion.task`.
        masks: weights of the pixels, uint8 (N, 1, R, R), 255 is full weight; None: all pixels.
        batch_size: images that are inverted, and then written, together; None: as many as are computed at once.
        label: for all images of a conditional generator, a class number or a vector; None: the labels of `images`.
        ground_truth: folder of the images' true latents, if they are known: adds the score `latent_error`.
        video: keep: films the first batch, see `InversionVideo`, unless a video exists.
        shared: further fields of `InversionTask`, such as perceptual, losses and seed.
    """

    def __init__(
        self, images: ImageSet, *, models: Models, invert: Inverter, space: Space, output_dir: str | Path,
        masks: Tensor | LazyImages | None = None, batch_size: int | None = None, label: Label = None,
        ground_truth: str | Path | None = None, video: Literal["drop", "keep"] = "drop", **shared: Any,
    ) -> None:  # fmt: skip
        if batch_size is not None:
            check_number("batch_size", batch_size, lowest=1, whole=True)
        check_choice("video", video, ("drop", "keep"))
        generator = models.generator
        self.images, self.masks, self.invert = images, masks, invert
        self.video, self.names = video, output_names(images.names)
        self.labels = choose_labels(images, generator, label)
        self.task = InversionTask(  # without images yet
            generator, torch.zeros(0, generator.img_channels, generator.resolution, generator.resolution), space,
            labels=None if self.labels is None else self.labels[:0],
            masks=None if masks is None else torch.zeros(0, 1, generator.resolution, generator.resolution),
            encoder=models.encoder if "encoder" in models.networks else None, **shared,
        )  # fmt: skip
        at_once = resolve_chunk_size(self.task.chunk_size, generator.resolution, generator.mapping.w_avg.device)
        self.batch_size = batch_size or max(MIN_MADE, at_once)
        self.terms = image_terms(self.task)
        if masks is not None:
            self._check_masks()
        check_inverter(invert, self.task.latent_space)
        encoder = check_encoder(self.task.encoder, generator, space) if uses_encoder(invert) else None
        self.true_ws = None if ground_truth is None else read_ground_truth(ground_truth, self.names, models)
        self.settings = {
            **self.task.settings(),
            "generator": models.fingerprint,
            "ground_truth": None if ground_truth is None else str(ground_truth),
            "encoder": None if encoder is None else fingerprint(encoder),
            "inverter": describe(invert),
            **({"saw": list(models.saw)} if models.saw else {}),
        }
        self.saw = models.saw
        folder = ensure_folder(output_dir)
        require_same_settings(folder, self.settings)
        self.store = InversionFolder(folder, fingerprint=models.fingerprint, settings_digest=digest(self.settings))
        self.store.require_names(dict(zip(images.names, self.names, strict=True)))
        self.done = [self._is_done(index) for index in range(len(self.names))]

    def _check_masks(self) -> None:
        """Raise an error before any work if a loss term does not support masks."""
        device = self.task.generator.mapping.w_avg.device
        image = torch.zeros(1, *self.task.images.shape[1:], device=device)
        for term in self.terms.values():
            term(image, image, torch.ones_like(image[:, :1]))

    def run(self, tracker: Tracker | None = None, *, has_pictures: bool = True) -> Table:
        """Invert the missing images and return the scores of all; scores, and with `has_pictures` images, are tracked.

        If interrupted, it leaves complete files and a table of the finished images.
        """
        missing = [index for index, is_done in enumerate(self.done) if not is_done]
        try:
            with Bar(f"Inverting into {self.task.space} (images)", len(self.names), start=sum(self.done)) as progress:
                for first in range(0, len(missing), self.batch_size):
                    self._run_batch(missing[first : first + self.batch_size], progress)
        finally:  # also if interrupted, possibly between the last file of an image and marking it as done
            finished = [name for index, name in enumerate(self.names) if self.done[index] or self._is_done(index)]
            table = report(self.store, finished, settings=self.settings, tracker=tracker or Tracker(),
                           has_pictures=has_pictures)  # fmt: skip
        return table

    def _run_batch(self, indices: Sequence[int], progress: Bar) -> None:
        """Invert the images with these indices and store the results."""
        pixels, masks = self._pixels(indices)
        device, names = self.task.generator.mapping.w_avg.device, [self.names[index] for index in indices]
        task = replace(
            self.task, images=to_float(pixels.to(device)), names=names,
            labels=None if self.labels is None else self.labels[list(indices)],
            masks=None if masks is None else masks.to(device) / 255,
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            video = None
            if self.video == "keep" and not self.store.video.is_file():
                video = stack.enter_context(InversionVideo(self.store.video, task.images))
            steps = _Steps(progress, len(indices), video)
            found = self.invert(replace(task, callback=steps))
            steps.reach(1.0)  # skipped steps count as done
            if video is not None:
                video.finish(found.images)
        self._store(task, found, indices, pixels, masks)

    def _store(
        self, task: InversionTask, found: Inversion, indices: Sequence[int], pixels: Tensor, masks: Tensor | None
    ) -> None:
        """Write the files of all images of a batch; pixels uint8 (B, C, R, R), masks uint8 (B, 1, R, R)."""
        names = list(task.names)
        true_ws = None if self.true_ws is None else torch.stack([self.true_ws[name] for name in names])
        columns = with_marks(scores(found, task, self.terms, true_ws), self.terms, self.saw)
        for row, index in enumerate(indices):
            latent = Latent(
                found.latents[row], task.space, self.store.fingerprint,
                noise=None if found.noise is None else tuple(layer[row] for layer in found.noise),
                label=None if task.labels is None else task.labels[row],
                metadata={IMAGE: self.images.names[index], **score_notes(columns, row)},
            )  # fmt: skip
            self.store.save(
                names[row], latent, image=to_uint8(found.images[row]), target=pixels[row],
                mask=None if masks is None else masks[row],
                history={term: values[:, row] for term, values in found.history.items()},
                delta=None if found.deltas is None else found.deltas[row],
            )  # fmt: skip
            self.done[index] = True

    def _pixels(self, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """uint8 images (B, C, R, R) and, if there are any, masks (B, 1, R, R)."""
        numbers = torch.tensor(indices)
        return self.images.batch(numbers)[0], None if self.masks is None else self.masks[numbers]

    def _is_done(self, index: int) -> bool:
        pixels, masks = self._pixels([index])
        label = None if self.labels is None else self.labels[index]
        return self.store.is_done(self.names[index], pixels[0], None if masks is None else masks[0], label)


class _Steps:
    """A callback that advances a bar over images by the share of a batch's steps done, and feeds a video."""

    def __init__(self, progress: Bar, num: int, video: InversionVideo | None) -> None:
        self._progress, self._num, self._video, self._share = progress, num, video, 0.0

    def __call__(self, step: Progress) -> None:
        self.reach(step.step / step.num_steps)
        if self._video is not None:
            self._video(step)

    def reach(self, share: float) -> None:
        """Advance the bar to this share; it never moves back."""
        if share > self._share:
            self._progress.update(self._num * (share - self._share))
            self._share = share


def choose_labels(images: ImageSet, generator: GeneratorNetwork, label: Label) -> Tensor | None:
    """Labels (N, c_dim) of the images for a conditional generator: `label` for all, or their own; otherwise None."""
    chosen = read_label(label, generator)
    if chosen is not None or not generator.c_dim:
        return None if chosen is None else chosen.expand(len(images.names), -1)
    if images.labels is not None and images.labels.shape[1] != generator.c_dim:
        raise UserError(f"images must have the generator's {generator.c_dim} classes, got {images.labels.shape[1]}.")
    return images.labels
