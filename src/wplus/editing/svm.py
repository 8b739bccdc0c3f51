"""InterFaceGAN: the normal of a linear boundary between latents with and without an attribute (Shen et al. 2020).

https://arxiv.org/abs/1907.10786, section 3.1, and the conditional directions of its section 3.3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.metric_result import MetricInfo
from wplus.editing.directions import Direction, Directions, select_layers
from wplus.editing.samples import LabelledLatents, expand, members, split_comparison
from wplus.errors import UserError, check_choice
from wplus.latents.w_stats import sample_w

MAX_ITERATIONS = 20_000
MIN_LEFT = 0.05  # of a normal's length; anything shorter after a projection is rounding error, not a direction
BALANCED_ACCURACY = MetricInfo(
    meaning="Share of held-out latents on their side of an attribute's boundary, mean over both classes: 1 is all of "
    "them, 0.5 is chance.",
    direction="higher",
)


def svm(
    models: Models, *, seed: int = 0, labelled: Callable[[], LabelledLatents], attributes: Sequence[str],
    layers: str | Sequence[int] = "all", space: Literal["w", "w+"] = "w", orthogonal_to: str | Sequence[str] = "none",
    held_out_fraction: float = 0.3, regularisation: float = 1.0, min_per_class: int = 10, num_samples: int = 10_000,
) -> Directions:  # fmt: skip
    """One direction per attribute: the normal of the decision boundary of a linear support vector machine.

    The origin is the boundary: coordinates are positive where the attribute is present. The notes state how well it
    separates the held-out latents, and how many there were.

    Args:
        attributes: attributes to separate, see `expand`: body=3, accessory!=0, or body for all its values.
        layers: layers that are used for training and changed by edits.
        space: "w" takes the mean over the layers, a single vector; "w+" a separate vector for each layer.
        orthogonal_to: "none"; "others", the normals of all other attributes; or a list of comparisons, fitted as well.
            Normals of the same attribute are never included: its values exclude each other.
        regularisation: C of the support vector machine, for latents with a total deviation of 1.
        num_samples: samples of w that determine units; in w+ the latents themselves do.
    """
    check_choice("space", space, ("w", "w+"))
    if not 0 < held_out_fraction < 1:
        raise UserError(f"held_out_fraction must be above 0 and below 1, got {held_out_fraction}.")
    if isinstance(orthogonal_to, str) and orthogonal_to not in ("none", "others"):
        raise UserError(f"orthogonal_to must be none, others or a list of comparisons, got {orthogonal_to!r}.")
    given, generator = labelled(), models.generator
    selected = select_layers(layers, generator.num_ws)
    vectors = _vectors(given.ws, selected, space)
    conditions = [] if isinstance(orthogonal_to, str) else list(orthogonal_to)
    labels = {spec: members(spec, given.attributes) for spec in expand([*attributes, *conditions], given.attributes)}
    held_out = np.random.default_rng(seed).permutation(len(vectors)) < round(len(vectors) * held_out_fraction)
    for spec in labels:
        _check_classes(spec, labels[spec], held_out, min_per_class)

    boundaries = Boundaries(vectors, labels, held_out, {"seed": seed, "regularisation": regularisation})
    population = vectors if space == "w+" else sample_w(generator, num_samples, seed=seed).numpy()
    items = []
    for spec in labels:
        normal, origin, notes = boundaries.of(spec, _conditions(spec, list(labels), orthogonal_to))
        unit = float((population @ normal).std())
        vector = _per_layer(normal, selected, generator.num_ws, space)
        items.append(Direction(spec, vector, selected, generator.num_ws, unit=unit, origin=origin, notes=notes))
    settings = {"layers": layers, "space": space, "orthogonal_to": orthogonal_to, "regularisation": regularisation,
                "held_out_fraction": held_out_fraction, "num_latents": len(vectors), "seed": seed}  # fmt: skip
    return Directions(tuple(items), models.fingerprint, {"finder": "svm", **settings, **given.source})


class Boundaries:
    """Boundaries between vectors (N, D) with and without each attribute, evaluated on those in `held_out` (N,)."""

    def __init__(
        self, vectors: np.ndarray, labels: Mapping[str, np.ndarray], held_out: np.ndarray, options: Mapping[str, Any]
    ) -> None:
        self._vectors, self._labels, self._held_out, self._options = vectors, labels, held_out, options
        self._fits = {spec: self._fit(vectors, spec) for spec in labels}

    def of(self, spec: str, others: Sequence[str]) -> tuple[np.ndarray, float, dict[str, Any]]:
        """Unit normal (D,), orthogonal to those of `others`, threshold along it, and its accuracy."""
        normal, origin = self._fits[spec]
        notes = {"attribute": spec, "num_with": int(self._labels[spec].sum()), **self._score(normal, origin, spec)}
        if not others:
            return normal, origin, notes
        rest = without(normal, np.stack([self._fits[other][0] for other in others]))
        if rest is None:
            raise UserError(f"No part of '{spec}' is orthogonal to {', '.join(others)}: name fewer of them.")
        # Fit the threshold on the projections onto the remaining direction, one number per latent.
        sign, origin = self._fit((self._vectors @ rest)[:, None], spec)
        normal = sign[0] * rest
        notes["accuracy_unconditional"] = notes["accuracy"]
        return normal, origin, {**notes, **self._score(normal, origin, spec), "orthogonal_to": list(others)}

    def _fit(self, vectors: np.ndarray, spec: str) -> tuple[np.ndarray, float]:
        return fit(vectors[~self._held_out], self._labels[spec][~self._held_out], **self._options)

    def _score(self, normal: np.ndarray, threshold: float, spec: str) -> dict[str, Any]:
        return separation((self._vectors @ normal)[self._held_out], self._labels[spec][self._held_out], threshold)


def fit(vectors: np.ndarray, labels: np.ndarray, *, seed: int, regularisation: float) -> tuple[np.ndarray, float]:
    """Unit normal (D,) and threshold of a linear support vector machine: vectors (N, D) @ normal > threshold.

    Classes have equal weight regardless of their frequency. Vectors are centred and divided by their total deviation,
    so that `regularisation` (C) means the same for every generator.
    """
    from sklearn.svm import LinearSVC  # slow to import, needed here only

    centre = vectors.mean(axis=0)
    scale = float(np.sqrt(((vectors - centre) ** 2).sum(axis=1).mean()))
    options = {"class_weight": "balanced", "dual": "auto", "max_iter": MAX_ITERATIONS, "random_state": seed}
    machine = LinearSVC(C=regularisation, **options).fit((vectors - centre) / scale, labels)
    length = float(np.linalg.norm(machine.coef_))
    normal = machine.coef_[0] / length
    return normal, float(normal @ centre - scale * machine.intercept_[0] / length)


def without(normal: np.ndarray, others: np.ndarray) -> np.ndarray | None:
    """The unit normal (D,) made orthogonal to all `others` (M, D); None if almost nothing is left."""
    basis = np.linalg.qr(others.T)[0]
    rest = normal - basis @ (basis.T @ normal)
    length = float(np.linalg.norm(rest))
    return None if length < MIN_LEFT else rest / length


def separation(projections: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, Any]:
    """Accuracy: overall, balanced over both classes, and of always predicting the larger class."""
    right = (projections > threshold) == labels
    share = float(labels.mean())
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((right[labels].mean() + right[~labels].mean()) / 2),
        "accuracy_of_a_guess": max(share, 1 - share),
        "num_held_out": len(labels),
    }


def _check_classes(spec: str, labels: np.ndarray, held_out: np.ndarray, min_per_class: int) -> None:
    for part, name, least in ((~held_out, "to learn from", min_per_class), (held_out, "held out", 1)):
        counts = int(labels[part].sum()), int((~labels[part]).sum())
        if min(counts) < least:
            found = f"'{spec}' holds for {counts[0]} and fails for {counts[1]} of the latents {name}"
            raise UserError(f"{found}; both must be at least {least}: take more images, or lower min_per_class.")


def _conditions(spec: str, specs: Sequence[str], orthogonal_to: str | Sequence[str]) -> list[str]:
    """The comparisons that the normal of one comparison is made orthogonal to."""
    if orthogonal_to == "none":
        return []
    others = [other for other in specs if split_comparison(other)[0] != split_comparison(spec)[0]]
    if orthogonal_to == "others":
        return others
    return [other for other in others if other in orthogonal_to or split_comparison(other)[0] in orthogonal_to]


def _vectors(ws: Tensor, layers: Sequence[int], space: str) -> np.ndarray:
    """ws (N, num_ws, w_dim) -> vectors to separate: (N, w_dim) in w, (N, layers * w_dim) in w+."""
    chosen = ws[:, list(layers)].double().cpu()
    return (chosen.mean(dim=1) if space == "w" else chosen.flatten(1)).numpy()


def _per_layer(normal: np.ndarray, layers: Sequence[int], num_ws: int, space: str) -> Tensor:
    """A normal as the vector of a direction: (w_dim,), or (num_ws, w_dim) with zeros in the other layers."""
    vector = torch.from_numpy(normal).float()
    if space == "w":
        return vector
    rows = torch.zeros(num_ws, len(vector) // len(layers))
    rows[list(layers)] = vector.view(len(layers), -1)
    return rows
