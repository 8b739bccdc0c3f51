"""Summarise many pairs as one row per method: means, intervals, strata, paired tests, sets of frames.

A path's numbers only mean something if its ends show the images it is supposed to join: a bad inverter yields a smooth
path between two different images. An endpoint passes if its error is at most `endpoint_threshold` times the distance
between the two images, both as lengths in the perceptual distance's feature space (`endpoint_miss`), so the criterion
scales with the pair for any net, data and resolution. Up to the default of 0.5, each end is closer to its own image
than to the other, by the triangle inequality. This criterion is our own.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from wplus.core.paired import Paired, paired_tests
from wplus.core.stats import Mean, bootstrap_interval, kept_mean, percentile_interval, proportion_interval
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import STRATA, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, Realism, realism, resamples
from wplus.evaluation.interpolation.trajectories import CROSS_DISSOLVE, PairResult
from wplus.interpolation.path_metrics.frames import ENDPOINT_MISS, fidelity
from wplus.interpolation.trajectory import PathMetric, PathNumber
from wplus.inversion.task import unwrapped

Rows = Mapping[str, Mapping[str, float]]
"""Pair -> name of a number -> value."""
ENDPOINTS_PASS = PathNumber(name="endpoints_pass", direction="higher", format=".2f", shown="short", metric="fidelity",
    interval="95 %, Wilson's score interval over pairs", meaning=(
    "Share of the pairs whose two ends pass: each misses its image by at most endpoint_threshold of the distance "
    "between the images. Where it is low, the method's other numbers say nothing about these images."))  # fmt: skip
_MEAN = functools.partial(np.mean, axis=-1)
_FEWEST = 6  # minimum number of pairs for meaningful sets of frames and intervals


@dataclass(frozen=True)
class Passing:
    """Which methods and pairs have passing endpoints."""

    limit: float  # largest `endpoint_miss` that passes
    failing: tuple[str, ...]  # methods that fail on most pairs, which makes their smoothness meaningless
    pairs: tuple[str, ...]  # names of pairs on which all others pass; empty if only the cross-dissolve is left


@dataclass(frozen=True)
class Summary:
    """Results of a comparison, by method. `where_passing` is like `means`, but over `passing.pairs` and without failing
    methods; it is empty if there are too few such pairs."""

    numbers: Mapping[str, PathNumber]  # definitions of the numbers by name
    rows: Mapping[str, Rows]
    means: Mapping[str, Mapping[str, Mean]]  # means over pairs, and values for sets of frames
    strata: Mapping[str, Mapping[str, Mapping[str, Mean]]]  # stratum -> method -> number -> mean over its pairs
    paired: Mapping[str, Mapping[str, Paired]]  # comparisons with the baseline on the same pairs
    sets: Mapping[str, Mapping[str, Mean]]  # differences from the baseline in numbers of sets of frames
    along: Mapping[str, Mapping[str, np.ndarray]]  # mean curves (T,) over t
    t: np.ndarray  # (T,)
    baseline: str
    passing: Passing | None = None  # None without a threshold
    where_passing: Mapping[str, Mapping[str, Mean]] = field(default_factory=dict)

    def caveat(self, method: str) -> str | None:
        """Caveat to show next to the method's numbers if its endpoints fail, else None."""
        return "endpoints fail" if self.passing is not None and method in self.passing.failing else None

    def shown(self, *kinds: str) -> list[PathNumber]:
        """Numbers shown in tables of these kinds ("short", "table"), in order."""
        return [number for number in self.numbers.values() if number.shown in kinds]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        along = {method: {name: curve.tolist() for name, curve in each.items()} for method, each in self.along.items()}
        return {**asdict(self), "t": self.t.tolist(), "along": along}


def summarise(
    results: Mapping[str, PairResult], pairs: PairList, *, real: RealFeatures, extractor: str, t: torch.Tensor,
    baseline: str, endpoint_threshold: float | None = None, seed: int = 0,
) -> Summary:  # fmt: skip
    """Summarise results, given by pair name."""
    methods = list(next(iter(results.values())).rows)
    rows = {method: judged({name: result.rows[method] for name, result in results.items()}, endpoint_threshold)
            for method in methods}  # fmt: skip
    numbers = {name: number for result in results.values() for name, number in result.numbers.items()}
    judging: dict[str, Any] = {"real": real, "extractor": extractor, "seed": seed}
    sets, passing = _sets(results, methods, **judging), passed(rows, endpoint_threshold)

    def means_over(names: Collection[str], methods: Sequence[str] = methods) -> dict[str, dict[str, Mean]]:
        return {method: means({name: row for name, row in rows[method].items() if name in names}, numbers, seed=seed)
                for method in methods}  # fmt: skip

    where: dict[str, dict[str, Mean]] = {}
    if passing is not None and len(passing.pairs) >= _FEWEST:
        chosen = {name: results[name] for name in passing.pairs}
        others = [method for method in methods if method not in passing.failing]
        found = sets if len(chosen) == len(results) else _sets(chosen, others, **judging)
        where = {method: each | found[method].values for method, each in means_over(chosen, others).items()}
    return Summary(
        numbers=_with_derived(numbers, rows) | sets[baseline].numbers,
        rows=rows,
        means={method: each | sets[method].values for method, each in means_over(results).items()},
        strata={stratum: means_over([pair.name for pair in pairs.pairs if pair.stratum == stratum])
                for stratum in STRATA},
        # Without file-only columns, as every additional test makes Holm's correction stricter for all.
        paired=paired_tests(rows, baseline, columns=[name for name, number in numbers.items()
                                                     if number.shown != "file"], seed=seed),
        sets={method: _differences(sets[method], sets[baseline]) for method in methods if method != baseline},
        along={method: _mean_curves([result.along[method] for result in results.values()]) for method in methods},
        t=t.numpy(),
        baseline=baseline,
        passing=passing,
        where_passing=where,
    )  # fmt: skip


