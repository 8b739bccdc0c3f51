"""Scores of items (images, pairs of images), of one method or of several compared: CSV, JSON, Markdown, text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from wplus.core.files import atomic_write, write_json
from wplus.core.metric_result import ARROWS, MetricInfo, MetricResult
from wplus.core.stats import MIN_ITEMS, Mean, Paired, Rows, bootstrap_mean, paired_tests
from wplus.errors import UserError, check_choice

T = TypeVar("T")
Headings = Mapping[str, tuple[str, str]]
"""Column -> heading and number format of its cells; also which columns are shown, and in which order."""
PAIRED_CELLS = ("method", "score", "difference", "low", "high", "p", "p_holm", "higher", "effect", "num_items")


@dataclass(frozen=True)
class Table:
    """Scores by item: name -> column -> value. A score may be missing."""

    rows: Rows
    targets: Mapping[str, str] = field(default_factory=dict)
    """What identifies the item behind a name, the digest of its pixels; may be left out."""
    info: Mapping[str, MetricInfo] = field(default_factory=dict)
    """What the columns mean."""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each item, NaN where a score is missing."""
        return pd.DataFrame.from_dict(dict(self.rows), orient="index").rename_axis("name")

    @property
    def columns(self) -> list[str]:
        """Names of the scores."""
        return list(self.frame.columns)

    @cached_property
    def means(self) -> dict[str, Mean]:
        """Mean of every column over the items that have it, with its interval where items were measured one by one."""
        found = {column: bootstrap_mean(self.frame[column].dropna().to_numpy()) for column in self.columns}
        return {name: mean if per_item(name, self.info) else Mean(mean.value, None) for name, mean in found.items()}

    def entries(self, prefix: str, protocol: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The means as a tracker's `summary` takes them, called `prefix` and the column; UserError without `info`."""
        unknown = [column for column in self.columns if column not in self.info]
        if unknown:
            raise UserError(f"Scores must say what they mean, and there is no meaning of {', '.join(unknown)}.")
        return {
            prefix + name: MetricResult.of(
                self.info[name], prefix + name, mean.value, protocol=dict(protocol), interval=mean.interval
            ).entry()
            for name, mean in self.means.items()
        }

    def write(self, folder: Path, protocol: Mapping[str, Any]) -> None:
        """table.csv (the rows) and table.json (rows, means, intervals, and how it was measured)."""
        write_csv(folder / "table.csv", self.frame)
        content = {"protocol": protocol, "info": as_dicts(self.info), "means": as_dicts(self.means), "rows": self.rows}
        write_json(folder / "table.json", content | ({"targets": self.targets} if self.targets else {}))

    def __str__(self) -> str:
        heads = {column: heading(column, self.info.get(column)) for column in self.means}
        width = max(map(len, [*heads.values(), " " * 14]))
        lines = [f"  {heads[column]:<{width}} {mean_cell(mean, '.4g')}" for column, mean in self.means.items()]
        return "\n".join([f"{len(self.rows)} image(s), mean and 95 % bootstrap interval", *lines])


@dataclass(frozen=True)
class Comparison:
    """Scores of several methods on the same items: method -> item -> column -> value. A score may be missing.

    Attributes:
        baseline: the method that the others are compared with.
        tested: the columns that are compared; None: all of the baseline's that are measured item by item. Every further
            one makes Holm's correction harder on all.
        info: what the columns mean.
    """

    rows: Mapping[str, Rows]
    baseline: str
    tested: Sequence[str] | None = None
    info: Mapping[str, MetricInfo] = field(default_factory=dict)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Method -> its scores."""
        return {method: Table(rows, info=self.info) for method, rows in self.rows.items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each method and item."""
        return pd.concat({method: table.frame for method, table in self.tables.items()}, names=["method"])

    @property
    def columns(self) -> list[str]:
        """Every score that any method has."""
        return list(self.frame.columns)

    @property
    def means(self) -> dict[str, dict[str, Mean]]:
        """Method -> column -> mean over the items that have it, with its interval."""
        return {method: table.means for method, table in self.tables.items()}

    @cached_property
    def paired(self) -> dict[str, dict[str, Paired]]:
        """Method -> column -> comparison with the baseline; UserError for a tested column that nobody has."""
        columns = self.tested
        for column in columns or ():
            check_choice("tested", column, self.columns)
        if columns is None and self.baseline in self.tables:
            columns = [column for column in self.tables[self.baseline].columns if per_item(column, self.info)]
        return paired_tests(self.rows, self.baseline, columns=columns)

    def markdown(self, headings: Headings | None = None) -> str:
        """The means, and below them the differences from the baseline where there are any."""
        shown = headings or {column: (heading(column, self.info.get(column)), ".4g") for column in self.columns}
        text, tests = markdown_means(self.means, shown), markdown_tests(self.paired, self.baseline, shown)
        return f"{text}\n{tests}" if tests else text

    def as_dict(self) -> dict[str, Any]:
        """Means, comparisons and rows as plain values."""
        means = {method: as_dicts(each) for method, each in self.means.items()}
        paired = {method: as_dicts(each) for method, each in self.paired.items()}
        return {"baseline": self.baseline, "info": as_dicts(self.info), "means": means, "paired": paired,
                "rows": self.rows}  # fmt: skip

    def write(self, folder: Path, protocol: Mapping[str, Any], *, headings: Headings | None = None) -> None:
        """table.csv (every item of every method), table.json (all numbers and the protocol), table.md (to read)."""
        write_csv(folder / "table.csv", self.frame)
        write_json(folder / "table.json", {"protocol": protocol, **self.as_dict()})
        atomic_write(folder / "table.md", lambda file: file.write(self.markdown(headings).encode()))


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """A frame with its index as the first columns; written whole or not at all."""
    text = frame.to_csv(lineterminator="\n")
    atomic_write(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def paired_cells(paired: Mapping[str, Mapping[str, Paired]]) -> list[list[Any]]:
    """A row of `PAIRED_CELLS` per comparison: what a tracker's table `.../paired` holds."""
    return [
        [method, column, found.difference, *(found.interval or (None, None)),
         found.p, found.p_holm, found.higher, found.effect, found.num_items]
        for method, columns in paired.items()
        for column, found in columns.items()
    ]  # fmt: skip


def as_dicts(values: Mapping[str, MetricInfo | Mean | Paired]) -> dict[str, dict[str, Any]]:
    """For JSON."""
    return {name: asdict(value) for name, value in values.items()}


def per_item(column: str, info: Mapping[str, MetricInfo]) -> bool:
    """Whether a column's items are measured one by one, as those are that nothing is known of."""
    return column not in info or info[column].per_item


def heading(column: str, info: MetricInfo | None) -> str:
    """`psnr_db, dB ↑`: name, unit, and which values are better, where that is known."""
    if info is None:
        return column
    name = column if not info.unit or column.endswith(f"_{info.unit.lower()}") else f"{column}, {info.unit}"
    return f"{name} {ARROWS[info.direction]}".rstrip()


def markdown_means(means: Mapping[str, Mapping[str, Mean]], headings: Headings) -> str:
    """A row per method, a column per score that any of them has, the interval behind each value."""
    return _markdown("method", means, headings, mean_cell)


def markdown_tests(paired: Mapping[str, Mapping[str, Paired]], baseline: str, headings: Headings) -> str:
    """Differences from the baseline on the same items, with interval and p; empty where nothing was compared."""
    return _markdown(f"minus '{baseline}', paired", paired, headings, paired_cell)


def mean_cell(mean: Mean, form: str) -> str:
    """`0.123 (0.110 to 0.135)`."""
    return f"{mean.value:{form}}{_bounds(mean.interval, form)}"


def paired_cell(found: Paired, form: str) -> str:
    """`+0.3 (+0.2 to +0.4), p = 4e-10`; with too few items for a test it says so."""
    chance = f"no test below {MIN_ITEMS} items" if found.p_holm is None else f"p = {found.p_holm:.1g}"
    return f"{found.difference:+{form}}{_bounds(found.interval, '+' + form)}, {chance}"


def _bounds(interval: tuple[float, float] | None, form: str) -> str:
    """An interval without width says nothing."""
    return "" if interval is None or interval[0] == interval[1] else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def _markdown(
    corner: str, values: Mapping[str, Mapping[str, T]], headings: Headings, cell: Callable[[T, str], str]
) -> str:
    """The columns of `headings` that any row has, a dash where another row lacks it; empty where there are none."""
    columns = [column for column in headings if any(column in row for row in values.values())]
    if not columns:
        return ""
    rows = [[corner, *(headings[column][0] for column in columns)]]
    for name, row in values.items():
        rows.append([name, *(cell(row[c], headings[c][1]) if c in row else "–" for c in columns)])
    first, *others = (f"| {' | '.join(cells)} |\n" for cells in rows)
    return "".join([first, "|---" * len(rows[0]) + "|\n", *others])
