"""InterFaceGAN: the normal of a linear boundary between codes with and without an attribute (Shen et al. 2020).

https://arxiv.org/abs/1907.10786, section 3.1, and the conditional directions of its section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wplus.editing.boundary import fit, held_out_mask, separation, without
from wplus.editing.classes import expand, members, split
from wplus.editing.directions import Direction, Directions
from wplus.editing.layers import chosen_layers
from wplus.editing.samples import Samples
from wplus.errors import UserError
from wplus.latents.w_stats import sample_w


def svm(
    models: Any,
    *,
    seed: int = 0,
    samples: Callable[[], Samples] | None,
    attributes: Sequence[str],
    layers: str | Sequence[int] = "all",
    space: Literal["w", "w+"] = "w",
    orthogonal_to: str | Sequence[str] = "none",
    held_out_fraction: float = 0.3,
    regularisation: float = 1.0,
    min_per_class: int = 10,
    num_samples: int = 10_000,
) -> Directions:
    """One direction per attribute: the normal of the boundary that a linear support vector machine finds.

    The origin is the boundary: coordinates are positive where the attribute is there. The notes tell how well it
    separates the codes that were held out, and on how many.

    samples            makes the labelled codes; called once
    attributes         what to separate, as `classes.expand` reads it: body=3, accessory!=0, or body for all its values
    layers             whose codes are looked at, and which edits change
    space              w: the mean code over the layers, one vector; w+: a vector of its own for each layer
    orthogonal_to      none; others: normals are made orthogonal to those of all other attributes (of the same
                       attribute never: its values exclude each other); or a list of comparisons, found on the way
    held_out_fraction  share of the codes that accuracy is measured on
    regularisation     C of the support vector machine, for codes with a total deviation of 1
    min_per_class      an attribute with fewer codes than this on either side is refused
    seed, num_samples  of the split, and of the samples of w that units come from; in w+ they come from the codes
    """
    if samples is None or space not in ("w", "w+"):
        raise UserError(f"svm needs labelled codes and space=w or w+; it got space={space}.")
    given, generator = samples(), models.generator
    chosen = chosen_layers(layers, generator.num_ws)
    vectors = _vectors(given.codes, chosen, space)
    conditions = [] if isinstance(orthogonal_to, str) else list(orthogonal_to)
    labels = {spec: members(spec, given.attributes) for spec in expand([*attributes, *conditions], given.attributes)}
    boundaries = _Boundaries(vectors, labels, seed=seed, fraction=held_out_fraction, regularisation=regularisation,
                             min_per_class=min_per_class)  # fmt: skip
    population = vectors if space == "w+" else sample_w(generator, num_samples, seed=seed).numpy()
    items = []
    for spec in labels:
        normal, origin, notes = boundaries.along(spec, _conditions(spec, list(labels), orthogonal_to))
        unit = float((population @ normal).std())
        vector = _per_layer(normal, chosen, generator.num_ws, space)
        items.append(Direction(spec, vector, chosen, generator.num_ws, unit=unit, origin=origin, notes=notes))
    settings = {"layers": layers, "space": space, "orthogonal_to": orthogonal_to, "regularisation": regularisation,
                "held_out_fraction": held_out_fraction, "num_codes": len(vectors), "seed": seed}  # fmt: skip
    return Directions(tuple(items), models.fingerprint, {"finder": "svm", **settings, **given.source})


class _Boundaries:
    """The boundaries of all attributes between the same vectors (N, D), with the same vectors held out."""

    def __init__(self, vectors: np.ndarray, labels: dict[str, np.ndarray], *, seed: int, fraction: float,
                 regularisation: float, min_per_class: int) -> None:  # fmt: skip
        self._vectors, self._labels = vectors, labels
        self._options = {"seed": seed, "regularisation": regularisation}
        self._held_out = held_out_mask(len(vectors), fraction, seed=seed)
        for spec, one in labels.items():
            self._check(spec, one, min_per_class)
        self._fits = {spec: self._fit(vectors, spec) for spec in labels}

    def along(self, spec: str, conditions: Sequence[str]) -> tuple[np.ndarray, float, dict[str, Any]]:
        """Normal (D,), threshold, and how it separates what was held out; the normal orthogonal to those of others."""
        normal, threshold = self._fits[spec]
        notes = {"attribute": spec, "num_with": int(self._labels[spec].sum()), **self._score(spec, normal, threshold)}
        if not conditions:
            return normal, threshold, notes
        normal = without(normal, np.stack([self._fits[other][0] for other in conditions]))
        if normal is None:
            raise UserError(f"Nothing of '{spec}' is orthogonal to {', '.join(conditions)}: name fewer of them.")
        # The boundary along what is left: that of the one number that a code has there.
        sign, threshold = self._fit((self._vectors @ normal)[:, None], spec)
        normal = sign[0] * normal
        notes["accuracy_unconditional"] = notes["accuracy"]
        return normal, threshold, {**notes, **self._score(spec, normal, threshold), "orthogonal_to": list(conditions)}

    def _fit(self, vectors: np.ndarray, spec: str) -> tuple[np.ndarray, float]:
        return fit(vectors[~self._held_out], self._labels[spec][~self._held_out], **self._options)

    def _score(self, spec: str, normal: np.ndarray, threshold: float) -> dict[str, Any]:
        return separation((self._vectors @ normal)[self._held_out], self._labels[spec][self._held_out], threshold)

    def _check(self, spec: str, labels: np.ndarray, min_per_class: int) -> None:
        for part, name, least in ((~self._held_out, "to learn from", min_per_class), (self._held_out, "held out", 1)):
            counts = int(labels[part].sum()), int((~labels[part]).sum())
            if min(counts) < least:
                raise UserError(
                    f"'{spec}' holds for {counts[0]} and fails for {counts[1]} of the codes {name}; "
                    f"both must be at least {least}: take more images, or lower min_per_class."
                )


def _conditions(spec: str, specs: Sequence[str], orthogonal_to: str | Sequence[str]) -> list[str]:
    """What the normal of one comparison is made orthogonal to."""
    if isinstance(orthogonal_to, str) and orthogonal_to not in ("none", "others"):
        raise UserError(f"orthogonal_to={orthogonal_to} is not known; allowed are none, others and a list.")
    if orthogonal_to == "none":
        return []
    others = [other for other in specs if split(other)[0] != split(spec)[0]]
    if orthogonal_to == "others":
        return others
    return [other for other in others if other in orthogonal_to or split(other)[0] in orthogonal_to]


def _vectors(codes: Tensor, layers: Sequence[int], space: str) -> np.ndarray:
    """Codes (N, num_ws, w_dim) -> what is separated: (N, w_dim) in w, (N, layers * w_dim) in w+."""
    chosen = codes[:, list(layers)].double().cpu()
    return (chosen.mean(dim=1) if space == "w" else chosen.flatten(1)).numpy()


def _per_layer(normal: np.ndarray, layers: Sequence[int], num_ws: int, space: str) -> Tensor:
    """A normal as the vector of a direction: (w_dim,), or (num_ws, w_dim) with zeros in the other layers."""
    vector = torch.from_numpy(normal).float()
    if space == "w":
        return vector
    rows = torch.zeros(num_ws, len(vector) // len(layers))
    rows[list(layers)] = vector.view(len(layers), -1)
    return rows