def check_threshold(endpoint_threshold: float | None, metrics: Mapping[str, PathMetric]) -> None:
    """Raise UserError for an invalid threshold, or if no metric measures the endpoint error; None means no limit."""
    if endpoint_threshold is None:
        return
    if not endpoint_threshold > 0:
        raise UserError(f"endpoint_threshold must be above 0, or null for none, got {endpoint_threshold}.")
    if fidelity not in [unwrapped(metric)[0] for metric in metrics.values()]:
        raise UserError(f"path_metrics must include fidelity for endpoint_threshold={endpoint_threshold}, got "
                        f"{', '.join(metrics)}; or choose endpoint_threshold=null.")  # fmt: skip


def judged(rows: Rows, endpoint_threshold: float | None) -> dict[str, dict[str, float]]:
    """Prepend `endpoints_pass` to the rows of one method: 1 if both endpoints pass, else 0.

    It is undefined for a pair of equal images, as the distance between them is 0.
    """
    miss, found = ENDPOINT_MISS.name, {pair: dict(row) for pair, row in rows.items()}
    for pair, row in rows.items():
        if endpoint_threshold is not None and miss in row:
            found[pair] = {ENDPOINTS_PASS.name: float(row[miss] <= endpoint_threshold), **row}
    return found


def passed(rows: Mapping[str, Rows], endpoint_threshold: float | None) -> Passing | None:
    """Find passing methods and pairs from judged rows, method -> pair -> number -> value; None without a threshold."""
    if endpoint_threshold is None:
        return None
    names = list(next(iter(rows.values())))
    passing = {method: {name for name in names if each[name].get(ENDPOINTS_PASS.name) == 1}
               for method, each in rows.items()}  # fmt: skip
    failing = tuple(method for method, found in passing.items() if len(found) < len(names) / 2)
    others = [method for method in rows if method not in failing]
    together = [name for name in names if all(name in passing[method] for method in others)]
    return Passing(endpoint_threshold, failing, tuple(together) if set(others) - {CROSS_DISSOLVE} else ())


def worst_of(number: PathNumber) -> PathNumber:
    """Define NAME_max, the largest value over all pairs."""
    meaning = f"For the pair where it is largest: {number.meaning}"
    return replace(number, name=f"{number.name}_max", meaning=meaning, shown="table", worst=False,
                   interval="none: the value of one pair")  # fmt: skip


def _with_derived(numbers: Mapping[str, PathNumber], rows: Mapping[str, Rows]) -> dict[str, PathNumber]:
    """Add the numbers derived over pairs: `endpoints_pass` at the front, NAME_max after NAME."""
    judges = any(ENDPOINTS_PASS.name in row for each in rows.values() for row in each.values())
    found = {ENDPOINTS_PASS.name: ENDPOINTS_PASS} if judges else {}
    for name, number in numbers.items():
        found[name] = number
        if number.worst:
            found[worst_of(number).name] = worst_of(number)
    return found


def means(rows: Rows, numbers: Mapping[str, PathNumber], *, seed: int = 0) -> dict[str, Mean]:
    """Mean of every number over the pairs that have it, with a bootstrap interval over pairs, and NAME_max.

    The share of pairs whose endpoints pass gets Wilson's interval, which does not collapse if all or none pass.
    """
    found: dict[str, Mean] = {}
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        values = np.asarray([row[name] for row in rows.values() if name in row])
        if name == ENDPOINTS_PASS.name:
            found[name] = Mean(float(values.mean()), proportion_interval(float(values.mean()), len(values)))
            continue
        statistic: Callable[[np.ndarray], Any] = kept_mean if numbers[name].trimmed else _MEAN
        bounds = bootstrap_interval(values, statistic, seed=seed) if len(values) > 1 else None
        found[name] = Mean(float(statistic(values)), bounds)
        if numbers[name].worst:
            found[worst_of(numbers[name]).name] = Mean(float(values.max()), None)
    return found


def _sets(results: Mapping[str, PairResult], methods: Sequence[str], *, real: RealFeatures, extractor: str,
          seed: int) -> dict[str, Realism]:  # fmt: skip
    weights, found = resamples(len(results), seed=seed), {}
    for method in methods:
        each = [result.features[method] for result in results.values()]
        frames = {place: torch.stack([features[place] for features in each]) for place in each[0]}
        found[method] = realism(frames, real, weights=weights, extractor=extractor)
    return found


def _differences(method: Realism, baseline: Realism) -> dict[str, Mean]:
    """Method minus baseline, with the same resampled pairs for both."""
    found = {}
    for name, draws in method.draws.items():
        value = method.values[name].value - baseline.values[name].value
        found[name] = Mean(value, percentile_interval(draws - baseline.draws[name]))
    return found


def _mean_curves(curves: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    names = [name for name in curves[0] if all(name in each for each in curves)]
    return {name: torch.stack([each[name] for each in curves]).double().mean(dim=0).numpy() for name in names}
