"""Health verdicts over a series of readings of a run, and messages when they change.

A verdict requires a deviation of `SURE` standard errors that also matters in size. Limits are relative, so that they
apply to all data and networks:

    diversity, pixels,   fraction of the best value in this run. There are four measures because each has a blind spot:
    distinct, recall     features of broken images can differ as much as those of good ones; so can pixels if there are
                         a few distant kinds; `distinct` sees near-exact copies only; recall cannot tell what was lost
    r_v                  1 - r_v, the fraction of D's margin between training and generated images that remains for
                         unseen real images
    loss_slope           slope of G's loss relative to that where D is undecided: at 1/10 G learns a tenth as fast

    narrowing            fraction of the best recall, once the distance from the training images has fallen since then:
                         better but fewer images, a typical effect of a discriminator on frozen features
    narrow               recall over precision, once the distance has fallen: recall was never any better
    heads_loss           hinge loss of heads on frozen features over 2, its value where they are undecided

Between two limits the previous verdict is kept, so that values hovering around a limit cause no messages. The output of
an untrained StyleGAN2 is as diverse as photographs, so diversity is not judged before the run has arrived, i.e. before
some of its images lie among the real ones with confidence (precision).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from wplus.probes.quality import Estimate
from wplus.training.snapshot import LogMessage

Level = Literal["well", "watch", "alarm"]
LEVELS: tuple[Level, ...] = ("well", "watch", "alarm")
Bounds = tuple[float, float]

OF_THE_BEST = (3 / 4, 1 / 2)
OF_PRECISION = (1 / 4, 1 / 16)
VANISHED = (1 / 10, 1 / 100)
UNDECIDED = 2.0  # hinge loss of an undecided discriminator
FALLING = {"diversity": "diversity", "pixels": "diversity of pixels", "distinct": "distinct images", "recall": "recall"}
TOPICS = {
    "diversity": tuple(FALLING), "overfitting": ("r_v",), "gradient": ("loss_slope",),
    "narrowing": ("narrowing", "narrow"), "heads": ("heads_loss",),
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """The measures of one snapshot; those that could not be computed are absent."""

    kimg: float
    measures: Mapping[str, Estimate]
    levels: Mapping[str, Level] = field(default_factory=dict)
    """Level of each judged measure; set by `judged`."""

    def level(self, topic: str) -> Level:
        """Return the worst level among the measures of a topic."""
        return worst(self.levels.get(name, "well") for name in TOPICS[topic])


def judged(history: Sequence[Reading], reading: Reading) -> Reading:
    """Return the reading with its levels, given the previous readings."""
    before = history[-1].levels if history else {}
    levels = {name: before.get(name, "well") for names in TOPICS.values() for name in names}
    for name, (bounds, limits) in _shares(history, reading).items():
        levels[name] = level_of(bounds, limits, before=levels[name])
    return Reading(reading.kimg, reading.measures, levels)


def _shares(history: Sequence[Reading], reading: Reading) -> dict[str, tuple[Bounds, Bounds]]:
    """Return for each measure the bounds of its fraction of the ideal value, and the limits that apply."""
    found, shares = reading.measures, {}
    for name in found.keys() & FALLING.keys():
        best = best_of(history, name)
        if best is not None and best.measures[name].low > 0:
            # A fall must be certain by the bounds of both, since the best of many readings is favoured by chance.
            now, then = found[name], best.measures[name]
            shares[name] = (now.low / then.value, now.high / then.low), OF_THE_BEST
    shares |= _narrowing_shares(history, reading)
    if "heads_loss" in found:
        shares["heads_loss"] = (found["heads_loss"].low / UNDECIDED, found["heads_loss"].high / UNDECIDED), VANISHED
    if "r_v" in found:
        shares["r_v"] = (1 - found["r_v"].high, 1 - found["r_v"].low), OF_THE_BEST
    if "loss_slope" in found:
        shares["loss_slope"] = (found["loss_slope"].low, found["loss_slope"].high), VANISHED
    return shares


def _narrowing_shares(history: Sequence[Reading], reading: Reading) -> dict[str, tuple[Bounds, Bounds]]:
    """Fractions of recall relative to its best value and to precision; no loss is certain until the distance falls."""
    found, shares = reading.measures, dict[str, tuple[Bounds, Bounds]]()
    if not {"recall", "distance", "precision"} <= found.keys():
        return shares
    recall, precision, best = found["recall"], found["precision"], best_of(history, "recall")
    if best is not None and best.measures["recall"].low > 0:
        high = recall.high / best.measures["recall"].low if _is_nearer(best, reading) else inf
        shares["narrowing"] = (recall.low / best.measures["recall"].value, high), OF_THE_BEST
    first = next((each for each in history if "distance" in each.measures), None)
    if first is not None and precision.low > 0:
        high = recall.high / precision.low if _is_nearer(first, reading) else inf
        shares["narrow"] = (recall.low / precision.high, high), OF_PRECISION
    return shares


def _is_nearer(before: Reading, now: Reading) -> bool:
    """Return whether the distance has fallen with confidence."""
    return "distance" in before.measures and now.measures["distance"].high < before.measures["distance"].low


def level_of(bounds: Bounds, limits: Bounds, *, before: Level) -> Level:
    """Return the level for a fraction within confidence `bounds` (lower is worse); stays at `before` if consistent."""
    perhaps, surely = (sum(bound < limit for limit in limits) for bound in bounds)
    return LEVELS[min(max(LEVELS.index(before), surely), perhaps)]


def state(history: Sequence[Reading]) -> Level | Literal["too early to say"]:
    """Return the state of the run at its last reading."""
    level = worst(history[-1].level(topic) for topic in TOPICS) if history else "well"
    return level if level != "well" or any(map(has_arrived, history)) else "too early to say"


def best_of(history: Iterable[Reading], name: str) -> Reading | None:
    """Return the reading with the highest lower bound of a measure since the run arrived, or None."""
    found = [reading for reading in history if name in reading.measures and has_arrived(reading)]
    return max(found, key=lambda reading: reading.measures[name].low, default=None)


def has_arrived(reading: Reading) -> bool:
    """Return whether some of the generated images lie among the real ones with confidence."""
    return "precision" in reading.measures and reading.measures["precision"].low > 0


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst of some levels, or "well" if there are none."""
    return max(levels, key=LEVELS.index, default="well")


