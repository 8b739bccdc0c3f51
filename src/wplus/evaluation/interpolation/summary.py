"""From the rows of many pairs to one line per method: means, intervals, strata, paired tests, sets of frames."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from wplus.core.stats import Mean, Paired, bootstrap_interval, kept_mean, paired_tests, proportion_interval
from wplus.evaluation.interpolation.columns import shown
from wplus.evaluation.interpolation.gate import PASS, Gate, judged, passed
from wplus.evaluation.interpolation.pairs import STRATA, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, Realism, interval, realism, resamples
from wplus.evaluation.interpolation.walking import PairResult

Rows = Mapping[str, Mapping[str, float]]
TRIMMED = ("pair_ppl", "relative_ppl")
"""Beginnings of the names of numbers whose mean leaves out what is below the 1st and above the 99th percentile."""
WORST = "step_cv_max"
"""Largest `step_cv` of any pair: a path that was re-timed must be even on every one."""
_FEWEST = 6  # pairs; of fewer, sets of frames and intervals say little


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
        gate      which ends passed; None without a gate
        passing   method -> number -> mean, as `means`, over the pairs where the ends of all passed but of methods that
                  fail on most, which are left out; empty where they are too few
    """

    rows: Mapping[str, Rows]
    means: Mapping[str, Mapping[str, Mean]]
    strata: Mapping[str, Mapping[str, Mapping[str, Mean]]]
    paired: Mapping[str, Mapping[str, Paired]]
    sets: Mapping[str, Mapping[str, Mean]]
    along: Mapping[str, Mapping[str, np.ndarray]]
    t: np.ndarray
    baseline: str
    gate: Gate | None = None
    passing: Mapping[str, Mapping[str, Mean]] = field(default_factory=dict)

    def caveat(self, method: str) -> str | None:
        """What must be said wherever the method's numbers are shown: that its ends fail; None where it need not."""
        return "ends fail" if self.gate is not None and method in self.gate.failing else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "baseline": self.baseline,
            "gate": None if self.gate is None else asdict(self.gate),
            "where_ends_pass": _plain(self.passing),
            "means": _plain(self.means),
            "strata": {stratum: _plain(means) for stratum, means in self.strata.items()},
            "paired": {method: {name: asdict(each) for name, each in found.items()}
                       for method, found in self.paired.items()},
            "differences_of_sets": _plain(self.sets),
            "t": self.t.tolist(),
            "along": {method: {name: curve.tolist() for name, curve in each.items()}
                      for method, each in self.along.items()},
            "rows": self.rows,
        }  # fmt: skip


def summarise(
    results: Mapping[str, PairResult], pairs: PairList, *, real: RealFeatures, extractor: str, t: torch.Tensor,
    baseline: str, gate: float | None = None, seed: int = 0,
) -> Summary:  # fmt: skip
    """The summary of the results by the name of their pair; `gate` is that of `judged`."""
    methods = list(next(iter(results.values())).rows)
    rows = {method: judged({name: result.rows[method] for name, result in results.items()}, gate) for method in methods}
    sets = _sets(results, methods, real=real, extractor=extractor, seed=seed)
    found = passed(rows, gate)
    where = _where_ends_pass(results, found, rows, sets, real=real, extractor=extractor, seed=seed)
    strata = {stratum: {pair.name for pair in pairs.pairs if pair.stratum == stratum} for stratum in STRATA}
    # A pair may lack a column that others have.
    own = dict.fromkeys(name for row in rows[baseline].values() for name in row if name != PASS)
    tested = [column for columns in shown(own).values() for column in columns]
    return Summary(
        rows=rows,
        means={method: means(rows[method], seed=seed) | sets[method].values for method in methods},
        strata={stratum: {method: means(_of(rows[method], names), seed=seed) for method in methods}
                for stratum, names in strata.items()},
        paired=paired_tests(rows, baseline, columns=tested, seed=seed),
        sets={method: _differences(sets[method], sets[baseline]) for method in methods if method != baseline},
        along={method: _mean_curves([result.along[method] for result in results.values()]) for method in methods},
        t=t.numpy(),
        baseline=baseline,
        gate=found,
        passing=where,
    )  # fmt: skip


def _of(rows: Rows, names: Container[str]) -> Rows:
    return {name: row for name, row in rows.items() if name in names}


def _sets(results: Mapping[str, PairResult], methods: Sequence[str], *, real: RealFeatures, extractor: str,
          seed: int) -> dict[str, Realism]:  # fmt: skip
    weights = resamples(len(results), seed=seed)
    frames = {method: _frames(results, method) for method in methods}
    return {method: realism(each, real, weights=weights, extractor=extractor) for method, each in frames.items()}


def _where_ends_pass(
    results: Mapping[str, PairResult], gate: Gate | None, rows: Mapping[str, Rows], sets: Mapping[str, Realism],
    *, seed: int, **judging: Any,
) -> dict[str, dict[str, Mean]]:  # fmt: skip
    """`Summary.passing`."""
    if gate is None or len(gate.pairs) < _FEWEST:
        return {}
    methods = [method for method in rows if method not in gate.failing]
    chosen = {name: result for name, result in results.items() if name in gate.pairs}
    found = sets if len(chosen) == len(results) else _sets(chosen, methods, seed=seed, **judging)
    return {method: means(_of(rows[method], chosen), seed=seed) | found[method].values for method in methods}


def means(rows: Rows, *, seed: int = 0) -> dict[str, Mean]:
    """Mean of every column over the pairs that have it, with a bootstrap interval over pairs, and `step_cv_max`.

    Of the share of pairs whose ends pass it is Wilson's interval, which is not empty where all pass or none. The mean
    of path lengths keeps the values from the 1st to the 99th percentile, as StyleGAN's does, here of the pairs' own
    means.
    """
    columns = dict.fromkeys(name for row in rows.values() for name in row)
    values = {name: [row[name] for row in rows.values() if name in row] for name in columns}
    found = {name: _mean(each, kept_mean if name.startswith(TRIMMED) else _plain_mean, seed=seed)
             for name, each in values.items()}  # fmt: skip
    if PASS in found:
        found[PASS] = _share(values[PASS])
    return found | ({WORST: Mean(max(values["step_cv"]), None)} if "step_cv" in values else {})


def _mean(values: Sequence[float], statistic: Callable[[np.ndarray], np.ndarray], *, seed: int) -> Mean:
    numbers = np.asarray(values)
    bounds = bootstrap_interval(numbers, statistic, seed=seed) if len(numbers) > 1 else None
    return Mean(float(statistic(numbers)), bounds)


def _share(values: Sequence[float]) -> Mean:
    share = float(np.mean(values))
    return Mean(share, proportion_interval(share, len(values)))


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
