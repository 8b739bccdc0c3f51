"""A folder of images in, a folder of inversions out: resumable, every image's files written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.files import ensure_folder
from wplus.images import to_float, to_uint8
from wplus.inversion.report import SCORE, report
from wplus.inversion.result import Inversion, Progress
from wplus.inversion.settings import claim, describe, digest
from wplus.inversion.store import Store, output_names, pixel_digest
from wplus.inversion.table import Table
from wplus.latents import Latent, Space, check_space
from wplus.losses.perceptual import PerceptualDistance
from wplus.losses.pixel import l1, l2, psnr
from wplus.progress import Bar, bar
from wplus.tracking import Tracker


class Images(Protocol):
    """What an inversion needs of a set of images (`wplus.data.ImageSet`)."""

    names: list[str]
    labels: Tensor | None

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image numbers (B,) -> uint8 images (B, C, R, R), labels (B, c_dim)."""


def invert_folder(
    images: Images,
    *,
    models: Any,
    invert: Callable[..., Inversion],
    space: Space,
    perceptual: PerceptualDistance | None,
    output_dir: str | Path,
    batch_size: int = 8,
    seed: int = 0,
    label: int | None = None,
    tracker: Tracker | None = None,
) -> Table:
    """Invert all images into `output_dir` (see `store` for its layout) and return their scores.

    Called again with the same arguments it goes on with the images that are missing; the batch size may change. A
    folder that holds inversions with other settings is refused.

    models   as of `wplus.load`; its generator makes the images, its fingerprint is what latents are bound to
    invert   an inverter with its options bound, see `wplus.inversion.result`
    label    class of all images for a conditional generator; None takes the labels of `images`
    tracker  gets the grid, the convergence plot, the table, the mean scores and the latents
    """
    generator, fingerprint = models.generator, models.fingerprint
    check_space(space)
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} is not allowed: it must be 1 or more.")
    labels = choose_labels(images, generator, label)
    settings = {
        "space": space,
        "seed": seed,
        "generator": fingerprint,
        "perceptual": None if perceptual is None else dict(perceptual.provenance),
        "inverter": describe(invert),
    }
    folder = ensure_folder(output_dir)
    claim(folder, settings)
    store = Store(folder, fingerprint=fingerprint, settings_digest=digest(settings))
    names = output_names(images.names)
    done = [store.is_done(name, images.batch(torch.tensor([index]))[0][0]) for index, name in enumerate(names)]
    task = _Task(store, generator, invert, space, perceptual, seed)
    try:
        with bar(f"Inverting into {space} (images)", len(names), start=sum(done)) as progress:
            missing = torch.tensor([not each for each in done]).nonzero()[:, 0]
            for batch in missing.split(batch_size) if len(missing) else ():  # nothing would split into one empty batch
                task.run(images, batch, [names[index] for index in batch.tolist()], labels, progress)
                for index in batch.tolist():
                    done[index] = True
    finally:  # also when interrupted: the images that are done get their table and pictures
        finished = [name for name, is_done in zip(names, done, strict=True) if is_done]
        table = report(store, finished, settings=settings, tracker=tracker or Tracker())
    return table


class _Task:
    """Inverts a batch and stores it."""

    def __init__(
        self, store: Store, generator: Any, invert: Callable[..., Inversion], space: Space, perceptual: Any, seed: int
    ) -> None:
        self.store, self.generator, self.space, self.perceptual = store, generator, space, perceptual
        self.invert, self.seed, self.device = invert, seed, generator.mapping.w_avg.device

    def run(self, images: Images, batch: Tensor, names: list[str], labels: Tensor | None, progress: Bar) -> None:
        pixels = images.batch(batch)[0].to(self.device)  # (B, C, R, R) uint8
        some_labels = None if labels is None else labels[batch].to(self.device)

        def advance(step: Progress) -> None:
            progress.update(len(names) / step.num_steps)

        found = self.invert(
            self.generator,
            to_float(pixels),
            space=self.space,
            perceptual=self.perceptual,
            seed=self.seed,
            names=names,
            labels=some_labels,
            callback=advance,
        )
        scores = self._scores(found, pixels)
        for index, name in enumerate(names):
            label = None if some_labels is None else some_labels[index]
            self._save(name, found, index, pixels[index], label, {key: each[index] for key, each in scores.items()})

    @torch.no_grad()
    def _scores(self, found: Inversion, pixels: Tensor) -> dict[str, list[float]]:
        """Scores of the pictures as they are stored, rounded to 8 bits, against their targets."""
        stored, targets = to_float(to_uint8(found.images)), to_float(pixels)
        scores = {"l1": l1(stored, targets), "l2": l2(stored, targets), "psnr_db": psnr(stored, targets)}
        if self.perceptual is not None:
            scores[self.perceptual.name] = self.perceptual(stored, targets)
        scores["seconds"] = found.seconds
        return {key: values.tolist() for key, values in scores.items()}

    def _save(
        self, name: str, found: Inversion, index: int, target: Tensor, label: Tensor | None, scores: Mapping[str, float]
    ) -> None:
        latent = Latent(
            code=found.codes[index],
            space=self.space,
            generator=self.store.fingerprint,
            noise=None if found.noise is None else tuple(layer[index] for layer in found.noise),
            label=label,
            metadata={
                "settings": self.store.settings_digest,
                "target": pixel_digest(target),
                **{f"{SCORE}{key}": repr(value) for key, value in scores.items()},
            },
        )
        history = {term: values[:, index] for term, values in found.history.items()}
        self.store.save(name, latent, image=to_uint8(found.images[index]), target=target, history=history)


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
