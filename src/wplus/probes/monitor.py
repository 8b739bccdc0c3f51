"""A look that says in words when diversity falls, the discriminator overfits, or the generator's gradient vanishes.

What it measures is explained in `wplus.probes.estimates`, when it says something in `wplus.probes.health`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wplus.core.files import write_json
from wplus.errors import UserError
from wplus.probes import estimates
from wplus.probes.estimates import Estimate
from wplus.probes.health import LEVELS, SURE, TOPICS, Reading, health, judged
from wplus.probes.scene import ProbeContext
from wplus.probes.verdicts import verdicts
from wplus.training.snapshot import ProbeResult

SERIES = "health.json"
LEAST = 16  # images without which nothing is measured: k-th neighbours and errors of means need some
MEANING = "Whether the generator has kept its diversity and the discriminator does not overfit: well, watch or alarm."


def monitor(scene: ProbeContext, *, num_images: int = 1000) -> ProbeResult:
    """The health of the run at this moment, from at most `num_images` images of each kind.

    Values: watch/health/ with diversity (of features), pixels (their diversity), distinct, precision, recall, r_v, r_t,
    pull (slope of the loss), and the levels of the topics, from 0 (well) to 2 (alarm). The series is kept in the run's
    folder as health.json; what lies after the game's clock there is of a run that was interrupted, and is dropped.
    """
    num = min(num_images, len(scene.data))
    if num < LEAST:
        return ProbeResult()
    history = read_series(scene.folder / SERIES, before_kimg=scene.kimg)
    reading = judged(history, Reading(scene.kimg, measures(scene, num, num_logits=num_images)))
    write_series(scene.folder / SERIES, [*history, reading])
    state = health([*history, reading])
    protocol = {"kimg": scene.kimg, "num_images": num, "extractor": scene.extractor.name}
    return ProbeResult(
        values={f"watch/health/{name}": measure.value for name, measure in reading.measures.items()}
        | {f"watch/health/{topic}_level": float(LEVELS.index(reading.level(topic))) for topic in TOPICS},
        words=verdicts(history, reading),
        summary={"health": {"value": state, "protocol": protocol, "meaning": MEANING}},
    )


def measures(scene: ProbeContext, num: int, *, num_logits: int) -> dict[str, Estimate]:
    """Everything that can be measured of this moment; what needs held-out images is left out where there are none.

    Features are compared at equal numbers of images, logits of as many as there are up to `num_logits`.
    """
    generated, real = (scene.features(which, num) for which in ("generated", "train"))
    logits = {which: scene.logits_of(which, num_logits) for which in ("generated", "train")}
    thumbnails = [scene.thumbnails(which, num).flatten(1) for which in ("generated", "train")]
    precision, recall = estimates.manifolds(generated, real)
    game = scene.game
    found = {
        "diversity": estimates.diversity(generated, real),
        "pixels": estimates.diversity(*thumbnails),
        "distinct": estimates.distinct(generated, real),
        "precision": precision,
        "recall": recall,
        "pull": estimates.pull(game.generator_loss, logits["generated"], logits["train"], compares=game.compares),
        "r_t": estimates.signs(logits["train"]),
    }
    if scene.held_out is not None and len(scene.held_out) >= LEAST:
        unseen = scene.logits_of("held_out", num_logits)
        found["r_v"] = estimates.overfitting(
            logits["train"], unseen, logits["generated"], sure=SURE, num_train=len(scene.data)
        )
    return {name: estimate for name, estimate in found.items() if estimate is not None and estimate.is_finite}


def read_series(path: Path, *, before_kimg: float) -> list[Reading]:
    """The readings before a moment; none where there is no file. UserError for a file that is none of ours."""
    if not path.exists():
        return []
    try:
        readings = [_reading(row) for row in json.loads(path.read_text())["readings"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"'{path}' cannot be read as a series of health ({error}); delete it to start anew.") from error
    return [reading for reading in readings if reading.kimg < before_kimg]


def write_series(path: Path, readings: Sequence[Reading]) -> None:
    """Replace the file."""
    write_json(path, {"readings": [asdict(reading) for reading in readings]})


def _reading(row: dict[str, Any]) -> Reading:
    measures = {name: Estimate(float(one["value"]), float(one["error"])) for name, one in row["measures"].items()}
    if not all(level in LEVELS for level in row["levels"].values()):
        raise ValueError(f"levels are {', '.join(LEVELS)}")
    return Reading(float(row["kimg"]), measures, dict(row["levels"]))
