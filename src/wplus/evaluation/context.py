"""Context shared by all metrics of one command: the networks, the images, and the passes over them."""

import functools
import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.progress import track
from wplus.data import ImageSet
from wplus.errors import UserError, check_choice, check_number
from wplus.evaluation.feature_pass import FeaturePass, Progress, Source
from wplus.evaluation.sampler import PLAIN, Sampling, generate, ordered_labels, random_labels
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import GeneratorNetwork
from wplus.tracking import Tracker

T = TypeVar("T")


class _Deferred:
    def __init__(self, read: Callable[[], ImageSet]) -> None:
        self._images = functools.cache(read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images(), name)

    def __len__(self) -> int:
        return len(self._images())


def deferred(read: Callable[[], ImageSet]) -> ImageSet:
    """Return images that are read only when a metric first accesses them; most path lengths need none."""
    return cast(ImageSet, _Deferred(read))


@dataclass
class EvalContext:
    """Everything a metric has access to.

    models      the networks of a checkpoint; empty if only `samples` are given
    real        the real images; may be `deferred`
    held_out    real images the generator has not been trained on; may be `deferred`
    samples     images used in place of the generator's own, from any source; may be `deferred`
    progress    wraps long-running loops, see `wplus.core.progress.track`
    output_dir  where a metric may write pictures, tables and the state it needs to resume; None: nowhere
    cache_dir   keeps results computed from real images across commands; None: no cache
    tracker     logs pictures and tables; numbers are yielded
    """

    models: Models
    real: ImageSet | None = None
    held_out: ImageSet | None = None
    batch_size: int = 64
    device: torch.device | str = "cpu"
    seed: int = 0
    progress: Progress = track
    output_dir: Path | None = None
    cache_dir: str | Path | None = None
    tracker: Tracker = field(default_factory=Tracker)
    samples: ImageSet | None = None

    def __post_init__(self) -> None:
        check_number("batch_size", self.batch_size, lowest=1, whole=True)
        check_number("seed", self.seed, lowest=0, whole=True)
        self._made: dict[Hashable, Any] = {}

    @property
    def generator(self) -> GeneratorNetwork:
        """The generator; UserError if there is none."""
        if "generator" not in self.models.networks:
            raise UserError("One of these metrics needs the generator, not only its images: give checkpoint=FILE too.")
        return self.models.generator

    def generated(self, num: int, sampling: Sampling = PLAIN, *, own: bool = False) -> FeaturePass:
        """Return the pass over generated images 0 .. num-1; image i depends only on the seed and i.

        If samples are given, the pass covers at most `num` of those instead, ordered by digest; UserError if they must
        be the generator's `own`, because a metric pairs them with their latents or labels.
        """
        check_number("num_generated", num, lowest=1, whole=True)
        if own and self.samples is not None:
            raise UserError("One of these metrics pairs images with the latents or labels that they were generated "
                            "from, so it needs the generator's own: leave out generated=.")  # fmt: skip
        source = _generated if self.samples is None else _samples
        return self._pass(("generated", num, sampling), lambda: source(self, num, sampling))

    def real_images(self, *, num: int | str | None = None, mirror: str = "none") -> FeaturePass:
        """Return the pass over the real images, ordered by digest, so that the order of files does not matter.

        `num` selects the images with the smallest digests. None: all given images; "all": the same, but UserError if
        they are not the whole data set. `mirror` "x" adds a left-right flipped copy next to each image.
        """
        if num == "all" and self.real is not None:
            check_whole(split_of(self.real), is_part=is_part(self.real), num=len(self.real))
        elif num is not None and not isinstance(num, int):
            raise UserError(f"num_real must be a whole number, all, or null for those that are given, got {num!r}.")
        num = num if isinstance(num, int) else None
        return self._pass(("real", num, mirror), lambda: _real(self, num, mirror))

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of `make()` for `key`, computed only once and shared by all metrics."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def labels(self, indices: Sequence[int]) -> Tensor | None:
        """Return labels (B, c_dim) for the generated images with these indices, drawn from the labels of the real
        images or, if those have none, from the training labels stored in the checkpoint.

        They depend on the seed, the image index and the label frequencies; None for an unconditional net.
        """
        if not self.generator.c_dim:
            return None
        given = self._own_labels if self._own_labels is not None else self.generator.data_labels
        ordered = None if given is None else self.once("labels", lambda: ordered_labels(given))
        return random_labels(self.generator, ordered, self.seed, indices)

    @property
    def _own_labels(self) -> Tensor | None:
        """Labels of the real images, which are not read for an unconditional net."""
        return None if self.real is None or not self.generator.c_dim else self.real.labels

    @property
    def label_protocol(self) -> dict[str, str]:
        """Protocol entry for the source of a conditional generator's labels; empty for an unconditional one."""
        if self.real is not None and self._own_labels is not None:
            return {"labels": f"drawn as often as they are in the real images, split {split_of(self.real)}"}
        kept = {"labels": "drawn from those of the training data that the checkpoint keeps"}
        return kept if self.generator.c_dim and self.generator.data_labels is not None else {}

    def _pass(self, key: Hashable, source: Callable[[], Source]) -> FeaturePass:
        return self.once(key, lambda: FeaturePass(source(), batch_size=self.batch_size, device=self.device,
                                                  progress=self.progress, cache_dir=self.cache_dir))  # fmt: skip


