"""What an encoder says about images: codes of w or w+, found in one pass or refined in several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import chunk_rows
from wplus.errors import UserError
from wplus.latents.latent import Space, to_ws

REFINEMENTS = 5  # passes of an iterative encoder (ReStyle, Alaluf et al. 2021, section 4)


def check_encoder(encoder: Any, generator: Any, space: Space) -> None:
    """UserError unless there is an encoder, made for such a generator, that answers in this space."""
    if encoder is None:
        raise UserError(
            "This inverter needs an encoder, and the checkpoint has none: train one for its generator "
            "(train.py with checkpoint=...), or start without."
        )
    if space not in encoder.spaces:
        raise UserError(f"An encoder has no code in {space}: this one answers in {' and '.join(encoder.spaces)}.")
    theirs = (encoder.num_ws, encoder.w_dim, encoder.img_channels)
    ours = (generator.num_ws, generator.w_dim, generator.img_channels)
    if theirs != ours:
        raise UserError(f"The encoder's (num_ws, w_dim, img_channels) are {theirs}, the generator's {ours}: no match.")


@torch.no_grad()
def passes(
    generator: Any, encoder: Any, images: Tensor, *, space: Space, num: int, masks: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Codes (N, ...) and their pictures (N, C, R, R) after each of `num` passes of the encoder over images.

    An iterative encoder sees the image and its picture so far, at first that of the mean latent, and corrects its code
    (ReStyle, Alaluf et al. 2021, https://arxiv.org/abs/2104.02699). Any other has its answer after one pass.

    With masks (N, 1, R, R) an image counts as far as its mask says; elsewhere stands the picture of the mean latent, so
    that what lies outside does not matter.
    """
    ws = encoder.latent_avg.expand(len(images), -1, -1)
    picture = None
    if encoder.is_iterative or masks is not None:
        picture = generator.synthesis(ws, noise_mode="const")
    if masks is not None:
        images = images * masks + picture * (1 - masks)
    for _ in range(num):
        ws = ws + encoder.offsets(torch.cat([images, picture], dim=1)) if encoder.is_iterative else encoder(images)
        codes = ws[:, 0] if space == "w" else ws
        ws = to_ws(codes, space, generator)
        picture = generator.synthesis(ws, noise_mode="const")
        yield codes, picture


def encoded(
    generator: Any, encoder: Any, targets: Tensor, *, space: Space, lanes: int, masks: Tensor | None = None
) -> Tensor:
    """Codes (N, ...) of targets, in batches of exactly `lanes`; an iterative encoder makes `REFINEMENTS` passes."""
    check_encoder(encoder, generator, space)
    num, found = REFINEMENTS if encoder.is_iterative else 1, []
    for rows in chunk_rows(len(targets), lanes, targets.device):
        own_masks = None if masks is None else masks[rows]
        *_, (codes, _) = passes(generator, encoder, targets[rows], space=space, num=num, masks=own_masks)
        found.append(codes)
    return torch.cat(found)[: len(targets)]
