"""What is said of a run's health: a sentence when something changes, none when it stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

from wplus.probes.health import FALLING, LEVELS, TOPICS, Reading, best_of
from wplus.training.snapshot import LogMessage

TRY_FOR_DIVERSITY = "Smaller learning rates, a larger gamma, another loss or another seed are what to try."
OF_REAL = dict.fromkeys(FALLING, " of the real images'") | {"recall": ""}
TRY_FOR_OVERFITTING = "More images, mirror=x, augment=ada or a larger gamma help."
TRY_FOR_GRADIENT = "loss=nonsaturating is not flat there; a smaller lr_discriminator or a penalty helps too."


def verdicts(history: Sequence[Reading], reading: Reading) -> list[LogMessage]:
    """Of the topics whose level is another one in `reading` (judged) than in the last of `history`."""
    say = {"diversity": _diversity, "overfitting": _overfitting, "gradient": _gradient}
    before = {topic: history[-1].level(topic) if history else "well" for topic in TOPICS}
    changed = [topic for topic in TOPICS if reading.level(topic) != before[topic]]
    return [_sentence(say[topic](history, reading), reading, topic, before[topic]) for topic in changed]


def _sentence(text: str, reading: Reading, topic: str, before: str) -> LogMessage:
    is_worse = LEVELS.index(reading.level(topic)) > LEVELS.index(before)
    return LogMessage(text, "warning" if is_worse else "info")


# --- diversity --------------------------------------------------------------------------------------------------------


def _diversity(history: Sequence[Reading], reading: Reading) -> str:
    level, before = (one.level("diversity") for one in (reading, history[-1] if history else Reading(0, {})))
    if LEVELS.index(level) < LEVELS.index(before):
        return _recovered(history, reading)
    fallen = [name for name in FALLING if reading.levels.get(name) == level]
    return f"{_facts(history, reading, fallen)}: {_meaning(fallen, level)}. {TRY_FOR_DIVERSITY}"


def _meaning(fallen: Sequence[str], level: str) -> str:
    if fallen == ["recall"]:  # they still differ, but from the real ones too
        return "kinds of real images are going missing" if level == "watch" else "most kinds of real images are lost"
    return "the images become fewer" if level == "watch" else "the generator has collapsed to few images"


def _facts(history: Sequence[Reading], reading: Reading, names: Sequence[str]) -> str:
    """Diversity fell from 0.91 (at 6 kimg) to 0.22, recall from ... of the real images'."""
    parts = []
    for name in names:
        best = best_of(history, name)
        assert best is not None, "without a best nothing falls"
        was, now = best.measures[name].value, reading.measures[name].value
        parts.append(f"{FALLING[name]} fell from {was:.2f} (at {best.kimg:g} kimg) to {now:.2f}{OF_REAL[name]}")
    return _capital(", ".join(parts))


def _recovered(history: Sequence[Reading], reading: Reading) -> str:
    last = history[-1]
    names = [name for name in FALLING if last.levels.get(name, "well") != "well" and name in reading.measures]
    parts = [
        f"{FALLING[name]} at {reading.measures[name].value:.2f}{OF_REAL[name]} (from {_lowest(history, name):.2f})"
        for name in names
    ]
    return f"{'Back' if reading.level('diversity') == 'well' else 'Partly back'}: {', '.join(parts)}."


def _lowest(history: Sequence[Reading], name: str) -> float:
    """Since the measure was last well."""
    values = []
    for reading in reversed(history):
        if reading.levels.get(name, "well") == "well":
            break
        if name in reading.measures:
            values.append(reading.measures[name].value)
    return min(values)


# --- the discriminator ------------------------------------------------------------------------------------------------


def _overfitting(history: Sequence[Reading], reading: Reading) -> str:
    r_v = f"r_v is {reading.measures['r_v'].value:.2f}"
    if _is_better(history, reading, "overfitting"):
        return f"The discriminator takes images that it has not seen for real ones again: {r_v}."
    meaning = {
        "watch": "begins to know the training images by heart: more than a quarter of its margin between these and "
        "generated images is gone for real ones that it has not seen",
        "alarm": "overfits: to it, real images that it has not seen are more like generated than like training images",
    }[reading.level("overfitting")]
    return f"The discriminator {meaning} ({r_v}; 0 is none, 1 complete). {TRY_FOR_OVERFITTING}"


def _gradient(history: Sequence[Reading], reading: Reading) -> str:
    pull = f"{reading.measures['pull'].value:.2g}"
    if _is_better(history, reading, "gradient"):
        return f"The generator's loss has a slope again: {pull} of that where the discriminator cannot tell."
    return (
        "The discriminator is so sure of generated images that the generator's loss is flat there: its slope is "
        f"{pull} of that where the discriminator cannot tell. {TRY_FOR_GRADIENT}"
    )


def _is_better(history: Sequence[Reading], reading: Reading, topic: str) -> bool:
    return bool(history) and LEVELS.index(reading.level(topic)) < LEVELS.index(history[-1].level(topic))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