# --- messages ---------------------------------------------------------------------------------------------------------


def verdicts(history: Sequence[Reading], reading: Reading) -> list[LogMessage]:
    """Return a message for each topic whose level differs between `reading` (judged) and the last of `history`."""
    writers = {"diversity": _diversity, "overfitting": _overfitting, "gradient": _gradient, "narrowing": _narrowing,
               "heads": _heads}  # fmt: skip
    messages = []
    for topic, write in writers.items():
        before = LEVELS.index(history[-1].level(topic) if history else "well")
        now = LEVELS.index(reading.level(topic))
        if now != before:
            messages.append(LogMessage(write(history, reading, now < before), "warning" if now > before else "info"))
    return messages


def _diversity(history: Sequence[Reading], reading: Reading, is_better: bool) -> str:
    level = reading.level("diversity")
    if is_better:
        last = history[-1]
        names = [name for name in FALLING if last.levels.get(name, "well") != "well" and name in reading.measures]
        parts = [
            f"{FALLING[name]} at {reading.measures[name].value:.2f}{_of_real(name)} (from {_lowest(history, name):.2f})"
            for name in names
        ]
        return f"{'Back' if level == 'well' else 'Partly back'}: {', '.join(parts)}."
    fallen = [name for name in FALLING if reading.levels.get(name) == level]
    facts = ", ".join(_fall(history, reading, name) for name in fallen)
    if fallen == ["recall"]:  # images still differ from each other, but also from the real ones
        meaning = "kinds of real images are going missing" if level == "watch" else "most kinds of real images are lost"
    else:
        meaning = "the images become fewer" if level == "watch" else "the generator has collapsed to few images"
    remedy = "Smaller learning rates, a larger gamma, another loss or another seed are what to try."
    return f"{facts[:1].upper()}{facts[1:]}: {meaning}. {remedy}"


