"""Inversion by an encoder: one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wplus.core.batching import chunk_rows, resolve_chunk_size
from wplus.core.runtime import now
from wplus.inversion.encoding import check_encoder, passes
from wplus.inversion.objective import Objective, weights_by_name
from wplus.inversion.result import Callback, Inversion, Progress, Record
from wplus.latents.latent import Space
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance


def encode(
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
    weights: Mapping[str, float] | None = None,
    lanes: int | None = None,
) -> Inversion:
    """Images -> codes of w or w+, as the encoder says. Nothing is random: seed, names and labels have no effect.

    The first arguments are those of every inverter, see `wplus.inversion.result`. The others:

    weights  of the terms in the history, see `objective.weights_by_name`; they measure, and change no code
    lanes    images encoded at a time, always so many, so that the batch does not matter; None takes the default

    An iterative encoder makes its first pass only, see `refine` for more. `seconds` are those of encoder and generator.
    """
    options = {"masks": masks, "losses": losses, "weights": weights, "callback": callback, "lanes": lanes}
    return by_passes(generator, targets, encoder, space=space, perceptual=perceptual, num=1, keep="last", **options)


@torch.no_grad()
def by_passes(
    generator: Any,
    targets: Tensor,
    encoder: Any,
    *,
    space: Space,
    perceptual: PerceptualDistance | None,
    masks: Tensor | None,
    losses: Mapping[str, ImageDistance] | None,
    weights: Mapping[str, float] | None,
    callback: Callback | None,
    lanes: int | None,
    num: int,
    keep: str,
) -> Inversion:
    """`num` passes of an encoder, all measured; `keep` is best (the lowest loss) or last.

    Measuring counts as work where it decides, with keep=best, and does not where it only informs.
    """
    check_encoder(encoder, generator, space)
    device, seconds = targets.device, 0.0
    masks = None if masks is None else masks.to(device)
    options = {"space": space, "perceptual": perceptual, "losses": losses}
    options["weights"] = weights_by_name(weights, losses or ())
    chunks = []
    for rows in chunk_rows(len(targets), resolve_chunk_size(lanes, generator.resolution, device), device):
        own_masks = None if masks is None else masks[rows]
        answers = passes(generator, encoder, targets[rows], space=space, num=num, masks=own_masks)
        chunks.append(_Chunk(answers, Objective(generator, targets[rows], masks=own_masks, **options)))
    mean = encoder.latent_avg.expand(len(targets), -1, -1)
    record = Record(num, [mean[:, 0] if space == "w" else mean, targets])
    for step in range(1, num + 1):
        began = now(device)
        found = [next(each.answers) for each in chunks]
        passed = now(device)
        codes, images = (torch.cat(parts)[: len(targets)] for parts in zip(*found, strict=True))
        terms = [each.objective.terms(picture, [code]) for each, (code, picture) in zip(chunks, found, strict=True)]
        terms = {name: torch.cat([each[name] for each in terms])[: len(targets)] for name in terms[0]}
        record.add(terms, [codes, images])
        seconds += (now(device) if keep == "best" else passed) - began
        if callback is not None:
            callback(Progress(step, num, terms["loss"], images))
    codes, images = record.best if keep == "best" else (codes, images)
    each_second = torch.full((len(targets),), seconds / len(targets))
    return Inversion(codes, images, None, record.finished_history(), each_second)


class _Chunk(NamedTuple):
    """Images that are encoded together: what the encoder says pass by pass, and how it is measured.

    The objective gets no labels: in w and w+ they change nothing.
    """

    answers: Iterator[tuple[Tensor, Tensor]]
    objective: Objective
