"""How evenly a picture changes along a path: perceptual distances between neighbouring frames, and their summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.core.files import atomic_write


class Perceptual(Protocol):
    """What this file needs of a perceptual distance (wplus.losses.perceptual)."""

    name: str

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (N, C, H, W) in [-1, 1] -> feature maps, each (N, ...)."""

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Distances (N,) of N pairs of images from their features."""


class NeighbourDistances:
    """Takes frames in batches; keeps the distance of every frame to the one before, and of every key point to the next.

    A frame passes through the net once, and only the features of the last frame and the last key point are held.
    `steps_per_transition` tells which frames are key points: frames 0, s, 2 s, ...
    """

    def __init__(self, perceptual: Perceptual, *, steps_per_transition: int) -> None:
        self.perceptual, self.steps_per_transition = perceptual, steps_per_transition
        self.num_frames = 0
        self._steps: list[Tensor] = []
        self._chords: list[Tensor] = []
        self._last: list[Tensor] | None = None
        self._last_key: list[Tensor] | None = None

    @torch.no_grad()
    def add(self, images: Tensor) -> None:
        """Images (B, C, H, W) float in [-1, 1], the next B frames."""
        features = self.perceptual.features(images)
        chain = features if self._last is None else _joined(self._last, features)
        if len(chain[0]) > 1:
            self._steps.append(self.perceptual.distance(_rows(chain, 0, -1), _rows(chain, 1, None)).cpu())
        self._last = _rows(features, -1, None)
        first_key = -self.num_frames % self.steps_per_transition
        for row in range(first_key, len(images), self.steps_per_transition):
            self._add_key(_rows(features, row, row + 1))
        self.num_frames += len(images)

    def _add_key(self, features: list[Tensor]) -> None:
        if self._last_key is not None:
            self._chords.append(self.perceptual.distance(self._last_key, features).cpu())
        self._last_key = features

    @property
    def flat(self) -> Tensor:
        """Distances of every frame to the next, float64 (frames - 1,)."""
        return torch.cat(self._steps).double()

    @property
    def steps(self) -> Tensor:
        """The same as (transitions, steps_per_transition)."""
        return self.flat.reshape(-1, self.steps_per_transition)

    @property
    def chords(self) -> Tensor:
        """Distances between neighbouring key points, float64 (transitions,)."""
        return torch.cat(self._chords).double()


def _joined(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    return [torch.cat([x, y]) for x, y in zip(a, b, strict=True)]


def _rows(features: list[Tensor], start: int, stop: int | None) -> list[Tensor]:
    return [x[start:stop] for x in features]


# Summaries of the distances of one transition


def gini(values: Tensor) -> float:
    """Gini coefficient of non-negative values (T,): 0 where all are equal, near 1 where one has everything.

    Mean absolute difference over twice the mean (Gini 1912), in its sorted form.
    """
    ordered, num = values.double().sort().values, len(values)
    ranks = torch.arange(1, num + 1, dtype=torch.float64)
    return float(((2 * ranks - num - 1) * ordered).sum() / (num * ordered.sum()))


def evenness(steps: Tensor, chord: float) -> dict[str, float]:
    """Numbers of one transition from its step distances (T,) and the distance of its ends.

    Of the distances as they are, as in the literature:
    - `step_cv`: standard deviation over mean; 0 is perfectly even. (DiffMorpher, arXiv:2312.07409, reports the
      variance, which depends on the scale.)
    - `step_smoothness`: 1 - Gini; 1 is perfectly even (AID, arXiv:2403.17924).
    - `step_jump_ratio`: largest over mean; 1 is perfectly even, T is one single jump.

    Of their square roots, because distances of the LPIPS family are squares of a Euclidean distance between features,
    and only that adds up along a path (sums of the squares vanish as T grows):
    - `path_length`: sum of the roots, the length of the way through feature space.
    - `tortuosity`: path length over the root of the chord; 1 is the straight way. Left out where the ends are equal.
    """
    total, length = float(steps.sum()), float(steps.clamp_min(0).sqrt().sum())
    if total == 0:  # nothing moves: as even as can be
        return {"step_cv": 0.0, "step_smoothness": 1.0, "step_jump_ratio": 1.0, "path_length": 0.0}
    mean = total / len(steps)
    values = {
        "step_cv": float(steps.std(correction=0)) / mean,
        "step_smoothness": 1 - gini(steps),
        "step_jump_ratio": float(steps.max()) / mean,
        "path_length": length,
    }
    return values if chord == 0 else values | {"tortuosity": length / chord**0.5}


def mean_evenness(steps: Tensor, chords: Tensor) -> dict[str, float]:
    """`evenness` averaged over transitions: steps (K-1, T), chords (K-1,). Tortuosity only where all have one."""
    each = [evenness(row, float(chord)) for row, chord in zip(steps, chords, strict=True)]
    names = [name for name in each[0] if all(name in values for values in each)]
    return {name: sum(values[name] for values in each) / len(each) for name in names}


def plot_distances(path: str | Path, steps: Tensor, *, title: str, distance_name: str) -> Path:
    """Draw the step distances (K-1, T) over the position along the path, with their mean; writes a PNG."""
    from matplotlib.figure import Figure  # slow to import, needed here only

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    flat = steps.flatten().numpy()
    edges = torch.arange(len(flat) + 1).double() / steps.shape[1]
    axes.stairs(flat, edges.numpy(), fill=True, color="#4878cf")
    axes.axhline(flat.mean(), color="#444444", linewidth=1, linestyle="--", label="mean (perfectly even steps)")
    for key in range(1, len(steps)):
        axes.axvline(key, color="#bbbbbb", linewidth=1)
    axes.set(xlabel="position along the film (whole numbers are key points)", xlim=(0, len(steps)))
    axes.set(ylabel=f"{distance_name} to the next frame", ylim=(0, None))
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="best")
    return atomic_write(path, lambda file: _save(figure, file))


def _save(figure: Any, file: Any) -> None:
    figure.savefig(file, format="png", dpi=120)
