"""Inversion by an encoder that corrects itself: iterative residual refinement (ReStyle, Alaluf et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.encoder import by_passes
from wplus.inversion.encoding import REFINEMENTS
from wplus.inversion.result import Callback, Inversion
from wplus.latents.latent import Space
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance


def refine(
    generator: Any,
    targets: Tensor,
    *,
    space: Space,
    perceptual: PerceptualDistance | None,
    encoder: Any,
    seed: int = 0,
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
    callback: Callback | None = None,
    masks: Tensor | None = None,
    losses: Mapping[str, ImageDistance] | None = None,
    steps: int = REFINEMENTS,
    weights: Mapping[str, float] | None = None,
    keep: Literal["best", "last"] = "best",
    lanes: int | None = None,
) -> Inversion:
    """Images -> codes of w or w+: w = w + E(target, G(w)), starting from the mean latent, `steps` times.

    The other arguments are those of `wplus.inversion.encoder.encode`, and

    keep     best: of all passes, the one with the lowest loss, which `weights` define; last: the last (ReStyle)

    UserError for an encoder that does not see its own reconstruction.
    """
    if steps < 1 or keep not in ("best", "last"):
        raise UserError(f"steps={steps}, keep={keep} are not allowed: 1 or more, and best or last.")
    if encoder is not None and not encoder.is_iterative:
        raise UserError(
            "This encoder does not see its own reconstruction, so that it cannot refine it: train one with "
            "encoder=refine, or use inverter=encoder or inverter=hybrid."
        )
    options = {"masks": masks, "losses": losses, "weights": weights, "callback": callback, "lanes": lanes}
    return by_passes(generator, targets, encoder, space=space, perceptual=perceptual, num=steps, keep=keep, **options)
