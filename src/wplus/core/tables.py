"""Scores of items (images, pairs of images), of one method or of several compared: CSV, JSON, Markdown, text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from wplus.core.files import atomic_write, write_json
from wplus.core.metric_result import ARROWS, MetricInfo, MetricResult
from wplus.core.stats import MIN_ITEMS, Mean, Paired, Rows, bootstrap_mean, paired_tests
from wplus.errors import check_choice

Headings = Mapping[str, tuple[str, str]]
"""Column -> heading and number format of its cells; also which columns are shown, and in which order."""
PAIRED_CELLS = ("method", "score", "difference", "low", "high", "p", "p_holm", "higher", "effect", "num_items")
_UNKNOWN = MetricInfo(meaning="")


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
        return {
            column: mean if self.info.get(column, _UNKNOWN).per_item else Mean(mean.value, None)
            for column, mean in found.items()
        }

    def entries(self, prefix: str, protocol: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The means as a tracker's `summary` takes them, called `prefix` and the column."""
        return {
            prefix + column: MetricResult.of(
                self.info.get(column, _UNKNOWN),
                prefix + column,
                mean.value,
                protocol=dict(protocol),
                interval=mean.interval,
            ).entry()
            for column, mean in self.means.items()
        }

    def write(self, folder: Path, protocol: Mapping[str, Any]) -> None:
        """table.csv (the rows) and table.json (rows, means, intervals, and how it was measured)."""
        write_csv(folder / "table.csv", self.frame)
        targets = {"targets": self.targets} if self.targets else {}
        means = {column: asdict(mean) for column, mean in self.means.items()}
        content = {"protocol": protocol, "info": info_as_dict(self.info), "means": means, "rows": self.rows, **targets}
        write_json(folder / "table.json", content)

    def __str__(self) -> str:
        heads = {column: heading(column, self.info.get(column, _UNKNOWN)) for column in self.means}
        width = max(map(len, [*heads.values(), " " * 14]))
        lines = [f"  {heads[column]:<{width}} {cell(mean, '.4g')}" for column, mean in self.means.items()]
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
        for column in self.tested or ():
            check_choice("tested", column, self.columns)
        if self.tested is not None or self.baseline not in self.rows:
            return paired_tests(self.rows, self.baseline, columns=self.tested)
        own = [column for column in self.tables[self.baseline].columns if self.info.get(column, _UNKNOWN).per_item]
        return paired_tests(self.rows, self.baseline, columns=own)

    def markdown(self, headings: Headings | None = None) -> str:
        """The means, and below them the differences from the baseline where there are any."""
        shown = headings or default_headings(self.columns, self.info)
        text = markdown_means(self.means, shown)
        tests = markdown_tests(self.paired, self.baseline, shown)
        return f"{text}\n{tests}" if tests else text

    def as_dict(self) -> dict[str, Any]:
        """Means, comparisons and rows as plain values."""
        means = {method: {column: asdict(mean) for column, mean in each.items()} for method, each in self.means.items()}
        paired = {
            method: {column: asdict(found) for column, found in each.items()} for method, each in self.paired.items()
        }
        info = info_as_dict(self.info)
        return {"baseline": self.baseline, "info": info, "means": means, "paired": paired, "rows": self.rows}

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


def info_as_dict(info: Mapping[str, MetricInfo]) -> dict[str, dict[str, str]]:
    """What columns mean, for JSON."""
    return {column: asdict(each) for column, each in info.items()}


def heading(column: str, info: MetricInfo) -> str:
    """`psnr_db, dB ↑`: name, unit, and which values are better."""
    name = column if not info.unit or column.endswith(f"_{info.unit.lower()}") else f"{column}, {info.unit}"
    return f"{name} {ARROWS[info.direction]}".rstrip()


def default_headings(columns: Sequence[str], info: Mapping[str, MetricInfo]) -> dict[str, tuple[str, str]]:
    """All columns, four significant digits."""
    return {column: (heading(column, info.get(column, _UNKNOWN)), ".4g") for column in columns}


def markdown_means(means: Mapping[str, Mapping[str, Mean]], headings: Headings) -> str:
    """A row per method, a column per score that any of them has, the interval behind each value."""
    columns = [column for column in headings if any(column in each for each in means.values())]
    rows = [[method, *(cell(each.get(c), headings[c][1]) for c in columns)] for method, each in means.items()]
    return _markdown(["method", *(headings[column][0] for column in columns)], rows)


def markdown_tests(paired: Mapping[str, Mapping[str, Paired]], baseline: str, headings: Headings) -> str:
    """Differences from the baseline on the same items, with interval and p; empty where nothing was compared."""
    columns = [column for column in headings if any(column in each for each in paired.values())]
    if not columns:
        return ""
    rows = [
        [method, *(difference_cell(each.get(c), headings[c][1]) for c in columns)] for method, each in paired.items()
    ]
    return _markdown([f"minus '{baseline}', paired", *(headings[column][0] for column in columns)], rows)


def cell(mean: Mean | None, form: str) -> str:
    """`0.123 (0.110 to 0.135)`; a dash where there is nothing."""
    return "–" if mean is None else f"{mean.value:{form}}{_bounds(mean.interval, form)}"


def difference_cell(found: Paired | None, form: str) -> str:
    """`+0.3 (+0.2 to +0.4), p = 4e-10`; with too few items for a test it says so."""
    if found is None:
        return "–"
    chance = f"no test below {MIN_ITEMS} items" if found.p_holm is None else f"p = {found.p_holm:.1g}"
    return f"{found.difference:+{form}}{_bounds(found.interval, '+' + form)}, {chance}"


def _bounds(interval: tuple[float, float] | None, form: str) -> str:
    """An interval without width says nothing."""
    return "" if interval is None or interval[0] == interval[1] else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]]) + "\n"
