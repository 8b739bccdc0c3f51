"""Is a run well? Verdicts over a series of readings, in words that say what the numbers mean and what to try.

Nothing is said on the strength of a number that its error could explain: a verdict needs `SURE` standard errors. On top
of that it needs to matter, and the limits of that are shares of something, so that they hold for all data and networks:

    diversity, pixels,   the share of the best that this run has had. Below 3/4 something is going on; below 1/2, half
    distinct, recall     of what the generator could do is gone
    seen                 1 - r_v, the share of the discriminator's margin between training and generated images that is
                         left for real images which it has not seen. At 1/2 these are as near to the generated ones, in
                         its opinion, as to the training images
    pull                 the slope of the generator's loss, over that where the discriminator could not tell. At 1/10
                         the generator learns a tenth as fast, at 1/100 hardly

Four measures ask for diversity because each is blind to something: features of broken pictures can differ as much as
those of good ones, pixels of a few kinds that are far apart do, copies are exact, and recall cannot tell what was lost.

Between two limits the verdict before stands until the number is surely on the other side: one that hovers about a limit
is no news.

A young run has no best to fall from, and none is taken from it: the noise of a StyleGAN2 that has learned nothing is as
diverse as photographs, so that diversity falls when learning begins. The run has arrived once some of its images surely
lie among the real ones (precision); before that nothing is said of its diversity, good or bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from wplus.probes.estimates import Estimate

Level = Literal["well", "watch", "alarm"]
LEVELS: tuple[Level, ...] = ("well", "watch", "alarm")
Health = Literal["well", "watch", "alarm", "too early to say"]

Pair = tuple[float, float]

SURE = 3.0
"""Standard errors. One of some thousand numbers, the worst of a long run, is as far off by chance."""
OF_THE_BEST = (3 / 4, 1 / 2)
VANISHED = (1 / 10, 1 / 100)
FALLING = {"diversity": "diversity", "pixels": "diversity of pixels", "distinct": "distinct images", "recall": "recall"}
TOPICS = {"diversity": tuple(FALLING), "overfitting": ("seen",), "gradient": ("pull",)}


@dataclass(frozen=True)
class Reading:
    """The measures of one moment; a measure that could not be taken is absent."""

    kimg: float
    measures: Mapping[str, Estimate]
    levels: Mapping[str, Level] = field(default_factory=dict)
    """Of each measure that has one; given by `judged`."""

    def level(self, topic: str) -> Level:
        """The worst of the measures that belong to the topic."""
        return worst(self.levels.get(name, "well") for name in TOPICS[topic])


def judged(history: Sequence[Reading], reading: Reading) -> Reading:
    """The reading with its levels, given those before it."""
    before = history[-1].levels if history else {}
    levels = {name: before.get(name, "well") for name in (*FALLING, "seen", "pull")}
    for name, (bounds, limits) in _shares(history, reading).items():
        levels[name] = level_of(bounds, limits, before=before.get(name, "well"))
    return Reading(reading.kimg, reading.measures, levels)


def health(history: Sequence[Reading]) -> Health:
    """Of the run at its last reading."""
    level = worst(history[-1].level(topic) for topic in TOPICS) if history else "well"
    return level if level != "well" or any(map(has_arrived, history)) else "too early to say"


def level_of(bounds: Pair, limits: Pair, *, before: Level) -> Level:
    """The level of a share that surely lies within `bounds` (lower is worse): `before`, if that can be."""
    perhaps, surely = (sum(bound < limit for limit in limits) for bound in bounds)
    return LEVELS[min(max(LEVELS.index(before), surely), perhaps)]


def best_of(history: Iterable[Reading], name: str) -> Reading | None:
    """Where the measure was surely highest since the run has arrived; None: nowhere yet."""
    found = [reading for reading in history if name in reading.measures and has_arrived(reading)]
    return max(found, key=lambda reading: low(reading.measures[name]), default=None)


def has_arrived(reading: Reading) -> bool:
    """Whether some of the generated images surely lie among the real ones."""
    return "precision" in reading.measures and low(reading.measures["precision"]) > 0


def worst(levels: Iterable[Level]) -> Level:
    """The highest of some levels; "well" of none."""
    return max(levels, key=LEVELS.index, default="well")


def low(estimate: Estimate) -> float:
    """What a number surely reaches."""
    return estimate.value - SURE * estimate.error


def high(estimate: Estimate) -> float:
    """What a number surely does not exceed."""
    return estimate.value + SURE * estimate.error


def _shares(history: Sequence[Reading], reading: Reading) -> dict[str, tuple[Pair, Pair]]:
    """Bounds of what is left of what could be, and the limits for it."""
    measures, shares = reading.measures, {}
    for name in FALLING.keys() & measures.keys():
        best = best_of(history, name)
        if best is not None and low(best.measures[name]) > 0:
            # A fall is sure by the bounds of both: the best of many readings is one that chance has favoured.
            now, then = measures[name], best.measures[name]
            shares[name] = (low(now) / then.value, high(now) / low(then)), OF_THE_BEST
    if "r_v" in measures:
        shares["seen"] = (1 - high(measures["r_v"]), 1 - low(measures["r_v"])), OF_THE_BEST
    if "pull" in measures:
        shares["pull"] = (low(measures["pull"]), high(measures["pull"])), VANISHED
    return shares
