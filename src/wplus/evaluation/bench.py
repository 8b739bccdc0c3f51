"""What the metrics of one command share: the networks, the images, and the passes over them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wplus.core import distributed as processes
from wplus.core.progress import track
from wplus.errors import UserError
from wplus.evaluation.images import Images, is_part, split_of
from wplus.evaluation.passes import PLAIN, FeaturePass, Progress, Sampling
from wplus.evaluation.sampler import check_sampling, generate, ordered_labels, random_labels
from wplus.tracking import Tracker

T = TypeVar("T")


@dataclass
class EvalContext:
    """What every metric is given.

    models      .generator, .discriminator, .encoder, .fingerprint, .metadata (wplus.checkpoint.Models)
    real        the real images; may be `Deferred`, read when a metric first asks
    held_out    real images that the generator has not seen; may be `Deferred`
    samples     images that stand for the generator's, made by whomever; may be `Deferred`
    progress    wraps long work, see `wplus.core.progress.track`
    output_dir  where a metric may write pictures, tables and what it needs to go on; None: nowhere
    cache_dir   keeps what is computed of real images from one command to the next; None: nowhere
    tracker     for pictures and tables; numbers are yielded
    """

    models: Any
    real: Images | None = None
    held_out: Images | None = None
    batch_size: int = 64
    device: torch.device | str = "cpu"
    seed: int = 0
    progress: Progress = track
    output_dir: Path | None = None
    cache_dir: str | Path | None = None
    tracker: Tracker = field(default_factory=Tracker)
    samples: Images | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size={self.batch_size} is not allowed: it must be 1 or more.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise UserError(f"seed={self.seed} is not allowed: it must be a whole number of at least 0.")
        self._passes: dict[Any, FeaturePass] = {}
        self._made: dict[Hashable, Any] = {}

    def share(self, batches: Sequence[T]) -> Sequence[T]:
        """This process's part of `batches`: those numbered rank, rank + world, ..."""
        return processes.share(batches)

    def gathered(self, rows: Tensor, indices: Tensor) -> Tensor:
        """Rows (N_rank, ...) of all processes, in the order of their indices (N_rank,) int64."""
        return processes.gathered(rows, indices)

    def generated(self, num: int, sampling: Sampling = PLAIN) -> FeaturePass:
        """The pass over generated images 0 .. num-1; image i depends on the seed and i alone.

        Where samples are given it goes over them instead, over at most `num`, in the order of their digests.
        """
        if num < 1:
            raise UserError(f"{num} generated images are not enough; at least 1 must be measured.")
        check_sampling(sampling)
        source = Generated if self.samples is None else Samples
        return self._pass(("generated", num, sampling), lambda: source(self, num, sampling))

    def real_images(self, *, num: int | str | None = None, mirror: str = "none") -> FeaturePass:
        """The pass over the real images, in the order of their digests: no order of files changes anything.

        `num` takes the images with the smallest digests. None: all that are given; "all": the same, and UserError
        where those are not the whole data set. `mirror` "x" adds each image flipped left to right, beside its original.
        """
        num = _number(num, self.real)
        return self._pass(("real", num, mirror), lambda: Real(self, num, mirror))

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make()` gave for `key`: made once, for work that several metrics share."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Labels (B, c_dim) of the generated images number `indices`, drawn from those of the real images.

        They depend on the seed, the image's number and how often each label occurs; None for an unconditional net.
        """
        generator = self.models.generator
        return random_labels(generator, self._ordered_labels if generator.c_dim else None, self.seed, indices)

    @property
    def label_protocol(self) -> dict[str, str]:
        """Where the labels of a conditional generator come from; nothing of an unconditional one."""
        if not self.models.generator.c_dim or self.real is None:
            return {}
        return {"labels": f"drawn as often as they are in the real images, split {split_of(self.real)}"}

    @cached_property
    def _ordered_labels(self) -> Tensor | None:
        labels = None if self.real is None else self.real.labels
        return None if labels is None else ordered_labels(labels)

    @cached_property
    def digests(self) -> np.ndarray:
        """(N, 32) uint8: the SHA-256 of the content of each real image."""
        assert self.real is not None
        return self.real.digests

    def _pass(self, key: Any, source: Any) -> FeaturePass:
        if key not in self._passes:
            computing = {"batch_size": self.batch_size, "device": self.device, "progress": self.progress}
            self._passes[key] = FeaturePass(source(), cache_dir=self.cache_dir, **computing)
        return self._passes[key]


class Generated:
    """Images of the generator, see `wplus.evaluation.passes.Source`."""

    copies, key, description = 1, None, "Generated images"

    def __init__(self, bench: EvalContext, num: int, sampling: Sampling) -> None:
        self.num, self._bench, self._sampling = num, bench, sampling
        counts = {"num_generated": num, "seed": bench.seed}
        self.protocol = generator_protocol(bench.models, **vars(sampling)) | bench.label_protocol | counts

    def images(self, numbers: Tensor) -> Tensor:
        """uint8 (B, C, H, W) on the bench's device."""
        bench = self._bench
        indices = numbers.tolist()
        shared = {"seed": bench.seed, "device": bench.device, "labels": bench.labels(indices)}
        return generate(bench.models.generator, indices, sampling=self._sampling, **shared)


class Samples:
    """Given images in the place of generated ones, see `wplus.evaluation.passes.Source`."""

    copies, key, description = 1, None, "Given images"

    def __init__(self, bench: EvalContext, num: int, sampling: Sampling) -> None:
        assert bench.samples is not None
        if sampling != PLAIN:
            options = ", ".join(f"{name}={value}" for name, value in vars(sampling).items())
            raise UserError(f"Images that are given cannot be sampled otherwise than they were: {options} is refused.")
        self._images, self._device, self.num = bench.samples, bench.device, min(num, len(bench.samples))
        self._order, _ = _by_digest(bench.samples.digests, self.num)
        self.protocol = {"samples": bench.samples.fingerprint, "num_generated": self.num}

    def images(self, numbers: Tensor) -> Tensor:
        """uint8 (B, C, H, W) on the bench's device."""
        return self._images.batch(self._order[numbers])[0].to(self._device)


class Real:
    """Real images in the order of their digests, see `wplus.evaluation.passes.Source`."""

    description = "Real images"

    def __init__(self, bench: EvalContext, num: int | None, mirror: str) -> None:
        if mirror not in ("none", "x"):
            raise UserError(f"mirror={mirror} is not known; allowed are none, x.")
        given = 0 if bench.real is None else len(bench.real)
        self.num = given if num is None else num
        if not 1 <= self.num <= given:
            raise UserError(f"{self.num} real images cannot be measured: at least 1, at most the {given} given.")
        assert bench.real is not None
        check_images(bench.models.generator if bench.samples is None else bench.samples, bench.real)
        self.copies = 2 if mirror == "x" else 1
        self._images, self._device = bench.real, bench.device
        self._order, ordered = _by_digest(bench.digests, self.num)
        self.key = {"kind": "real", "mirror": mirror, "num": self.num, "size": bench.real.resolution,
                    "data": hashlib.sha256(ordered.tobytes()).hexdigest()}  # fmt: skip
        self.protocol = {"data": bench.real.fingerprint, "mirror": mirror, "num_real": self.num * self.copies,
                         "all_real": self.num == given and not is_part(bench.real),
                         "split": split_of(bench.real)}  # fmt: skip

    def images(self, numbers: Tensor) -> Tensor:
        """uint8 (B * copies, C, H, W) on the bench's device, each image followed by its mirror image."""
        images = self._images.batch(self._order[numbers])[0].to(self._device)
        return images if self.copies == 1 else torch.stack([images, images.flip(3)], dim=1).flatten(0, 1)


class NoModel:
    """Stands in the place of models where only images are given: who asks for the generator is told so."""

    discriminator = encoder = None

    def __getattr__(self, name: str) -> Any:
        raise UserError("One of these metrics needs the generator, not only its images: give checkpoint=FILE too.")


def _number(num: int | str | None, real: Images | None) -> int | None:
    """Of real images; None: all that are given."""
    if num != "all":
        if num is not None and not isinstance(num, int):
            raise UserError(f"num_real={num} is not allowed: a whole number, all, or null for those that are given.")
        return num
    if real is not None:
        check_whole(split_of(real), is_part=is_part(real), num=len(real))
    return None


def check_whole(split: str, *, is_part: bool = False, num: int | None = None) -> None:
    """UserError unless images of this split are the whole data set, as num_real=all asks for."""
    if split != "all" or is_part:
        images = "images" if num is None else f"{num} images"
        raise UserError(
            f"num_real=all asks for the whole data set and {images} of split={split} are given, a part of it: set "
            "split=all, or num_real=null to measure against these under a name that says so."
        )


def check_images(generator: Any, real: Images) -> None:
    """UserError unless real and generated images have the same size and channels; `generator` may be images too."""
    ours, theirs = (generator.resolution, generator.img_channels), (real.resolution, real.img_channels)
    if ours != theirs:
        raise UserError(
            f"The generator makes images of {ours[0]} px with {ours[1]} channels and the data has {theirs[0]} px "
            f"with {theirs[1]}; they must be equal."
        )


def generator_protocol(models: Any, **sampling: Any) -> dict[str, Any]:
    """What a protocol says of the generator: its fingerprint, whether the weights are an average, how it is sampled."""
    metadata = models.metadata or {}
    # Our checkpoints say "weights"; what is read from NVlabs' pickles says which of the file's generators it is.
    weights = metadata.get("weights") or metadata.get("generator") or "as stored in the file"
    return {"generator": models.fingerprint, "weights": weights, **sampling}


def _by_digest(digests: np.ndarray, num: int) -> tuple[Tensor, np.ndarray]:
    """Numbers of the `num` images with the smallest digests, in that order, and those digests."""
    order = np.lexsort(digests.T[::-1])[:num]
    return torch.from_numpy(order), digests[order]
