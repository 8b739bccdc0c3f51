"""The scores of inversions, image by image: what the table of a folder shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wplus.core.images import to_float, to_uint8
from wplus.inversion.result import Inversion
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import psnr_of


def scores(
    found: Inversion,
    ws: Tensor,
    targets: Tensor,
    *,
    terms: Mapping[str, ImageDistance],
    masks: Tensor | None,
    whitened: Whitened,
) -> dict[str, Tensor]:
    """Column -> (N,): image terms, distance from the prior, the inverter's own scores, seconds.

    The image terms are those of `image_scores`, of the pictures as they are stored, rounded to 8 bits.

    prior_distance  how far the styles ws (N, num_ws, w_dim) lie from what the mapping network makes, see
                    `wplus.latents.w_stats.Whitened.distance`: about 1 for its own samples, whatever the space of the code
    """
    columns = image_scores(to_float(to_uint8(found.images)), targets, terms, masks)
    columns["prior_distance"] = whitened.distance(ws)
    return {**columns, **found.scores, "seconds": found.seconds}


@torch.no_grad()
def image_scores(
    images: Tensor, targets: Tensor, terms: Mapping[str, ImageDistance], masks: Tensor | None = None
) -> dict[str, Tensor]:
    """Column -> (N,) of images and targets (N, C, R, R) in [-1, 1].

    Terms are called by the name of their net (`identity` may be many), and `similarity_NAME` where 1 - distance is the
    number that papers print: SSIM, MS-SSIM, identity. With `l2` comes `psnr_db`, 10 log10(4 / l2): pixels have the
    range 2. With masks (N, 1, R, R) the terms are those of what the masks leave, as in `objective.Objective`.
    """
    if masks is not None:
        images, targets = images * (masks > 0), targets * (masks > 0)
    columns: dict[str, Tensor] = {}
    for name, term in terms.items():
        column, values = term.score(term(images, targets, masks))
        columns[column] = values
        if name == "l2":
            columns["psnr_db"] = psnr_of(values)
    return columns


def check_masks(terms: Mapping[str, ImageDistance], generator: Any) -> None:
    """UserError of a term that takes no mask, before any work."""
    device, size = generator.mapping.w_avg.device, generator.resolution
    image = torch.zeros(1, generator.img_channels, size, size, device=device)
    for term in terms.values():
        with torch.no_grad():
            term(image, image, torch.ones_like(image[:, :1]))
