"""Channels of StyleSpace that stand for an attribute, from few examples that have it (Wu et al. 2021, section 5).

Needs no boundary and hardly any examples: it asks which channels the examples have in common that random images have
not. Examples are labelled latents, or samples of the generator that a classifier has named.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.batching import in_batches
from wplus.core.images import to_uint8
from wplus.core.random import rng
from wplus.editing.directions import Directions, StyleDirection
from wplus.editing.samples import LabelledLatents, as_array, expand, members
from wplus.errors import UserError, check_number
from wplus.latents.space import space_of
from wplus.latents.spaces.s import channel_names, style_stats
from wplus.latents.w_stats import map_samples
from wplus.pretrained.attribute_classifier import AttributeClassifier

_BATCH = 64


def style_channels(
    models: Models, *, seed: int = 0, labelled: Callable[[], LabelledLatents], attributes: Sequence[str],
    num_channels: int = 5, min_examples: int = 5, classifier: AttributeClassifier | None = None,
    num_samples: int = 4000,
) -> Directions:  # fmt: skip
    """The channels of s that rank first for each attribute, as directions called ATTRIBUTE.LAYER.CHANNEL.

    The origin of a channel is its mean over samples of the prior, a unit its deviation, with the sign in which the
    attribute grows.

    Args:
        attributes: what to look for, as `expand` reads it: body=3, accessory!=0, or body for all its values.
        num_channels: of each attribute, the most relevant ones.
        min_examples: fewer latents that have an attribute are refused.
        classifier: names the examples among `num_samples` samples of the generator, in the place of `labelled`.
    """
    check_number("num_channels", num_channels, lowest=1, whole=True)
    check_number("min_examples", min_examples, lowest=2, whole=True)
    generator = models.generator
    space, stats, names = space_of("s", generator), style_stats(generator), channel_names(generator)
    given = labelled() if classifier is None else named_samples(models, classifier, num_samples, seed=seed)
    normalized = stats.normalized(space.from_ws(given.ws.to(stats.mean), generator))
    items = []
    for spec in expand(attributes, given.attributes):
        examples = normalized[torch.from_numpy(members(spec, given.attributes)).to(normalized.device)]
        if len(examples) < min_examples:
            raise UserError(f"attributes must be had by {min_examples} examples or more, '{spec}' by {len(examples)}")
        theta, signs = relevance(examples), examples.mean(dim=0).sign()
        for channel in theta.argsort(descending=True)[:num_channels].tolist():
            notes = {"attribute": spec, "relevance": float(theta[channel]), "num_examples": len(examples)}
            unit = float(stats.std[channel] * (signs[channel] or 1))
            items.append(StyleDirection(f"{spec}.{names[channel]}", channel, names[channel], unit,
                                        float(stats.mean[channel]), notes))  # fmt: skip
    settings = {"num_channels": num_channels, "num_latents": len(given.ws), "seed": seed}
    return Directions(tuple(items), models.fingerprint, {"finder": "style_channels", **settings, **given.source})


def relevance(normalized: Tensor) -> Tensor:
    """(D,) of each channel for what examples (N, D) have in common: theta = |mean| / deviation of their normalized
    styles, (s - mean of the prior) / deviation of the prior."""
    return normalized.mean(dim=0).abs() / normalized.std(dim=0).clamp_min(1e-6)


@torch.no_grad()
def named_samples(models: Models, classifier: AttributeClassifier, num: int, *, seed: int) -> LabelledLatents:
    """Samples of the generator, with its stored noise, whose factors a classifier has named."""
    check_number("num_samples", num, lowest=2, whole=True)
    generator = models.generator
    w = map_samples(generator, torch.randn(num, generator.z_dim, generator=rng(seed, "named samples")), None)
    ws, named = w[:, None].repeat(1, generator.num_ws, 1), classifier.to(w.device)

    def factors(some: Tensor) -> list[Tensor]:
        return [named.predicted(to_uint8(generator.synthesis(some, noise_mode="const"))).cpu()]

    (numbers,) = in_batches(factors, ws, _BATCH)
    values = {factor: as_array([classes[index] for index in column.tolist()])
              for (factor, classes), column in zip(named.classes.items(), numbers.T, strict=True)}  # fmt: skip
    return LabelledLatents(ws.cpu(), values, {"latents": f"{num} samples", "attributes": f"named by {named.name}"})