def _fall(history: Sequence[Reading], reading: Reading, name: str) -> str:
    """Describe a fall, e.g. "diversity fell from 0.91 (at 6 kimg) to 0.22 of the real images'"."""
    best = best_of(history, name)
    assert best is not None, "without a best nothing falls"
    was, now = best.measures[name].value, reading.measures[name].value
    return f"{FALLING[name]} fell from {was:.2f} (at {best.kimg:g} kimg) to {now:.2f}{_of_real(name)}"


def _of_real(name: str) -> str:
    return "" if name == "recall" else " of the real images'"


def _lowest(history: Sequence[Reading], name: str) -> float:
    """Return the lowest value since the measure was last well."""
    ill = itertools.takewhile(lambda reading: reading.levels.get(name, "well") != "well", reversed(history))
    return min(reading.measures[name].value for reading in ill if name in reading.measures)


def _overfitting(history: Sequence[Reading], reading: Reading, is_better: bool) -> str:
    r_v = f"r_v is {reading.measures['r_v'].value:.2f}"
    if is_better:
        return f"The discriminator takes images that it has not seen for real ones again: {r_v}."
    meaning = {
        "watch": "begins to know the training images by heart: more than a quarter of its margin between these and "
        "generated images is gone for real ones that it has not seen",
        "alarm": "overfits: to it, real images that it has not seen are more like generated than like training images",
    }[reading.level("overfitting")]
    remedy = "More images, mirror=x, augment=ada or a larger gamma help."
    return f"The discriminator {meaning} ({r_v}; 0 is none, 1 complete). {remedy}"


def _gradient(history: Sequence[Reading], reading: Reading, is_better: bool) -> str:
    slope = f"{reading.measures['loss_slope'].value:.2g}"
    if is_better:
        return f"The generator's loss has a slope again: {slope} of that where the discriminator cannot tell."
    return (
        "The discriminator is so sure of generated images that the generator's loss is flat there: its slope is "
        f"{slope} of that where the discriminator cannot tell. loss=nonsaturating is not flat there; a smaller "
        "lr_discriminator or a penalty helps too."
    )


def _narrowing(history: Sequence[Reading], reading: Reading, is_better: bool) -> str:
    recall, distance = (reading.measures[name].value for name in ("recall", "distance"))
    if is_better:
        return f"Recall has come back to {recall:.2f}."
    worse = reading.levels.get("narrowing") == reading.level("narrowing")
    best = best_of(history, "recall")
    if worse and best is not None:
        fall = f"Recall fell from {best.measures['recall'].value:.2f} (at {best.kimg:g} kimg) to {recall:.2f}"
        facts = f"{fall} while the distance from the training images fell from {best.measures['distance'].value:.2f}"
    else:
        first = next(each for each in history if "distance" in each.measures)
        facts = f"Recall is {recall:.2f} at precision {reading.measures['precision'].value:.2f}, and the distance from "
        facts += f"the training images fell from {first.measures['distance'].value:.2f}"
    remedy = "With heads on frozen features a smaller weight, fewer levels or blur before the discriminator help."
    return f"{facts} to {distance:.2f}: images become better and fewer. {remedy}"


def _heads(history: Sequence[Reading], reading: Reading, is_better: bool) -> str:
    loss = f"{reading.measures['heads_loss'].value:.2g}"
    if is_better:
        return f"The heads on frozen features no longer win everywhere: their hinge loss is {loss}."
    return (
        f"The heads on frozen features have won: their hinge loss is {loss} (2 where they cannot tell), and what they "
        "tell the generator costs it variety. Try a smaller weight or learning rate for them."
    )
