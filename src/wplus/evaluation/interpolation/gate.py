"""The gate before all numbers of a way: do its ends show the images that it is said to join?

A bad inverter gives a smooth way, between two other pictures. An end passes where it misses its image by at most
`gate` of the distance between the two images, both as lengths in the perceptual distance's feature space (`end_miss` of
`wplus.interpolation.path_metrics.fidelity`). That scales with the pair, whatever the net, the data and the resolution. Up to
0.5, the default, either end is nearer to its own image than to the other one by the triangle inequality; beyond, a way
may begin at what looks more like its goal. The gate is our own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wplus.errors import UserError
from wplus.evaluation.interpolation.methods import DISSOLVE
from wplus.interpolation.path_metrics.fidelity import fidelity
from wplus.interpolation.walk import Metric

MISS, PASS = "end_miss", "ends_pass"
Rows = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Gate:
    """What passed.

    Attributes
        limit    largest `end_miss` that passes
        failing  methods that fail on most pairs: what the tables say of their smoothness says nothing of these images
        pairs    those on which all other methods pass, by name; none where that is the cross-dissolve alone
    """

    limit: float
    failing: tuple[str, ...]
    pairs: tuple[str, ...]


def check_gate(gate: float | None, metrics: Mapping[str, Metric]) -> None:
    """UserError for a limit that is none, and where nothing measures what it limits; None is no gate."""
    if gate is None:
        return
    if not gate > 0:
        raise UserError(f"gate={gate} is not allowed: it must be above 0, or null for no gate.")
    if fidelity not in [_function(metric) for metric in metrics.values()]:
        raise UserError(f"gate={gate} needs the walk metric fidelity, which is not there: add it, or choose gate=null.")


def _function(metric: Any) -> Any:
    while isinstance(metric, functools.partial):
        metric = metric.func
    return metric


def judged(rows: Rows, gate: float | None) -> dict[str, dict[str, float]]:
    """Pair -> metric -> value of one method, with `ends_pass`: 1 where both ends pass, else 0.

    It stands first. A pair of equal images has none: no distance between them is there to compare with.
    """
    return {
        pair: ({PASS: float(row[MISS] <= gate)} if gate is not None and MISS in row else {}) | dict(row)
        for pair, row in rows.items()
    }


def passed(rows: Mapping[str, Rows], gate: float | None) -> Gate | None:
    """From judged rows, method -> pair -> metric -> value; None without a gate."""
    if gate is None:
        return None
    names = list(next(iter(rows.values())))
    passing = {method: {name for name in names if each[name].get(PASS) == 1} for method, each in rows.items()}
    failing = tuple(method for method, found in passing.items() if len(found) < len(names) / 2)
    others = [method for method in rows if method not in failing]
    together = [name for name in names if all(name in passing[method] for method in others)]
    return Gate(gate, failing, tuple(together) if set(others) - {DISSOLVE} else ())
