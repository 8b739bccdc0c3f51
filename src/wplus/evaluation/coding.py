"""Codes of real images from a checkpoint's encoder, for all metrics of encoders and codes.

An image's code, and anything sampled for it, depends only on the image, not on the batch, the order of the images or
the number of processes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wplus.core import distributed
from wplus.core.batching import MIN_SHOWN, at_least
from wplus.core.images import to_float
from wplus.core.random import rng
from wplus.core.stats import bootstrap_mean
from wplus.data import ImageSet
from wplus.errors import UserError, check_number
from wplus.evaluation.context import EvalContext, by_digest, check_images, split_of
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.models.encoders.base import Encoder

INTERVAL = "95 %, percentile bootstrap over images"


@dataclass(frozen=True)
class Shown:
    """A selection of real images, ordered by digest.

    images   the set they are selected from
    order    (N,) their indices in that set
    digests  one per image; they seed everything random about it
    """

    images: ImageSet
    order: Tensor
    digests: list[str]

    @property
    def protocol(self) -> dict[str, object]:
        """Protocol entries for these images."""
        return {"data": self.images.fingerprint, "split": split_of(self.images), "num_images": len(self.order)}

    def attributes(self, name: str) -> np.ndarray:
        """Return a true factor (N,) of the images; UserError if it is unknown."""
        known = self.images.attributes or {}
        if name not in known:
            raise UserError(f"The images have no attribute '{name}'; they have {', '.join(known) or 'none'}.")
        return known[name][self.order].numpy()


def shown(context: EvalContext, images: ImageSet | None, num: int | None, *, what: str) -> Shown:
    """Select the `num` images with the smallest digests (None: all); UserError if there are none or too few."""
    if images is None:
        raise UserError(f"This metric needs {what} images, and there are none.")
    if num is not None:
        check_number("num_images", num, lowest=2, whole=True)
    check_images(context.generator, images)
    if len(images) < 2:
        raise UserError(f"This metric needs at least 2 {what} images, got {len(images)}.")
    digests = images.digests
    order, ordered = by_digest(digests, len(images) if num is None else min(num, len(images)))
    return Shown(images, order, [bytes(digest).hex()[:16] for digest in ordered])


def encoder_of(context: EvalContext) -> Encoder:
    """Return the encoder; UserError if the checkpoint has none, or an iterative one that refines its own output."""
    if "encoder" not in context.models.networks:
        raise UserError("This metric needs an encoder, and the checkpoint has none: train one, or an autoencoder.")
    if context.models.encoder.is_iterative:
        raise UserError("This metric needs a one-shot encoder; this encoder refines its own output (encoder=restyle).")
    return context.models.encoder


def variational(context: EvalContext) -> tuple[CodeEncoder, Decoder]:
    """Return encoder and decoder of a variational autoencoder; UserError for any other model."""
    encoder, generator = encoder_of(context), context.generator
    if not isinstance(encoder, CodeEncoder) or not isinstance(generator, Decoder) or not encoder.variational:
        raise UserError("This metric bounds the likelihood of a variational autoencoder, such as model=vae trains.")
    return encoder, generator


def of_each(
    context: EvalContext, some: Shown, measure: Callable[[Tensor, Tensor, list[str]], list[Tensor]], description: str
) -> list[np.ndarray]:
    """Apply `measure(images in [-1, 1], labels, digests)` to all images and return arrays (N, ...) float64.

    Batches are distributed over processes and never smaller than `MIN_SHOWN`.
    """
    rows = torch.arange(len(some.order)).split(max(context.batch_size, MIN_SHOWN))
    mine = distributed.share(rows)
    num = sum(len(part) for part in mine)
    found: list[list[Tensor]] = []
    for part in context.progress(mine, description, total=num, advance=len):
        images, labels = some.images.batch(some.order[part])
        digests = [some.digests[row] for row in part.tolist()]
        digests += [digests[-1]] * (MIN_SHOWN - len(part))
        filled = (at_least(MIN_SHOWN, each).to(context.device) for each in (images, labels))
        pixels, c = filled
        with torch.no_grad():
            found.append([each[: len(part)].double().cpu() for each in measure(to_float(pixels), c, digests)])
    if not found:  # this process had no batch: get the output shapes from a blank one
        blank = torch.zeros(MIN_SHOWN, context.generator.img_channels, *[context.generator.resolution] * 2)
        c = torch.zeros(MIN_SHOWN, some.images.c_dim)
        with torch.no_grad():
            none = measure(blank.to(context.device), c.to(context.device), some.digests[:1] * MIN_SHOWN)
        found.append([each[:0].double().cpu() for each in none])
    numbers = torch.cat([torch.zeros(0, dtype=torch.int64), *mine])
    return [distributed.gathered(torch.cat(parts), numbers).numpy() for parts in zip(*found, strict=True)]


def codes(context: EvalContext, some: Shown) -> np.ndarray:
    """Codes of the images, (N, D) float64: the encoder's flattened output, without any label that is part of w."""
    encoder = encoder_of(context)

    def measure(images: Tensor, labels: Tensor, digests: list[str]) -> list[Tensor]:
        ws = encoder(images).flatten(1)
        return [ws[:, : encoder.code_dim] if isinstance(encoder, CodeEncoder) else ws]

    return of_each(context, some, measure, "Codes (images)")[0]


def draws(seed: int, digests: list[str], num: int, size: int, purpose: str) -> Tensor:
    """Standard normal numbers (num, N, size), seeded per image by its digest."""
    each = [torch.randn(num, size, generator=rng(seed, digest, purpose)) for digest in digests]
    return torch.stack(each, dim=1)


def mean_with_interval(values: np.ndarray) -> tuple[float, tuple[float, float] | None]:
    """The mean of values (N,) over images, and its bootstrap interval."""
    mean = bootstrap_mean(values)
    return mean.value, mean.interval
