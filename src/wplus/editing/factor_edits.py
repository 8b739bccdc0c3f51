"""Evaluate edits with an attribute classifier: what they change, and what they preserve.

Images that lack an attribute are edited along its direction until the classifier detects it. Two things are measured:
whether it ever appears, and how many of the other factors are unchanged by then. Each image is evaluated at the first
strength that achieves the attribute, so that directions are comparable regardless of their units.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.batching import whole_batches
from wplus.core.images import to_uint8
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.progress import track
from wplus.core.stats import bootstrap_mean, proportion_interval
from wplus.core.tables import Table
from wplus.editing.directions import AnyDirection, edit_latent
from wplus.editing.samples import factor_values, members, split_comparison
from wplus.errors import UserError, check_numbers
from wplus.latents.latent import Latent, synthesize
from wplus.latents.weight_delta import WeightDelta
from wplus.models.generator import GeneratorNetwork
from wplus.pretrained.attribute_classifier import AttributeClassifier

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
ACHIEVED = MetricInfo(
    meaning="Share of the images without an attribute that acquire it at some strength of its edit, according to the "
    "classifier.",
    direction="higher",
)  # fmt: skip
KEPT = MetricInfo(
    meaning="Share of the other factors that are unchanged at the first strength that achieves the attribute, mean "
    "over the images in which one does.",
    direction="higher",
)  # fmt: skip
EDITABLE = MetricInfo(
    meaning="Share of the other factors kept at the first strength that achieves the attribute, 0 if none does, mean "
    "over the images that lacked it.",
    direction="higher",
)  # fmt: skip
Named = dict[str, np.ndarray]
"""Factor -> its value in each image, (N,)."""


@dataclass(frozen=True)
class Outcome:
    """Result of one direction on the images that lack its attribute.

    Attributes
        asked     (N,) bool: which of all images lack it
        strength  (N,) of the first edit that achieved it, NaN if none did
        kept      (N,) share of the other factors preserved by that edit, NaN if none did
    """

    asked: np.ndarray
    strength: np.ndarray
    kept: np.ndarray

    @property
    def scores(self) -> np.ndarray:
        """Share of factors kept (N,), 0 if the attribute never appeared, NaN if the image had it before."""
        return np.where(self.asked, np.nan_to_num(self.kept), np.nan)


def attribute_of(direction: AnyDirection) -> str:
    """The attribute that names a direction: part of the name for a channel of s, otherwise the whole name."""
    return str(direction.notes.get("attribute", direction.name))


def check_named(directions: Sequence[AnyDirection], classifier: AttributeClassifier) -> None:
    """UserError for a direction that no factor of the classifier names, such as pca0."""
    for direction in directions:
        factor, comparison, _ = split_comparison(attribute_of(direction))
        if not comparison or factor not in classifier.classes:
            known = ", ".join(classifier.classes)
            raise UserError(
                f"A classifier judges directions that one of its factors names ({known}), such as "
                f"{next(iter(classifier.classes))}=VALUE, got '{direction.name}'."
            )


def check_strengths(strengths: Sequence[float]) -> None:
    """UserError unless strengths are a non-empty sequence of numbers above 0."""
    check_numbers("factor_strengths", strengths, lowest=1e-6)


@torch.no_grad()
def factor_outcomes(
    models: Models, latents: Sequence[Latent], *, directions: Sequence[AnyDirection], classifier: AttributeClassifier,
    strengths: Sequence[float] = STRENGTHS, deltas: Sequence[WeightDelta | None] | None = None, batch_size: int = 64,
) -> dict[str, Outcome]:  # fmt: skip
    """Direction -> outcome of its edits of the latents, all images with the stored noise.

    Args:
        strengths: all above 0; tried in ascending order.
        deltas: the weight delta of pivotal tuning for each latent, or None.
        batch_size: affects speed and memory only.
    """
    check_named(directions, classifier)
    check_strengths(strengths)
    strengths, changes = sorted(strengths), list(deltas or [None] * len(latents))
    given = [replace(latent, noise=None) for latent in latents]
    named = classifier.to(models.generator.mapping.w_avg.device)
    untuned = [row for row, delta in enumerate(changes) if delta is None]
    groups = [untuned] * bool(untuned) + [[row] for row, delta in enumerate(changes) if delta is not None]
    edits = [(direction, strength) for direction in directions for strength in strengths]
    known = models.fingerprint if len(untuned) < len(changes) else None
    numbers = torch.empty(1 + len(edits), len(given), len(named.classes), dtype=torch.int64)
    for rows in track(groups, "Editing factors (generators)") if len(groups) > 1 else groups:
        delta = changes[rows[0]]
        generator = models.generator if delta is None else delta.applied(models.generator, known=known)
        numbers[:, rows] = _numbers(generator, [given[row] for row in rows], edits, named, batch_size)
    before, *after = [factor_values(named, each) for each in numbers]
    starts = range(0, len(edits), len(strengths))
    return {
        direction.name: outcome(attribute_of(direction), before, after[first : first + len(strengths)], strengths)
        for direction, first in zip(directions, starts, strict=True)
    }


def _numbers(
    generator: GeneratorNetwork, latents: Sequence[Latent], edits: Sequence[tuple[AnyDirection, float]],
    classifier: AttributeClassifier, batch_size: int,
) -> Tensor:  # fmt: skip
    """(1 + edits, N, factors) int64: predicted classes of the original images, then of those after each edit."""
    found = []
    for edit in track([None, *edits], "Editing factors (edits)") if len(latents) > 1 else [None, *edits]:
        edited = latents if edit is None else [edit_latent(each, generator, *edit) for each in latents]
        batches = whole_batches(edited, batch_size) if len(latents) > 1 else [edited]
        named = [classifier.predicted(to_uint8(synthesize(some, generator))).cpu() for some in batches]
        found.append(torch.cat(named)[: len(latents)])
    return torch.stack(found)


def outcome(attribute: str, before: Named, steps: Sequence[Named], strengths: Sequence[float]) -> Outcome:
    """The outcome from the factors of images before and after edits of increasing strength."""
    factor = split_comparison(attribute)[0]
    asked = ~members(attribute, before)
    has = np.stack([members(attribute, step) for step in steps])  # (strengths, N)
    first, ever = has.argmax(axis=0), has.any(axis=0) & asked
    others = [name for name in before if name != factor]
    same = np.stack([np.mean([step[name] == before[name] for name in others], axis=0) for step in steps])
    kept = np.take_along_axis(same, first[None], axis=0)[0]
    return Outcome(asked, np.where(ever, np.asarray(strengths)[first], np.nan), np.where(ever, kept, np.nan))


def factor_edits(
    models: Models, outcomes: Mapping[str, Outcome], *, classifier: AttributeClassifier,
    strengths: Sequence[float] = STRENGTHS, protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:  # fmt: skip
    """achieved_DIRECTION, kept_DIRECTION, editable_DIRECTION, and editable, the mean over directions, with intervals
    over images; directions whose attribute all images have are omitted."""
    known = {
        "generator": models.fingerprint,
        "strengths": sorted(strengths),
        **{key: value for key, value in classifier.protocol.items() if key != "attributes"},
        **(protocol or {}),
    }
    for name, found in outcomes.items():
        asked = int(found.asked.sum())
        if not asked:
            continue
        came = found.kept[~np.isnan(found.kept)]
        here = known | {"num_images": asked, "interval": "95 %, Wilson over images"}
        yield MetricResult.of(ACHIEVED, f"achieved_{name}", len(came) / asked, protocol=here,
                              interval=proportion_interval(len(came) / asked, asked))  # fmt: skip
        if len(came):
            yield _mean(KEPT, f"kept_{name}", came, known)
        yield _mean(EDITABLE, f"editable_{name}", found.scores[found.asked], known)
    table = np.stack([found.scores for found in outcomes.values()])
    of_images = np.nanmean(table[:, ~np.isnan(table).all(axis=0)], axis=0)
    if len(of_images):
        yield _mean(EDITABLE, "editable", of_images, known | {"directions": list(outcomes)})


def score_table(outcomes: Mapping[str, Outcome], names: Sequence[str], targets: Mapping[str, str]) -> Table:
    """editable_DIRECTION of all images that lacked its attribute, and editable, their mean, for paired comparisons."""
    columns = {f"editable_{name}": found.scores for name, found in outcomes.items()}
    rows: dict[str, dict[str, float]] = {}
    for index, name in enumerate(names):
        row = {column: float(scores[index]) for column, scores in columns.items() if not np.isnan(scores[index])}
        rows[name] = row | ({"editable": float(np.mean(list(row.values())))} if row else {})
    return Table(rows, targets, dict.fromkeys([*columns, "editable"], EDITABLE))


def _mean(info: MetricInfo, name: str, values: np.ndarray, known: Mapping[str, Any]) -> MetricResult:
    mean = bootstrap_mean(values.tolist())
    here = {**known, "num_images": len(values), "interval": "95 %, percentile bootstrap over images, 2000 resamples"}
    return MetricResult.of(info, name, mean.value, protocol=here, interval=mean.interval)
