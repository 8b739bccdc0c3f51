"""The table of a sweep: a row per configuration, means over seeds with intervals, and corrected tests."""

import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from wplus.core.files import atomic_write
from wplus.core.metric_result import MetricInfo
from wplus.core.paired import Paired
from wplus.core.seed_stats import SEEDS, ClusterMean
from wplus.core.stats import Mean
from wplus.core.tables import Comparison
from wplus.errors import UserError, check_choice
from wplus.sweeps.groups import grouped
from wplus.sweeps.labels import Point, value_text
from wplus.sweeps.members import Member, infos
from wplus.sweeps.where import Condition

FORMATS = ("md", "csv", "json", "parquet")


@dataclass(frozen=True)
class Cell:
    """A metric of a configuration."""

    mean: Mean
    points: Mapping[int, float]
    """Seed -> value."""
    clustered: ClusterMean | None = None
    """Statistics over seeds and images, if images were measured individually for two or more seeds."""


@dataclass(frozen=True)
class SweepTable:
    """Configurations by metrics.

    Attributes:
        keys: the keys that vary, without the seed.
        settings: configuration -> key -> value.
        comparison: comparison of the configurations, with the seed as the unit.
        members: configuration -> seed -> run.
        groups: the configurations shown, in order.
        baseline: the configuration (with `across`, the method) that the others are compared with, or None.
        methods: configuration -> its name without the keys of `across`.
        across: the keys that distinguish data sets; empty if there is only one.
        sort: the metric that rows are sorted by.
        objectives: the sweep's objectives.
        notes: notes for the reader.
    """

    keys: Sequence[str]
    settings: Mapping[str, Mapping[str, Any]]
    comparison: Comparison
    members: Mapping[str, Mapping[int, Member]]
    groups: Sequence[str]
    baseline: str | None = None
    methods: Mapping[str, str] | None = None
    across: Sequence[str] = ()
    sort: str | None = None
    objectives: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def info(self) -> Mapping[str, MetricInfo]:
        """The meanings of the metrics."""
        return self.comparison.info

    @property
    def numbers(self) -> list[str]:
        """All metrics that any configuration has."""
        return self.comparison.columns

    @cached_property
    def rows(self) -> dict[str, dict[str, Cell]]:
        """Configuration -> metric -> cell, without per-image statistics (see `cell`)."""
        return {group: {name: self._cell(group, name) for name in self.comparison.means[group]}
                for group in self.groups}  # fmt: skip

    @property
    def tests(self) -> dict[str, dict[str, Paired]]:
        """Configuration -> metric -> difference from the baseline."""
        return {group: row for group, row in self.comparison.paired.items() if group in self.groups and row}

    def cell(self, group: str, number: str) -> Cell:
        """A cell with the spread over seeds and over images."""
        return replace(self._cell(group, number), clustered=self.comparison.clusters(group, number))

    def _cell(self, group: str, number: str) -> Cell:
        points = self.comparison.points(group, number)
        return Cell(self.comparison.means[group][number], {int(seed): value for seed, value in points.items()})

    def sorted_by(self, number: str) -> "SweepTable":
        """Sort by a metric, best configuration first according to its direction; those without it come last."""
        check_choice("sort", number, self.numbers)
        sign = -1 if number in self.info and self.info[number].direction == "higher" else 1
        having = [group for group in self.groups if number in self.comparison.means[group]]
        order = sorted(having, key=lambda group: sign * self.comparison.means[group][number].value)
        return replace(self, groups=list(dict.fromkeys([*order, *self.groups])), sort=number)

    def only(self, conditions: Iterable[Condition]) -> "SweepTable":
        """Keep the configurations whose means fulfil conditions. Tests are unchanged. UserError if none is left."""
        wanted = [each for each in conditions if each.is_number]
        means = self.comparison.means
        left = [
            group
            for group in self.groups
            if all(each.key in means[group] and each.holds(means[group][each.key].value) for each in wanted)
        ]
        if not left:
            text = " and ".join(f"{each.key}{each.sign}{each.value}" for each in wanted)
            raise UserError(f"None of the {len(self.groups)} configurations has {text}.")
        return replace(self, groups=left)

    @property
    def frame(self) -> pd.DataFrame:
        """A row per configuration and metric: mean, interval, seeds, components of the spread, difference, tests."""
        found = []
        for group in self.groups:
            for name in self.comparison.means[group]:
                cell = self.cell(group, name)
                low, high = cell.mean.interval or (None, None)
                what = {"number": name, "mean": cell.mean.value, "low": low, "high": high}
                seeds = {"num_seeds": len(cell.points), "points": json.dumps(cell.points)}
                test = self.tests.get(group, {}).get(name)
                found.append({**self.settings[group], **what, **seeds, **_spread(cell.clustered), **_tested(test)})
        return pd.DataFrame(found)

    def write(self, path: Path) -> Path:
        """Write the table in the format of the extension: .md, .csv, .json or .parquet (which needs pyarrow)."""
        from wplus.sweeps.sections import markdown

        kind = checked_ending(path)
        if kind == "parquet":
            content = _of_one_kind(self.frame).to_parquet(index=False, engine="pyarrow")
        elif kind == "csv":
            content = self.frame.to_csv(index=False, lineterminator="\n").encode()
        else:
            content = (markdown(self) if kind == "md" else json.dumps(self.as_dict(), indent=2)).encode()
        return atomic_write(path, lambda file: file.write(content))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = {group: {name: asdict(self.cell(group, name)) for name in self.comparison.means[group]}
                for group in self.groups}  # fmt: skip
        return {
            "keys": list(self.keys), "baseline": self.baseline, "settings": self.settings, "notes": list(self.notes),
            "info": {name: asdict(each) for name, each in self.info.items()}, "rows": rows,
            "interval": SEEDS.interval, "test": SEEDS.test,
            "tests": {group: {name: asdict(test) for name, test in row.items()} for group, row in self.tests.items()},
        }  # fmt: skip


