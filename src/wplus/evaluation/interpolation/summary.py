"""From the rows of many pairs to one line per method: means, intervals, strata, paired tests, sets of frames.

Before all numbers of a way: do its ends show the images that it is said to join? A bad inverter gives a smooth way,
between two other images. An endpoint passes where it misses its image by at most `endpoint_threshold` of the distance
between the two images, both as lengths in the perceptual distance's feature space (`endpoint_miss`): that scales with
the pair, whatever the net, the data and the resolution. Up to 0.5, the default, either end is nearer to its own image
than to the other one, by the triangle inequality. The threshold is our own.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from wplus.core.paired import Paired, paired_tests
from wplus.core.stats import Mean, bootstrap_interval, kept_mean, proportion_interval
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import STRATA, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, Realism, interval, realism, resamples
from wplus.evaluation.interpolation.trajectories import CROSS_DISSOLVE, PairResult
from wplus.interpolation.path_metrics.frames import ENDPOINT_MISS, fidelity
from wplus.interpolation.trajectory import PathMetric, PathNumber
from wplus.inversion.task import unwrapped

Rows = Mapping[str, Mapping[str, float]]
"""Pair -> name of a number -> value."""
ENDPOINTS_PASS = PathNumber(name="endpoints_pass", direction="higher", format=".2f", shown="short", metric="fidelity",
    interval="95 %, Wilson's score interval over pairs", meaning=(
    "Share of the pairs whose two ends pass: each misses its image by at most endpoint_threshold of the distance "
    "between the images. Where it is low, the method's other numbers say nothing of these images."))  # fmt: skip
_MEAN = functools.partial(np.mean, axis=-1)
_FEWEST = 6  # pairs; of fewer, sets of frames and intervals say little


@dataclass(frozen=True)
class Passing:
    """Which endpoints pass."""

    limit: float  # largest `endpoint_miss` that passes
    failing: tuple[str, ...]  # methods that fail on most pairs: how smooth they are says nothing of these images
    pairs: tuple[str, ...]  # those on which all others pass, by name; none where that is the cross-dissolve alone


@dataclass(frozen=True)
class Summary:
    """What a comparison found, by method; `where_passing` is as `means`, over `passing.pairs`, without the methods that
    fail, and empty where those are too few."""

    numbers: Mapping[str, PathNumber]  # what each number is, by its name
    rows: Mapping[str, Rows]
    means: Mapping[str, Mapping[str, Mean]]  # over pairs, and numbers of sets of frames
    strata: Mapping[str, Mapping[str, Mapping[str, Mean]]]  # stratum -> method -> number -> mean over its pairs
    paired: Mapping[str, Mapping[str, Paired]]  # comparisons with the baseline on the same pairs
    sets: Mapping[str, Mapping[str, Mean]]  # differences of sets of frames from the baseline's
    along: Mapping[str, Mapping[str, np.ndarray]]  # mean curves (T,) over t
    t: np.ndarray  # (T,)
    baseline: str
    passing: Passing | None = None  # None without a threshold
    where_passing: Mapping[str, Mapping[str, Mean]] = field(default_factory=dict)

    def caveat(self, method: str) -> str | None:
        """What must be said wherever the method's numbers are shown: that its endpoints fail, if they do."""
        return "endpoints fail" if self.passing is not None and method in self.passing.failing else None

    def shown(self, *kinds: str) -> list[PathNumber]:
        """The numbers that tables of these kinds show ("short", "table"), in their order."""
        return [number for number in self.numbers.values() if number.shown in kinds]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        along = {method: {name: curve.tolist() for name, curve in each.items()} for method, each in self.along.items()}
        return {**asdict(self), "t": self.t.tolist(), "along": along}


def summarise(
    results: Mapping[str, PairResult], pairs: PairList, *, real: RealFeatures, extractor: str, t: torch.Tensor,
    baseline: str, endpoint_threshold: float | None = None, seed: int = 0,
) -> Summary:  # fmt: skip
    """The summary of the results by the name of their pair."""
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
        # Not of the columns that are kept in files alone: each further one makes Holm's correction harder on all.
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
    """UserError for a limit that is none, and where nothing measures what it limits; None is no limit."""
    if endpoint_threshold is None:
        return
    if not endpoint_threshold > 0:
        raise UserError(f"endpoint_threshold must be above 0, or null for none, got {endpoint_threshold}.")
    if fidelity not in [unwrapped(metric)[0] for metric in metrics.values()]:
        raise UserError(f"path_metrics must include fidelity for endpoint_threshold={endpoint_threshold}, got "
                        f"{', '.join(metrics)}; or choose endpoint_threshold=null.")  # fmt: skip


def judged(rows: Rows, endpoint_threshold: float | None) -> dict[str, dict[str, float]]:
    """The rows of one method with `endpoints_pass` first: 1 where both endpoints pass, else 0.

    A pair of equal images has none: no distance between them is there to compare with.
    """
    miss, found = ENDPOINT_MISS.name, {pair: dict(row) for pair, row in rows.items()}
    for pair, row in rows.items():
        if endpoint_threshold is not None and miss in row:
            found[pair] = {ENDPOINTS_PASS.name: float(row[miss] <= endpoint_threshold), **row}
    return found


def passed(rows: Mapping[str, Rows], endpoint_threshold: float | None) -> Passing | None:
    """From judged rows, method -> pair -> number -> value; None without a threshold."""
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
    """NAME_max, the largest value of all pairs."""
    meaning = f"Of the pair where it is largest: {number.meaning}"
    return replace(number, name=f"{number.name}_max", meaning=meaning, shown="table", worst=False,
                   interval="none: the value of one pair")  # fmt: skip


def _with_derived(numbers: Mapping[str, PathNumber], rows: Mapping[str, Rows]) -> dict[str, PathNumber]:
    """With what a mean over pairs adds: `endpoints_pass` in front, NAME_max behind NAME."""
    judges = any(ENDPOINTS_PASS.name in row for each in rows.values() for row in each.values())
    found = {ENDPOINTS_PASS.name: ENDPOINTS_PASS} if judges else {}
    for name, number in numbers.items():
        found[name] = number
        if number.worst:
            found[worst_of(number).name] = worst_of(number)
    return found


def means(rows: Rows, numbers: Mapping[str, PathNumber], *, seed: int = 0) -> dict[str, Mean]:
    """Mean of every number over the pairs that have it, with a bootstrap interval over pairs, and NAME_max.

    Of the share of pairs whose endpoints pass it is Wilson's interval, which is not empty where all pass or none.
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
    """Method minus baseline, the same pairs drawn for both."""
    return {
        name: Mean(method.values[name].value - baseline.values[name].value, interval(draws - baseline.draws[name]))
        for name, draws in method.draws.items()
    }


def _mean_curves(curves: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    names = [name for name in curves[0] if all(name in each for each in curves)]
    return {name: torch.stack([each[name] for each in curves]).double().mean(dim=0).numpy() for name in names}
