"""Generated and real images with their classes, for metrics of conditional generators."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core import distributed
from wplus.core.random import sample_rng
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext, by_digest, check_images
from wplus.evaluation.sampler import LABEL, PLAIN, Sampling, generate, index_batches


@dataclass(frozen=True)
class Labelled:
    """Images uint8 (N, C, H, W) and their classes int64 (N,)."""

    images: Tensor
    classes: Tensor

    def first(self, num: int) -> "Labelled":
        """The first `num` images with their classes."""
        return Labelled(self.images[:num], self.classes[:num])


def check_conditional(context: EvalContext) -> None:
    """Raise UserError unless generator and real images have labels."""
    generator, real = context.generator, context.real
    if not generator.c_dim:
        raise UserError("This metric needs a conditional generator, and this one was trained without labels.")
    if real is None or real.labels is None:
        raise UserError("This metric compares classes of real images, and they have no labels: set data.labels.")
    check_images(generator, real)
    if real.c_dim != generator.c_dim:
        raise UserError(
            f"The generator knows {generator.c_dim} classes and the data has {real.c_dim}; they must be equal."
        )


def classes_of(labels: Tensor | None) -> Tensor:
    """Classes int64 (N,) of labels (N, c_dim); UserError unless the labels are one-hot."""
    if labels is None or not bool(((labels == 0) | (labels == 1)).all() and (labels.sum(dim=1) == 1).all()):
        raise UserError("This metric needs one-hot labels: a single one, and zeros.")
    return labels.argmax(dim=1)


def real_in_order(images: ImageSet, num: int, *, max_px: int) -> Labelled:
    """The `num` images with the smallest digests, in that order, so that the order of files does not matter."""
    order, _ = by_digest(images.digests, min(num, len(images)))
    parts = [averaged_down(images.batch(part)[0], max_px) for part in order.split(256)]
    return Labelled(torch.cat(parts), classes_of(images.labels)[order])


def made(context: EvalContext, num: int, sampling: Sampling = PLAIN, *, max_px: int) -> Labelled:
    """Generate images 0 .. num-1 with the classes they are conditioned on, each class equally often; on the CPU,
    independent of the number of processes."""
    generator = context.generator
    classes = _dealt(generator.c_dim, num, context.seed)
    size = min(generator.resolution, max_px)

    def of_batch(batch: Sequence[int]) -> Tensor:
        labels = F.one_hot(classes[list(batch)], generator.c_dim).float()
        found = generate(generator, batch, sampling=sampling, seed=context.seed, labels=labels, device=context.device)
        return averaged_down(found.cpu(), max_px)

    images = distributed.in_shares(
        index_batches(num, context.batch_size), of_batch,
        torch.empty(0, generator.img_channels, size, size, dtype=torch.uint8),
        progress=lambda ours: context.progress(ours, "Images of each class (batches)", total=len(ours)),
    )  # fmt: skip
    return Labelled(images, classes)


def averaged_down(images: Tensor, max_px: int) -> Tensor:
    """Average uint8 images (N, C, H, W), H a power of two, down to at most max_px."""
    factor = images.shape[3] // max_px
    return images if factor <= 1 else F.avg_pool2d(images.float(), factor).round().to(torch.uint8)


def _dealt(num_classes: int, num: int, seed: int) -> Tensor:
    """Classes (num,) in rotation, starting from one drawn by the seed."""
    first = torch.randint(num_classes, (), generator=sample_rng(seed, LABEL, 0))
    return (torch.arange(num) + first) % num_classes
