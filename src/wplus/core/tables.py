"""Scores of one method by item (image, pair of images), or of several compared, by item or seed: CSV, JSON, text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wplus.core.files import atomic_write, write_json
from wplus.core.markdown import (
    Headings,
    heading,
    markdown_means,
    markdown_table,
    markdown_tests,
    mean_cell,
    points_cell,
)
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.paired import ITEMS, Paired, Rows, Unit, paired_tests
from wplus.core.seed_stats import SEEDS, ClusterMean, cluster_mean
from wplus.core.stats import Mean
from wplus.errors import UserError, check_choice

PAIRED_CELLS = ("method", "score", "difference", "low", "high", "p", "p_holm", "higher", "effect", "num_items")


@dataclass(frozen=True)
class Table:
    """Scores by item: name -> column -> value. A score may be missing."""

    rows: Rows
    targets: Mapping[str, str] = field(default_factory=dict)
    """Digests of the pixels that identify the item behind each name; optional."""
    info: Mapping[str, MetricInfo] = field(default_factory=dict)
    """Descriptions of the columns."""
    unit: Unit = ITEMS
    """Unit of the rows."""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per item, with NaN for missing scores."""
        return pd.DataFrame.from_dict(dict(self.rows), orient="index").rename_axis("name")

    @property
    def columns(self) -> list[str]:
        """Names of the scores."""
        return list(self.frame.columns)

    @cached_property
    def means(self) -> dict[str, Mean]:
        """Mean of each column over the rows that have it, with an interval if items were measured individually."""
        samples = {("", column): self.frame[column].dropna().to_numpy() for column in self.columns}
        return _means(samples, self.unit, self.info).get("", {})

    def entries(self, prefix: str, protocol: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The means as entries for a tracker's `summary`, named `prefix` plus column; UserError without `info`."""
        unknown = [column for column in self.columns if column not in self.info]
        if unknown:
            raise UserError(f"Scores need a meaning, and there is no meaning of {', '.join(unknown)}.")
        return {
            prefix + name: MetricResult.of(
                self.info[name], prefix + name, mean.value, protocol=dict(protocol), interval=mean.interval
            ).entry()
            for name, mean in self.means.items()
        }

    def write(self, folder: Path, protocol: Mapping[str, Any]) -> None:
        """Write table.csv (the rows) and table.json (rows, means, intervals, and the protocol)."""
        write_csv(folder / "table.csv", self.frame)
        content = {"protocol": protocol, "info": as_dicts(self.info), "means": as_dicts(self.means), "rows": self.rows}
        write_json(folder / "table.json", content | ({"targets": self.targets} if self.targets else {}))

    def __str__(self) -> str:
        heads = {column: heading(column, self.info.get(column)) for column in self.means}
        width = max(map(len, [*heads.values(), " " * 14]))
        lines = [f"  {heads[column]:<{width}} {mean_cell(mean, '.4g')}" for column, mean in self.means.items()]
        return "\n".join([f"{len(self.rows)} image(s), mean and 95 % bootstrap interval", *lines])

    def __repr__(self) -> str:
        return f"<Table: {len(self.rows)} rows of {', '.join(self.columns) or 'no scores'}>"

    def _repr_html_(self) -> str:
        return self.frame.to_html()


@dataclass(frozen=True)
class Comparison:
    """Scores of several methods on the same units: method -> unit -> column -> value. A score may be missing.

    Attributes:
        baseline: the method that the others are compared with, or method -> its own baseline; None: no comparison.
        tested: columns to compare; None: all of the baseline's that are measured individually. Each additional one
            makes the corrections stricter for all.
        info: descriptions of the columns.
        unit: unit of intervals and tests: items, or seeds (`wplus.core.seed_stats.SEEDS`).
        margins: column -> the largest negligible difference.
        items: values per item if the unit is the seed: method -> seed -> item -> column -> value.
    """

    rows: Mapping[str, Rows]
    baseline: str | Mapping[str, str] | None
    tested: Sequence[str] | None = None
    info: Mapping[str, MetricInfo] = field(default_factory=dict)
    unit: Unit = ITEMS
    margins: Mapping[str, float] = field(default_factory=dict)
    items: Mapping[str, Mapping[str, Rows]] = field(default_factory=dict)

    @staticmethod
    def over_seeds(items: Mapping[str, Mapping[str, Rows]], baseline: str | None, **fields: Any) -> "Comparison":
        """A comparison of method -> seed -> item -> column -> value with seeds as units, each averaged over items."""
        rows = {
            method: {
                seed: {str(name): float(mean) for name, mean in Table(each).frame.mean().items()}
                for seed, each in seeds.items()
            }
            for method, seeds in items.items()
        }
        return Comparison(rows, baseline, unit=SEEDS, items=items, **fields)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Method -> table of its scores."""
        return {method: Table(rows, info=self.info, unit=self.unit) for method, rows in self.rows.items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per method and unit."""
        return pd.concat({method: table.frame for method, table in self.tables.items()}, names=["method"])

    @cached_property
    def columns(self) -> list[str]:
        """Every score that any method has."""
        return list(dict.fromkeys(name for rows in self.rows.values() for row in rows.values() for name in row))

    @cached_property
    def means(self) -> dict[str, dict[str, Mean]]:
        """Method -> column -> mean over the units that have it, with its interval."""
        samples = {(method, column): np.array(values) for method in self.rows for column in self.columns
                   if (values := list(self.points(method, column).values()))}  # fmt: skip
        return {method: {} for method in self.rows} | _means(samples, self.unit, self.info)

    def points(self, method: str, column: str) -> dict[str, float]:
        """Unit -> value, for one method and column."""
        return {name: row[column] for name, row in self.rows[method].items() if column in row}

    def clusters(self, method: str, column: str) -> ClusterMean | None:
        """Mean over seeds and their images; None if fewer than two seeds have images measured individually."""
        each = [{name: row[column] for name, row in rows.items() if column in row}
                for rows in self.items.get(method, {}).values()]  # fmt: skip
        if len(each) < 2 or min(map(len, each)) < 2:
            return None
        is_same = all(values.keys() == each[0].keys() for values in each)
        ordered = [[values[name] for name in (each[0] if is_same else values)] for values in each]
        return cluster_mean(ordered, same_images=is_same)

    @cached_property
    def paired(self) -> dict[str, dict[str, Paired]]:
        """Method -> column -> comparison with the baseline; UserError for a tested column that no method has."""
        if self.baseline is None:
            return {}
        columns = self.columns if self.tested is None else self.tested
        for column in columns:
            check_choice("tested", column, self.columns)
        if self.tested is None and self.unit is ITEMS:
            columns = [column for column in columns if per_item(column, self.info)]
        return paired_tests(self.rows, self.baseline, columns=columns, unit=self.unit, margins=self.margins)

    def markdown(self, headings: Headings | None = None) -> str:
        """The means, followed by the differences from the baseline, if any."""
        shown = headings or {column: (heading(column, self.info.get(column)), ".4g") for column in self.columns}
        text = self._markdown_means(shown)
        tests = markdown_tests(self.paired, "the baseline" if not isinstance(self.baseline, str) else self.baseline,
                               shown, self.unit)  # fmt: skip
        return f"{text}\n{tests}" if tests else text

    def _markdown_means(self, shown: Headings) -> str:
        if self.unit is ITEMS:
            return markdown_means(self.means, shown)
        cells = {method: {column: (mean, list(self.points(method, column).values())) for column, mean in row.items()}
                 for method, row in self.means.items()}  # fmt: skip
        return markdown_table("method", cells, shown, lambda cell, form: points_cell(*cell, form))

    def as_dict(self) -> dict[str, Any]:
        """Means, comparisons and rows as plain values."""
        means = {method: as_dicts(each) for method, each in self.means.items()}
        paired = {method: as_dicts(each) for method, each in self.paired.items()}
        unit = {"unit": self.unit.name, "interval": self.unit.interval, "test": self.unit.test}
        return {"baseline": self.baseline, "info": as_dicts(self.info), **unit, "means": means, "paired": paired,
                "rows": self.rows}  # fmt: skip

    def write(self, folder: Path, protocol: Mapping[str, Any], *, headings: Headings | None = None) -> None:
        """Write table.csv (all units of all methods), table.json (all numbers and the protocol) and table.md."""
        write_csv(folder / "table.csv", self.frame)
        write_json(folder / "table.json", {"protocol": protocol, **self.as_dict()})
        atomic_write(folder / "table.md", lambda file: file.write(self.markdown(headings).encode()))


def _means(
    samples: Mapping[tuple[str, str], np.ndarray], unit: Unit, info: Mapping[str, MetricInfo]
) -> dict[str, dict[str, Mean]]:
    """Method -> column -> mean; values that items of a batch share have no interval."""
    found: dict[str, dict[str, Mean]] = {method: {} for method, _ in samples}
    for (method, column), mean in zip(samples, unit.means(list(samples.values())), strict=True):
        is_shared = unit is ITEMS and not per_item(column, info)
        found[method][column] = Mean(mean.value, None) if is_shared else mean
    return found


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame with its index as the first columns, atomically."""
    text = frame.to_csv(lineterminator="\n")
    atomic_write(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def paired_cells(paired: Mapping[str, Mapping[str, Paired]]) -> list[list[Any]]:
    """One row of `PAIRED_CELLS` per comparison, for a tracker's table `.../paired`."""
    return [
        [method, column, found.difference, *(found.interval or (None, None)),
         found.p, found.p_holm, found.higher, found.effect, found.num_items]
        for method, columns in paired.items()
        for column, found in columns.items()
    ]  # fmt: skip


def as_dicts(values: Mapping[str, MetricInfo | Mean | Paired]) -> dict[str, dict[str, Any]]:
    """Convert dataclasses to dicts, for JSON."""
    return {name: asdict(value) for name, value in values.items()}


def per_item(column: str, info: Mapping[str, MetricInfo]) -> bool:
    """Whether a column's items are measured individually; the default for unknown columns."""
    return column not in info or info[column].per_item
