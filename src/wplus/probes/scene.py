"""One moment of a training as looks see it: images, features and logits that several of them need are made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.images import as_uint8, to_float
from wplus.core.random import rng
from wplus.core.runtime import eval_mode
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.sampler import LATENT, normal, random_labels
from wplus.pretrained.effnet_lite0_features import EffNetLite0Features
from wplus.pretrained.extractor import Extractor
from wplus.training.gan import GanModule
from wplus.training.snapshot import LogMessage

Which = Literal["generated", "train", "held_out"]
BATCH = 32  # images that are made, or looked at, together
KEPT_BYTES = 2**28  # of generated images; more are made again for each use


class ProbeData:
    """What stays as it is from moment to moment: the real images, the extractor, and what it says of them.

    data      training images (ImageSet)
    held_out  reads those that training does not see, when they are first asked for
    seed      of the choice of images and latents
    extractor the net whose features are compared (`wplus.pretrained.extractor`); None: the default one
    """

    def __init__(
        self, data: ImageSet, held_out: Callable[[], ImageSet], *, seed: int, extractor: Extractor | None = None
    ) -> None:
        self.data, self.seed, self._read_held_out, self._extractor = data, seed, held_out, extractor
        self.unsaid: list[LogMessage] = []
        """What has come up here and is still to be said."""
        self._features: dict[tuple[str, int], Tensor] = {}

    @cached_property
    def held_out(self) -> ImageSet | None:
        """None where there are none, which is said once."""
        try:
            return self._read_held_out()
        except UserError as error:
            self.unsaid.append(LogMessage(f"What needs held-out images is left out. {error}"))
            return None

    @cached_property
    def extractor(self) -> Extractor:
        """Made when it is first asked for, on the CPU until a scene moves it."""
        return (self._extractor or EffNetLite0Features()).eval()

    def images_of(self, which: Which) -> ImageSet:
        """One of the two sets."""
        found = self.data if which == "train" else self.held_out
        assert found is not None, "without held-out images a look leaves out what needs them"
        return found

    def batch(self, which: Which, number: int) -> tuple[Tensor, Tensor]:
        """Batch `number` of the images in an order of chance: uint8 (B, C, H, W), labels (B, c_dim)."""
        return self.images_of(which).batch(self._order(which)[number * BATCH : (number + 1) * BATCH])

    def features(self, which: Which, number: int, device: torch.device) -> Tensor:
        """Of batch `number` of the real images, (B, dim) on the CPU; computed once in a run."""
        if (which, number) not in self._features:
            self._features[which, number] = self.extract(self.batch(which, number)[0], device)
        return self._features[which, number]

    def extract(self, images: Tensor, device: torch.device) -> Tensor:
        """Features (B, dim) on the CPU of images, uint8 or float in [-1, 1]."""
        return self.extractor.to(device)(as_uint8(images.to(device))).float().cpu()

    def _order(self, which: Which) -> Tensor:
        # The order of the files is none: the first thousand may be one class.
        return torch.randperm(len(self.images_of(which)), generator=rng(self.seed, "watching", which))


class ProbeContext:
    """A moment of a run; everything is without gradients, and the first images are the same however many are asked for.

    game    as it is now: `game.ema` is the generator that is looked at, with its stored noise
    kept    what does not change from moment to moment
    folder  of the run
    """

    def __init__(self, game: GanModule, kept: ProbeData, folder: Path) -> None:
        self.game, self.folder, self._kept = game, folder, kept
        self.generator, self.device = game.ema, game.device
        self.kimg: float = game.images_seen / 1000
        self._made: dict[int, Tensor] = {}
        self._features: dict[int, Tensor] = {}
        self._logits: dict[tuple[str, int], Tensor] = {}

    @property
    def data(self) -> ImageSet:
        """The training images."""
        return self._kept.data

    @property
    def held_out(self) -> ImageSet | None:
        """Images that training does not see; None where there are none, and looks leave out what needs them."""
        return self._kept.held_out

    @property
    def seed(self) -> int:
        """Of the run."""
        return self._kept.seed

    @property
    def extractor(self) -> Extractor:
        """The net whose features are compared."""
        return self._kept.extractor

    # --- images -----------------------------------------------------------------------------------------------------

    def generated(self, num: int) -> Tensor:
        """Images (num, C, H, W) of the moving average, float, about [-1, 1], on the CPU; from `latents`."""
        return torch.cat(list(self._batches("generated", num)))

    def real(self, num: int) -> Tensor:
        """uint8 (M, C, H, W) of the training images, chosen by chance; M is `num` or as many as there are."""
        return torch.cat(list(self._batches("train", num)))

    def held_out_images(self, num: int) -> Tensor:
        """The same of the held-out images; not to be asked for where `held_out` is None."""
        return torch.cat(list(self._batches("held_out", num)))

    def thumbnails(self, which: Which, num: int, *, px: int = 32) -> Tensor:
        """(M, C, H, W) in [-1, 1], float, averaged down to at most `px` pixels: all of them can be held at any size."""
        parts = [
            F.adaptive_avg_pool2d(to_float(as_uint8(batch)), min(px, batch.shape[3]))
            for batch in self._batches(which, num)
        ]
        return torch.cat(parts)

    def latents(self, num: int, *, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """z (num, z_dim), and labels (num, c_dim) drawn from the training images; number i depends on (seed, i)."""
        indices = range(start, start + num)
        c = random_labels(self.generator, self.data.labels, self.seed, indices)
        z = normal(self.seed, LATENT, indices, self.generator.z_dim).to(self.device)
        return z, None if c is None else c.to(self.device)

    def labels(self, which: Which, num: int) -> Tensor:
        """(M, c_dim) of the first images; c_dim is 0 without labels."""
        if which != "generated":
            sizes = self._sizes(which, num)
            return torch.cat([self._kept.batch(which, number)[1][:size] for number, size in enumerate(sizes)])
        c = self.latents(num)[1]
        return torch.empty(num, 0) if c is None else c.cpu()

    # --- what nets say of them --------------------------------------------------------------------------------------

    def features(self, which: Which, num: int) -> Tensor:
        """(M, dim) of the extractor, on the CPU."""
        one = self._features_made if which == "generated" else self._features_kept(which)
        return torch.cat([one(number)[:size] for number, size in enumerate(self._sizes(which, num))])

    def logits_of(self, which: Which, num: int) -> Tensor:
        """(M,) of the discriminator; real images with the detail that a growing generator has, nothing augmented.

        M is a multiple of the images that a minibatch standard deviation compares, where the discriminator has one;
        these are of one kind, as in training.
        """
        group = min(self.game.discriminator.arguments.get("mbstd_group_size") or 1, BATCH)
        sizes = [size - size % group for size in self._sizes(which, num)]
        return torch.cat([self._logits_of(which, number)[:size] for number, size in enumerate(sizes)])

    @torch.no_grad()
    def logits(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(N,) on the CPU, of float images (N, C, H, W) in [-1, 1] and labels (N, c_dim), as one batch.

        In evaluation mode: nothing is dropped, and batches are normalised by the running statistics.
        """
        c = None if labels is None or labels.shape[1] == 0 else labels.to(self.device)
        with eval_mode(self.game.discriminator) as discriminator:
            return discriminator(images.to(self.device), c)[:, 0].float().cpu()

    def _logits_of(self, which: Which, number: int) -> Tensor:
        """Of a whole batch, or of as much of the last one as can be divided into groups."""
        if (which, number) not in self._logits:
            images, labels = self._batch(which, number)
            group = min(self.game.discriminator.arguments.get("mbstd_group_size") or 1, BATCH)
            num = len(images) - len(images) % group
            shown = images if which == "generated" else self._shown(to_float(images))
            self._logits[which, number] = self.logits(shown[:num], labels[:num]) if num else torch.empty(0)
        return self._logits[which, number]

    def _shown(self, real: Tensor) -> Tensor:
        growth = self.game.growth
        return real if growth is None else growth.shown(real, self.game.images_seen)

    def _features_made(self, number: int) -> Tensor:
        if number not in self._features:
            self._features[number] = self._kept.extract(self._make(number), self.device)
        return self._features[number]

    def _features_kept(self, which: Which) -> Callable[[int], Tensor]:
        return lambda number: self._kept.features(which, number, self.device)

    # --- batches ----------------------------------------------------------------------------------------------------

    def _sizes(self, which: Which, num: int) -> list[int]:
        """How many images of each batch belong to the first `num`."""
        there = num if which == "generated" else min(num, len(self._kept.images_of(which)))
        return [min(BATCH, there - start) for start in range(0, there, BATCH)]

    def _batches(self, which: Which, num: int) -> Iterator[Tensor]:
        for number, size in enumerate(self._sizes(which, num)):
            yield self._batch(which, number)[0][:size]

    def _batch(self, which: Which, number: int) -> tuple[Tensor, Tensor]:
        if which != "generated":
            return self._kept.batch(which, number)
        c = self.latents(BATCH, start=number * BATCH)[1]
        return self._make(number), torch.empty(BATCH, 0) if c is None else c.cpu()

    @torch.no_grad()
    def _make(self, number: int) -> Tensor:
        if number in self._made:
            return self._made[number]
        images = self.generator(*self.latents(BATCH, start=number * BATCH)).float().cpu()
        if (len(self._made) + 1) * images.nbytes <= KEPT_BYTES:
            self._made[number] = images
        return images
