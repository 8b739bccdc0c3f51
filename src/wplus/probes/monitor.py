"""The monitor: a probe that warns when diversity falls, D overfits, the gradient of G's loss vanishes, images get
better at the cost of variety, or heads on frozen features have won.

`INFO` describes its measures; `wplus.probes.health` defines when it reports something.
"""

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from wplus.core.files import write_json
from wplus.core.metric_result import Direction, MetricInfo
from wplus.errors import UserError
from wplus.pretrained.seen import SUFFIX
from wplus.probes.health import LEVELS, TOPICS, Reading, judged, state, verdicts
from wplus.probes.logits import hinge_estimate, mean_sign_estimate, overfitting_estimate, slope_estimate
from wplus.probes.probe import ProbeContext
from wplus.probes.quality import (
    Estimate,
    distance_estimate,
    distinct_estimate,
    diversity_estimate,
    precision_recall_estimates,
)
from wplus.training.snapshot import ProbeResult

FILE = "health.json"
OF_FEATURES = ("diversity", "distinct", "distance", "precision", "recall")  # measured in the extractor's features
LEAST = 16  # minimum number of images, needed for k-th neighbours and standard errors
STATE = "Whether the generator has kept its diversity and the discriminator does not overfit: well, watch or alarm."
_MEANINGS: dict[str, tuple[Direction, str]] = {
    "diversity": ("higher", "Mean distance of generated images' features, over that of real ones; 0 is one image."),
    "pixels": ("higher", "Mean distance of generated thumbnails' pixels, over that of real ones; 0 is one image."),
    "distinct": ("higher", "Generated images that are no copies of each other, over such real ones; 1 is the best."),
    "precision": ("higher", "Share of the generated images that lie among the training images in feature space."),
    "recall": ("higher", "Share of the training images that lie among the generated images in feature space."),
    "distance": ("lower", "Energy distance of generated from training images' features, over that of two real ones."),
    "heads_loss": (
        "neither",
        "Hinge loss of heads on frozen features: 2 where they cannot tell, 0 where they won.",
    ),
    "r_v": ("lower", "Overfitting: 0, D takes held-out images for training images; 1, for generated ones."),
    "r_t": ("lower", "Mean sign of D's logits of training images: 1, all are real to it; near 0, no overfitting."),
    "loss_slope": ("neither", "Slope of G's loss at its images, over that where D cannot tell; 0 is no gradient."),
    **{f"{topic}_level": ("lower", f"Verdict on the {topic}: 0 is well, 1 watch, 2 alarm.") for topic in TOPICS},
}
INFO = {name: MetricInfo(meaning=text, direction=direction) for name, (direction, text) in _MEANINGS.items()}


def monitor(context: ProbeContext, *, num_images: int = 500) -> ProbeResult:
    """Measure the health of the run on up to `num_images` images of each kind: probe/health/..., see `INFO`.

    The series is stored as health.json in the run's folder. Entries there that are later than the run's clock stem from
    an interruption and are dropped.
    """
    num = min(num_images, len(context.data.train))
    if num < LEAST:
        return ProbeResult()
    history = read_series(context.folder / FILE, before_kimg=context.kimg)
    reading = judged(history, Reading(context.kimg, measures(context, num, num_logits=num_images)))
    write_json(context.folder / FILE, {"readings": [asdict(each) for each in [*history, reading]]})
    values = {name: measure.value for name, measure in reading.measures.items()}
    values = {context.of_extractor(name) if name in OF_FEATURES else name: value for name, value in values.items()}
    values |= {f"{topic}_level": float(LEVELS.index(reading.level(topic))) for topic in TOPICS}
    protocol = {"kimg": context.kimg, "num_images": num, "extractor": context.data.extractor.name}
    return ProbeResult(
        values={f"probe/health/{name}": (value, INFO[name.removesuffix(SUFFIX)]) for name, value in values.items()},
        messages=verdicts(history, reading),
        summary={"probe/health": {"value": state([*history, reading]), "protocol": protocol, "meaning": STATE}},
    )


def measures(context: ProbeContext, num: int, *, num_logits: int) -> dict[str, Estimate]:
    """Return all measures available now; features are compared at equal numbers of images."""
    generated, real = (context.features(which, num) for which in ("generated", "train"))
    thumbnails = [context.thumbnails(which, num).flatten(1) for which in ("generated", "train")]
    precision, recall = precision_recall_estimates(generated, real)
    found = {
        "diversity": diversity_estimate(generated, real),
        "pixels": diversity_estimate(*thumbnails),
        "distinct": distinct_estimate(generated, real),
        "distance": distance_estimate(generated, real),
        "precision": precision,
        "recall": recall,
        **(of_logits(context, num, num_logits=num_logits) if context.has_discriminator else {}),
    }
    return {name: each for name, each in found.items() if each is not None and isfinite(each.value + each.error)}


def of_logits(context: ProbeContext, num: int, *, num_logits: int) -> dict[str, Estimate | None]:
    """Return the measures based on the discriminator's logits."""
    fake_logits, train_logits = (context.logits(which, num_logits) for which in ("generated", "train"))
    module, held_out = context.module, context.data.held_out
    found = {
        "loss_slope": slope_estimate(module.generator_loss, fake_logits, train_logits, compares=module.compares),
        "r_t": mean_sign_estimate(train_logits),
    }
    if held_out is not None and len(held_out) >= LEAST:
        unseen = context.logits("held_out", num_logits)
        num_train = len(context.data.train)
        found["r_v"] = overfitting_estimate(train_logits, unseen, fake_logits, num_train=num_train)
    hinges = [context.head_hinges(which, num) for which in ("train", "generated")]
    if hinges[0] is not None and hinges[1] is not None:
        found["heads_loss"] = hinge_estimate(hinges[0], hinges[1])
    return found


def read_series(path: Path, *, before_kimg: float) -> list[Reading]:
    """Read the readings before `before_kimg`; empty if there is no file. UserError for a file in another format."""
    if not path.exists():
        return []
    try:
        readings = [_reading(row) for row in json.loads(path.read_text())["readings"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{path}' cannot be read as a series of health readings ({error}); delete it to start over."
        ) from error
    return [reading for reading in readings if reading.kimg < before_kimg]


def _reading(row: dict[str, Any]) -> Reading:
    found = {name: Estimate(float(one["value"]), float(one["error"])) for name, one in row["measures"].items()}
    if not all(level in LEVELS for level in row["levels"].values()):
        raise ValueError(f"levels are {', '.join(LEVELS)}")
    return Reading(float(row["kimg"]), found, dict(row["levels"]))