def sweep_table(
    members: Sequence[Member], *, baseline: Point | str | None = None,
    margin: float | Mapping[str, float] | None = None, tested: Sequence[str] | None = None, across: Sequence[str] = (),
    keys: Sequence[str] | None = None,
) -> SweepTable:  # fmt: skip
    """Group members by `keys`; None: by all varying keys except the seed. Only finished runs are used.

    Args:
        members: runs of one command; UserError for several.
        baseline: the configuration to compare with: its values of the varying keys, or its name in the table.
        margin: differences up to it count as equivalent, for all metrics or by metric; equivalence is also tested.
        tested: the metrics to test; None: all with a direction, except those of earlier stages.
        across: keys, or groups of keys, that distinguish data sets: each has its own baseline, and only quantities with
            a common scale are averaged over them.
    """
    groups = grouped(members, across, keys)
    chosen = groups.find(baseline)
    info = infos(member for seeds in groups.seeds.values() for member in seeds.values())
    rows = {group: {str(seed): member.numbers() for seed, member in seeds.items()}
            for group, seeds in groups.seeds.items()}  # fmt: skip
    columns = dict.fromkeys(name for seeds in rows.values() for row in seeds.values() for name in row)
    if tested is None:
        own = {name for seeds in groups.seeds.values() for member in seeds.values()
               for name in columns if name not in member.inherited}  # fmt: skip
        tested = [name for name in columns if name in own and (name not in info or info[name].direction != "neither")]
    comparison = Comparison(
        rows, groups.baselines(chosen), tested=tested, info=info, unit=SEEDS,
        margins=dict.fromkeys(tested, margin) if isinstance(margin, int | float) else margin or {},
        items={group: {str(seed): member.items for seed, member in seeds.items()}
               for group, seeds in groups.seeds.items()},
    )  # fmt: skip
    return SweepTable(groups.keys, groups.settings, comparison, groups.seeds, list(groups.seeds), chosen,
                      groups.methods, groups.sets, notes=groups.notes)  # fmt: skip


def checked_ending(path: Path) -> str:
    """The extension of a table's file, without the dot. UserError if it is unknown, or .parquet without pyarrow."""
    kind = path.suffix.lstrip(".")
    check_choice("the ending of the table", kind, FORMATS)
    if kind == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UserError("A .parquet file needs pyarrow: pip install 'wplus[sweep]'.")
    return kind


def _of_one_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of mixed types, such as settings, to text as in overrides: files need one type per column."""
    found = frame.copy()
    for name in frame:
        kinds = {type(value) for value in frame[name] if value is not None}
        if len(kinds) > 1 or kinds & {list, dict}:
            found[name] = [None if value is None else value_text(value) for value in frame[name]]
    return found


def _spread(clustered: ClusterMean | None) -> dict[str, Any]:
    low, high = (None, None) if clustered is None or clustered.interval is None else clustered.interval
    parts = (None, None) if clustered is None else (clustered.seed_sd, clustered.image_sd)
    return {"images_low": low, "images_high": high, "seed_sd": parts[0], "image_sd": parts[1]}


def _tested(test: Paired | None) -> dict[str, Any]:
    if test is None:
        return {}
    low, high = test.interval or (None, None)
    return {"difference": test.difference, "difference_low": low, "difference_high": high, "p": test.p,
            "p_holm": test.p_holm, "q": test.q, "equivalent_p": test.equivalent_p}  # fmt: skip
