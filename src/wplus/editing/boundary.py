"""Linear boundaries between two classes of vectors: their normal, their place, and how well they separate."""

from __future__ import annotations

from typing import Any

import numpy as np

from wplus.errors import UserError

_MAX_ITERATIONS = 20_000
_LEAST_LEFT = 0.05  # of a normal's length; what is shorter after a projection is rounding, not a direction


def fit(vectors: np.ndarray, labels: np.ndarray, *, seed: int, regularisation: float) -> tuple[np.ndarray, float]:
    """Unit normal (D,) and threshold of a linear support vector machine: vectors (N, D) @ normal > threshold.

    Classes weigh the same however often they occur. Vectors are centred and divided by one number, their total
    deviation, so that `regularisation` (C) means the same for every generator.
    """
    from sklearn.svm import LinearSVC  # slow to import, needed here only

    centre = vectors.mean(axis=0)
    scale = float(np.sqrt(((vectors - centre) ** 2).sum(axis=1).mean()))
    machine = LinearSVC(
        C=regularisation, class_weight="balanced", dual="auto", max_iter=_MAX_ITERATIONS, random_state=seed
    )
    machine.fit((vectors - centre) / scale, labels)
    length = float(np.linalg.norm(machine.coef_))
    normal = machine.coef_[0] / length
    return normal, float(normal @ centre - scale * machine.intercept_[0] / length)


def without(normal: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """The unit normal (D,) made orthogonal to all `others` (M, D); None where nothing to speak of is left."""
    basis = np.linalg.qr(others.T)[0]
    rest = normal - basis @ (basis.T @ normal)
    length = float(np.linalg.norm(rest))
    return None if length < _LEAST_LEFT else rest / length


def held_out_mask(num: int, fraction: float, *, seed: int) -> np.ndarray:
    """Which of `num` samples accuracy is measured on, (num,): a share of them, drawn by the seed."""
    if not 0 < fraction < 1:
        raise UserError(f"held_out_fraction={fraction} is not allowed: it must lie between 0 and 1.")
    return np.random.default_rng(seed).permutation(num) < round(num * fraction)


def separation(projections: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, Any]:
    """How many samples are on their side: in all, on average over both classes, and by always guessing the larger."""
    right = (projections > threshold) == labels
    share = float(labels.mean())
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((right[labels].mean() + right[~labels].mean()) / 2),
        "accuracy_of_a_guess": max(share, 1 - share),
        "num_held_out": len(labels),
    }
