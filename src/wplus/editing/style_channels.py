"""Channels of StyleSpace that control an attribute, from a few positive examples (Wu et al. 2021, section 5).

Needs no boundary and few examples: it looks for channels in which the examples agree with each other but differ from
random images.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.editing.directions import Directions, StyleDirection
from wplus.editing.samples import LabelledLatents, expand, members
from wplus.errors import UserError, check_number
from wplus.latents.space import space_of
from wplus.latents.spaces.s import channel_names, style_stats


def style_channels(
    models: Models, *, seed: int = 0, labelled: Callable[[], LabelledLatents], attributes: Sequence[str],
    num_channels: int = 5, min_examples: int = 5,
) -> Directions:  # fmt: skip
    """The top-ranked channels of s for each attribute, as directions called ATTRIBUTE.LAYER.CHANNEL.

    The origin of a channel is its mean over samples of the prior, the unit its standard deviation, signed so that the
    attribute increases.

    Args:
        attributes: attributes to find, see `expand`: body=3, accessory!=0, or body for all its values.
        num_channels: number of most relevant channels per attribute.
        min_examples: attributes with fewer positive latents are refused.
    """
    check_number("num_channels", num_channels, lowest=1, whole=True)
    check_number("min_examples", min_examples, lowest=2, whole=True)
    generator = models.generator
    space, stats, names = space_of("s", generator), style_stats(generator), channel_names(generator)
    given = labelled()
    normalized = stats.normalized(space.from_ws(given.ws.to(stats.mean), generator))
    items = []
    for spec in expand(attributes, given.attributes):
        examples = normalized[torch.from_numpy(members(spec, given.attributes)).to(normalized.device)]
        if len(examples) < min_examples:
            raise UserError(f"attributes must have {min_examples} examples or more, '{spec}' has {len(examples)}.")
        theta, signs = relevance(examples), examples.mean(dim=0).sign()
        for channel in theta.argsort(descending=True)[:num_channels].tolist():
            notes = {"attribute": spec, "relevance": float(theta[channel]), "num_examples": len(examples)}
            unit = float(stats.std[channel] * (signs[channel] or 1))
            items.append(StyleDirection(f"{spec}.{names[channel]}", channel, names[channel], unit,
                                        float(stats.mean[channel]), notes))  # fmt: skip
    settings = {"num_channels": num_channels, "num_latents": len(given.ws), "seed": seed}
    return Directions(tuple(items), models.fingerprint, {"finder": "style_channels", **settings, **given.source})


def relevance(normalized: Tensor) -> Tensor:
    """Relevance (D,) of each channel for examples (N, D): theta = |mean| / deviation of their normalized styles,
    (s - mean of the prior) / deviation of the prior."""
    return normalized.mean(dim=0).abs() / normalized.std(dim=0).clamp_min(1e-6)