# Image sources


def _generated(context: EvalContext, num: int, sampling: Sampling) -> Source:
    protocol = generator_protocol(context.models) | asdict(sampling) | context.label_protocol

    def images(numbers: Tensor) -> Tensor:
        indices = numbers.tolist()
        return generate(context.generator, indices, sampling=sampling, seed=context.seed,
                        labels=context.labels(indices), device=context.device)  # fmt: skip

    return Source(num, "Generated images", protocol | {"num_generated": num, "seed": context.seed}, images)


def _samples(context: EvalContext, num: int, sampling: Sampling) -> Source:
    """Given images in place of generated ones, ordered by digest."""
    given = context.samples
    assert given is not None
    if sampling != PLAIN:
        options = ", ".join(f"{name}={value}" for name, value in vars(sampling).items())
        raise UserError(f"Given images cannot be sampled differently from how they were made: {options} is refused.")
    order, _ = by_digest(given.digests, min(num, len(given)))
    protocol = {"samples": given.fingerprint, "num_generated": len(order)}
    return Source(len(order), "Given images", protocol,
                  lambda numbers: given.batch(order[numbers])[0].to(context.device))  # fmt: skip


def _real(context: EvalContext, num: int | None, mirror: str) -> Source:
    """Real images ordered by digest, each followed by its mirror image if `mirror` is "x"."""
    check_choice("mirror", mirror, ("none", "x"))
    real, given = context.real, 0 if context.real is None else len(context.real)
    num = given if num is None else num
    if real is None or not 1 <= num <= given:
        raise UserError(f"num_real must be from 1 to the {given} real images that are given, got {num}.")
    check_images(context.generator if context.samples is None else context.samples, real)
    copies = 2 if mirror == "x" else 1
    digests = context.once("digests", lambda: real.digests)  # in-memory images are hashed on every call
    order, ordered = by_digest(digests, num)
    key = {"kind": "real", "mirror": mirror, "num": num, "size": real.resolution,
           "data": hashlib.sha256(ordered.tobytes()).hexdigest()}  # fmt: skip
    protocol = {"data": real.fingerprint, "mirror": mirror, "num_real": num * copies,
                "all_real": num == given and not is_part(real), "split": split_of(real)}  # fmt: skip

    def images(numbers: Tensor) -> Tensor:
        found = real.batch(order[numbers])[0].to(context.device)
        return found if copies == 1 else torch.stack([found, found.flip(3)], dim=1).flatten(0, 1)

    return Source(num, "Real images", protocol, images, copies, key)


def by_digest(digests: np.ndarray, num: int) -> tuple[Tensor, np.ndarray]:
    """Return the indices of the `num` images with the smallest digests, in that order, and those digests."""
    order = np.lexsort(digests.T[::-1])[:num]
    return torch.from_numpy(order), digests[order]


def generator_protocol(models: Models) -> dict[str, Any]:
    """Protocol entries for the generator: its fingerprint, whether its weights are a moving average, and, for an
    autoencoder's decoder, the prior its samples are drawn from."""
    metadata = models.metadata or {}
    # Our checkpoints store "weights"; models read from NVlabs' pickles store which of the file's generators they are.
    weights = metadata.get("weights") or metadata.get("generator") or "as stored in the file"
    prior = {"prior": metadata["prior"]} if "prior" in metadata else {}
    return {"generator": models.fingerprint, "weights": weights, **prior}


def split_of(images: ImageSet) -> str:
    """Return train, held_out or all; "all" if nothing is held out, or if the images do not record their split."""
    policies = getattr(images, "policies", {})
    split = policies.get("split", "all")
    return "all" if split == "train" and policies.get("held_out_fraction") == 0 else split


def is_part(images: ImageSet) -> bool:
    """Whether images of the split are missing, because a subset was selected or unreadable files were skipped."""
    policies = getattr(images, "policies", {})
    return "subset_of" in policies or policies.get("num_skipped", 0) > 0


def check_groups(num_groups: int, num_generated: int) -> None:
    """Raise UserError unless `num_generated` images can be split into `num_groups` groups for a jackknife."""
    if num_groups == 1 or num_groups < 0 or num_generated < max(2 * num_groups, 2):
        given = f"{num_groups} for {num_generated} generated images"
        raise UserError(f"num_groups must be 0 (no interval), or from 2 groups of at least 2 images, got {given}.")


def check_whole(split: str, *, is_part: bool = False, num: int | None = None) -> None:
    """Raise UserError unless images of this split are the whole data set, as num_real=all requires."""
    if split != "all" or is_part:
        images = "images" if num is None else f"{num} images"
        raise UserError(
            f"num_real=all asks for the whole data set and {images} of split={split} are given, a part of it: set "
            "split=all, or num_real=null to measure against these under a name that says so."
        )


def check_images(
    made: GeneratorNetwork | DiscriminatorNetwork | ImageSet, real: ImageSet, *, maker: str = "The generator makes"
) -> None:
    """Raise UserError unless real and generated images have the same size and number of channels."""
    ours, theirs = (made.resolution, made.img_channels), (real.resolution, real.img_channels)
    if ours != theirs:
        raise UserError(
            f"{maker} images of {ours[0]} px with {ours[1]} channels and the data has {theirs[0]} px "
            f"with {theirs[1]}; they must be equal."
        )
