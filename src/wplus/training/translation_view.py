"""Snapshot view of a translator: inputs, outputs and the truth side by side, metrics, and warnings for known faults."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import bootstrap_mean
from wplus.data import ImageSet
from wplus.data.domains import TwoDomains
from wplus.errors import check_number
from wplus.losses import translation_faults as faults
from wplus.losses.image_pair import coloured
from wplus.losses.pixel import L1
from wplus.training.snapshot import BATCH, LogMessage, Picture, ProbeResult, alternating, at, grid
from wplus.training.translation import Direction, TranslationModule

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
# Thresholds beyond which a fault is reported.
STILL = 0.25  # fraction of the change that the truth requires
STILL_UNKNOWN = 0.01  # mean change of pixels in [-1, 1] if no truth is known: about one level of 255
INVERTED = -0.1  # correlation
CHECKERED = 10.0  # times the power of real images
HIDDEN = 3.0  # times the sum of the cycle error without noise and the noise itself


@dataclass(frozen=True)
class Side:
    """Held-out inputs (N, C, R, R) of a direction, their true translations if known, and real images of the target."""

    inputs: Tensor
    truth: Tensor | None
    real: Tensor


class TranslationView:
    """Translations of the first `num_samples` held-out images of each domain, the same at all snapshots of all runs."""

    def __init__(self, held_out: TwoDomains, *, num_samples: int) -> None:
        check_number("num_samples", num_samples, lowest=1, whole=True)
        self.sides: dict[Direction, Side] = {}
        for direction in DIRECTIONS:
            images, truth = held_out.side(direction)
            real = held_out.b if direction == "forward" else held_out.a
            self.sides[direction] = Side(
                _first(images, num_samples), None if truth is None else _first(truth, num_samples),
                _first(real, num_samples),
            )  # fmt: skip

    def look(self, module: TranslationModule, folder: Path) -> ProbeResult:
        """Return a grid and metrics for each available direction."""
        pictures, results, messages = [], [], []
        values: dict[str, tuple[float, MetricInfo]] = {}
        for direction in DIRECTIONS:
            if module.translator(direction) is None:
                continue
            side = self.sides[direction]
            outputs = _batched(module, side.inputs, direction)
            back = _back(module, outputs, direction)
            pictures.append(_picture(module, direction, side, outputs, back))
            if not outputs.isfinite().all():
                continue
            results += list(_against_truth(module, direction, side, outputs))
            found = dict(_health(module, direction, side, outputs, back))
            values |= {f"probe/translation/{name}_{direction}": number for name, number in found.items()}
            if module.images_seen:  # before that it is untrained
                numbers = {name: value for name, (value, _) in found.items()}
                messages += [LogMessage(f"{_TITLES[direction]}: {text}", "warning") for text in _faults(numbers, side)]
        measured = ProbeResult.measured(results, pictures=pictures)
        return ProbeResult(pictures, {**measured.values, **values}, messages=messages, summary=measured.summary)


_TITLES: dict[Direction, str] = {"forward": "Forward, a to b", "backward": "Backward, b to a"}


def _first(images: ImageSet, num: int) -> Tensor:
    return to_float(images.batch(torch.arange(min(num, len(images))))[0])


def _batched(module: TranslationModule, images: Tensor, direction: Direction) -> Tensor:
    return torch.cat([module.translate(part.to(module.device), direction).cpu() for part in images.split(BATCH)])


def _back(module: TranslationModule, outputs: Tensor, direction: Direction) -> Tensor | None:
    """Translate outputs back with the other translator; None if there is none."""
    other: Direction = "backward" if direction == "forward" else "forward"
    return None if module.translator(other) is None else _batched(module, outputs, other)


def _picture(
    module: TranslationModule, direction: Direction, side: Side, outputs: Tensor, back: Tensor | None
) -> Picture:
    rows = {"input": side.inputs, "output": outputs, "truth": side.truth, "there and back": back}
    shown = {name: coloured(images) for name, images in rows.items() if images is not None}
    caption = f"held-out images, {_TITLES[direction].lower()}; rows in turn: {', '.join(shown)}"
    name = at(module) if direction == "forward" else f"{at(module)}-{direction}"
    return Picture(name, f"samples/{direction}", caption, grid(alternating(*shown.values())))


def _against_truth(
    module: TranslationModule, direction: Direction, side: Side, outputs: Tensor
) -> Iterator[MetricResult]:
    if side.truth is None:
        return
    term = L1()
    distances = term(outputs, side.truth)
    mean = bootstrap_mean(distances.numpy())
    protocol: dict[str, Any] = {"split": "held_out", "num_images": len(distances), "direction": direction,
                                "kimg": module.images_seen / 1000, "mode": "inference"}  # fmt: skip
    if mean.interval is not None:
        protocol["interval"] = "95 %, percentile bootstrap over images"
    info = MetricInfo(meaning=f"Distance of held-out outputs from the truth: {term.info.meaning}", direction="lower")
    name = term.name if direction == "forward" else f"{term.name}_{direction}"
    yield MetricResult.of(info, name, mean.value, protocol=protocol, interval=mean.interval)


def _health(
    module: TranslationModule, direction: Direction, side: Side, outputs: Tensor, back: Tensor | None
) -> Iterator[tuple[str, tuple[float, MetricInfo]]]:
    yield "change", (float(faults.change(side.inputs, outputs).mean()), faults.CHANGE)
    likeness = faults.correlation(outputs, side.inputs if side.truth is None else side.truth)
    yield "correlation", (float(likeness.mean()), faults.CORRELATION)
    yield "nyquist", (faults.nyquist_ratio(outputs, side.real), faults.NYQUIST)
    if back is None:
        return
    between = {"noise": (faults.noisy(outputs), faults.CYCLE_NOISE), "jpeg": (faults.jpeg(outputs), faults.CYCLE_JPEG)}
    yield "cycle", (float(faults.change(side.inputs, back).mean()), faults.CYCLE)
    for name, (images, info) in between.items():
        returned = _back(module, images, direction)
        assert returned is not None
        yield f"cycle_{name}", (float(faults.change(side.inputs, returned).mean()), info)


def _faults(found: dict[str, float], side: Side) -> Iterator[str]:
    """Describe the faults found."""
    asked = None if side.truth is None else float(faults.change(side.inputs, side.truth).mean())
    if found["change"] < (STILL_UNKNOWN if asked is None else STILL * asked):
        why = "" if asked is None else f", where the truth differs by {asked:.3g}"
        yield f"the translator does nothing: outputs differ from their inputs by {found['change']:.3g}{why}."
    if found["correlation"] < INVERTED:
        what = "inputs" if side.truth is None else "truth"
        yield f"colours are inverted: outputs and {what} are correlated by {found['correlation']:.2f}."
    if found["nyquist"] > CHECKERED:
        yield f"outputs have a checkerboard, {found['nyquist']:.3g} times the power of real images at that frequency."
    if found.get("cycle_noise", 0.0) > HIDDEN * (found.get("cycle", 0.0) + faults.NOISE_STD):
        yield (
            f"outputs hide information for the way back: with noise added to them the cycle error is "
            f"{found['cycle_noise']:.3g}, without {found['cycle']:.3g}."
        )
