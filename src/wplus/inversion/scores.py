"""The scores of inversions, image by image: what the table of a folder shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wplus.images import to_float, to_uint8
from wplus.inversion.result import Inversion
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import psnr_of
from wplus.prior import Whitened


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

    The pictures are taken as they are stored, rounded to 8 bits. With masks (N, 1, R, R) the terms are those of what
    the masks leave, as in `objective.Objective`. Terms are called by the name of their net: `identity` may be many.

    prior_distance  how far the styles ws (N, num_ws, w_dim) lie from what the mapping network makes, see
                    `wplus.prior.Whitened.distance`: about 1 for its own samples, whatever the space of the code
    """
    columns = _image_scores(found, targets, terms, masks)
    columns["prior_distance"] = whitened.distance(ws)
    return {**columns, **found.scores, "seconds": found.seconds}


@torch.no_grad()
def _image_scores(
    found: Inversion, targets: Tensor, terms: Mapping[str, ImageDistance], masks: Tensor | None
) -> dict[str, Tensor]:
    stored = to_float(to_uint8(found.images))
    if masks is not None:
        stored, targets = stored * (masks > 0), targets * (masks > 0)
    columns: dict[str, Tensor] = {}
    for name, term in terms.items():
        columns[term.name] = term(stored, targets, masks)
        if name == "l2":
            columns["psnr_db"] = psnr_of(columns["l2"])
    return columns


def check_masks(terms: Mapping[str, ImageDistance], generator: Any) -> None:
    """UserError of a term that takes no mask, before any work."""
    device, size = generator.mapping.w_avg.device, generator.resolution
    image = torch.zeros(1, generator.img_channels, size, size, device=device)
    for term in terms.values():
        with torch.no_grad():
            term(image, image, torch.ones_like(image[:, :1]))
