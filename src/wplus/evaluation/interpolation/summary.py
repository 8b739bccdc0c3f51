"""From the rows of many pairs to one line per method: means, intervals, strata, paired tests, sets of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wplus.evaluation.interpolation.columns import shown
from wplus.evaluation.interpolation.pairs import STRATA, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, Realism, interval, realism, resamples
from wplus.evaluation.interpolation.walking import PairResult
from wplus.intervals import Mean, bootstrap_interval, kept_mean
from wplus.paired import Paired, compare_methods

Rows = Mapping[str, Mapping[str, float]]
TRIMMED = ("pair_ppl", "relative_ppl")
"""Beginnings of the names of numbers whose mean leaves out what is below the 1st and above the 99th percentile."""


@dataclass(frozen=True)
class Summary:
    """What a comparison found.

    Attributes
        rows      method -> pair -> metric -> value
        means     method -> number -> mean over pairs, and numbers of sets of frames
        strata    stratum -> method -> metric -> mean over its pairs
        paired    method -> metric -> comparison with the baseline on the same pairs
        sets      method -> number of sets of frames -> difference from the baseline
        along     method -> name -> (T,) mean curve over t
        t         (T,)
    """

    rows: Mapping[str, Rows]
    means: Mapping[str, Mapping[str, Mean]]
    strata: Mapping[str, Mapping[str, Mapping[str, Mean]]]
    paired: Mapping[str, Mapping[str, Paired]]
    sets: Mapping[str, Mapping[str, Mean]]
    along: Mapping[str, Mapping[str, np.ndarray]]
    t: np.ndarray
    baseline: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "baseline": self.baseline,
            "means": _plain(self.means),
            "strata": {stratum: _plain(means) for stratum, means in self.strata.items()},
            "paired": {method: {name: each.as_dict() for name, each in found.items()}
                       for method, found in self.paired.items()},
            "differences_of_sets": _plain(self.sets),
            "t": self.t.tolist(),
            "along": {method: {name: curve.tolist() for name, curve in each.items()}
                      for method, each in self.along.items()},
            "rows": self.rows,
        }  # fmt: skip


def summarise(
    results: Mapping[str, PairResult], pairs: PairList, *, real: RealFeatures, extractor: str, t: torch.Tensor,
    baseline: str, seed: int = 0,
) -> Summary:  # fmt: skip
    """The summary of the results by the name of their pair."""
    methods = list(next(iter(results.values())).rows)
    rows = {method: {name: result.rows[method] for name, result in results.items()} for method in methods}
    weights = resamples(len(results), seed=seed)
    sets = {method: realism(_frames(results, method), real, weights=weights, extractor=extractor) for method in methods}
    strata = {stratum: {pair.name for pair in pairs.pairs if pair.stratum == stratum} for stratum in STRATA}
    # A pair may lack a column that others have.
    own = dict.fromkeys(name for row in rows[baseline].values() for name in row)
    tested = [column for columns in shown(own).values() for column in columns]
    return Summary(
        rows=rows,
        means={method: means(rows[method], seed=seed) | sets[method].values for method in methods},
        strata={stratum: {method: means({name: row for name, row in rows[method].items() if name in names}, seed=seed)
                          for method in methods} for stratum, names in strata.items()},
        paired=compare_methods(rows, baseline, columns=tested, seed=seed),
        sets={method: _differences(sets[method], sets[baseline]) for method in methods if method != baseline},
        along={method: _mean_curves([result.along[method] for result in results.values()]) for method in methods},
        t=t.numpy(),
        baseline=baseline,
    )  # fmt: skip


def means(rows: Rows, *, seed: int = 0) -> dict[str, Mean]:
    """Mean of every column over the pairs that have it, with a bootstrap interval over pairs.

    The mean of path lengths keeps the values from the 1st to the 99th percentile, as StyleGAN's does, here of the
    pairs' own means.
    """
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    values = {name: [row[name] for row in rows.values() if name in row] for name in columns}
    return {name: _mean(each, kept_mean if name.startswith(TRIMMED) else _plain_mean, seed=seed)
            for name, each in values.items()}  # fmt: skip


def _mean(values: Sequence[float], statistic: Callable[[np.ndarray], np.ndarray], *, seed: int) -> Mean:
    numbers = np.asarray(values)
    bounds = bootstrap_interval(numbers, statistic, seed=seed) if len(numbers) > 1 else None
    return Mean(float(statistic(numbers)), bounds)


def _plain_mean(samples: np.ndarray) -> np.ndarray:
    return samples.mean(axis=-1)


def _frames(results: Mapping[str, PairResult], method: str) -> dict[str, torch.Tensor]:
    places = next(iter(results.values())).features[method]
    return {place: torch.stack([result.features[method][place] for result in results.values()]) for place in places}


def _differences(method: Realism, baseline: Realism) -> dict[str, Mean]:
    """Method minus baseline, the same pairs drawn for both."""
    return {
        name: Mean(method.values[name].value - baseline.values[name].value, interval(draws - baseline.draws[name]))
        for name, draws in method.draws.items()
    }


def _mean_curves(curves: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    names = [name for name in curves[0] if all(name in each for each in curves)]
    return {name: torch.stack([each[name] for each in curves]).double().mean(dim=0).numpy() for name in names}


def _plain(means: Mapping[str, Mapping[str, Mean]]) -> dict[str, Any]:
    return {method: {name: {"value": mean.value, "interval": mean.interval} for name, mean in each.items()}
            for method, each in means.items()}  # fmt: skip
