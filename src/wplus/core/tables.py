"""Scores of items (images, pairs of images), of one method or of several compared: CSV, JSON, Markdown, text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wplus.core.files import atomic_write, write_json
from wplus.core.stats import MIN_ITEMS, Mean, Paired, Rows, bootstrap_mean, paired_tests
from wplus.errors import UserError


@dataclass(frozen=True)
class Table:
    """Scores by item: name -> column -> value, every row with the same columns."""

    rows: Mapping[str, Mapping[str, float]]
    targets: Mapping[str, str] = field(default_factory=dict)
    """What identifies the item behind a name, the digest of its pixels; may be left out."""

    @property
    def columns(self) -> list[str]:
        """Names of the scores."""
        return list(next(iter(self.rows.values()), {}))

    def means(self) -> dict[str, Mean]:
        """Mean and interval of every column."""
        return {column: bootstrap_mean([row[column] for row in self.rows.values()]) for column in self.columns}

    def write(self, folder: Path, protocol: Mapping[str, Any]) -> None:
        """table.csv (the rows) and table.json (rows, means, intervals, and how it was measured)."""
        lines = [["name", *self.columns], *([name, *row.values()] for name, row in self.rows.items())]
        write_csv(folder / "table.csv", lines)
        means = {column: {"value": mean.value, "interval": mean.interval} for column, mean in self.means().items()}
        content = {"protocol": protocol, "means": means, "rows": self.rows}
        write_json(folder / "table.json", {**content, **({"targets": self.targets} if self.targets else {})})

    def __str__(self) -> str:
        lines = [f"{len(self.rows)} image(s), mean and 95 % bootstrap interval"]
        width = max(map(len, [*self.columns, " " * 14]))
        for column, mean in self.means().items():
            bounds = "" if mean.interval is None else f"   {mean.interval[0]:.4g} .. {mean.interval[1]:.4g}"
            lines.append(f"  {column:<{width}} {mean.value:<10.4g}{bounds}")
        return "\n".join(lines)


def write_csv(path: Path, lines: Sequence[Sequence[Any]]) -> None:
    """Lines of cells, the first of them the headings; written whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    atomic_write(path, lambda file: file.write(text.getvalue().encode("utf-8", "surrogateescape")))


Headings = Mapping[str, tuple[str, str]]
"""Column -> heading and number format of its cells; also which columns are shown, and in which order."""


@dataclass(frozen=True)
class Comparison:
    """Scores of several methods on the same items: method -> item -> column -> value. A score may be missing.

    baseline  the method that the others are compared with
    tested    the columns that are compared; None: all of the baseline's. Every further one makes Holm's correction
              harder on all
    """

    rows: Mapping[str, Rows]
    baseline: str
    tested: Sequence[str] | None = None

    @property
    def columns(self) -> list[str]:
        """Every score that any method has."""
        tables = self.rows.values()
        return list(dict.fromkeys(column for table in tables for row in table.values() for column in row))

    @cached_property
    def means(self) -> dict[str, dict[str, Mean]]:
        """Method -> column -> mean over the items that have it, with its interval."""
        return {
            method: {
                column: bootstrap_mean(values)
                for column in self.columns
                if (values := [row[column] for row in table.values() if column in row])
            }
            for method, table in self.rows.items()
        }

    @cached_property
    def paired(self) -> dict[str, dict[str, Paired]]:
        """Method -> column -> comparison with the baseline; UserError for a tested column that nobody has."""
        for column in self.tested or ():
            if column not in self.columns:
                raise UserError(f"There is no score '{column}' to test: choose of {', '.join(self.columns)}.")
        return paired_tests(self.rows, self.baseline, columns=self.tested)

    def markdown(self, headings: Headings | None = None) -> str:
        """The means, and below them the differences from the baseline where there are any."""
        shown = headings or default_headings(self.columns)
        text = markdown_means(self.means, shown)
        tests = markdown_tests(self.paired, self.baseline, shown)
        return f"{text}\n{tests}" if tests else text

    def as_dict(self) -> dict[str, Any]:
        """Means, comparisons and rows as plain values."""
        means = {
            method: {column: {"value": mean.value, "interval": mean.interval} for column, mean in each.items()}
            for method, each in self.means.items()
        }
        paired = {
            method: {column: found.as_dict() for column, found in each.items()} for method, each in self.paired.items()
        }
        return {"baseline": self.baseline, "means": means, "paired": paired, "rows": self.rows}

    def write(self, folder: Path, protocol: Mapping[str, Any], *, headings: Headings | None = None) -> None:
        """table.csv (every item of every method), table.json (all numbers and the protocol), table.md (to read)."""
        lines = [
            [method, item, *(row.get(column, "") for column in self.columns)]
            for method, table in self.rows.items()
            for item, row in table.items()
        ]
        write_csv(folder / "table.csv", [["method", "name", *self.columns], *lines])
        write_json(folder / "table.json", {"protocol": protocol, **self.as_dict()})
        atomic_write(folder / "table.md", lambda file: file.write(self.markdown(headings).encode()))


PAIRED_CELLS = ("method", "score", "difference", "low", "high", "p", "p_holm", "higher", "effect", "num_items")


def paired_cells(paired: Mapping[str, Mapping[str, Paired]]) -> list[list[Any]]:
    """A row of `PAIRED_CELLS` per comparison: what a tracker's table `.../paired` holds."""
    return [
        [method, column, found.difference, *(found.interval or (None, None)),
         found.p, found.p_holm, found.higher, found.effect, found.num_items]
        for method, columns in paired.items()
        for column, found in columns.items()
    ]  # fmt: skip


def default_headings(columns: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The columns' own names, four significant digits."""
    return {column: (column, ".4g") for column in columns}


def markdown_means(means: Mapping[str, Mapping[str, Mean]], headings: Headings) -> str:
    """A row per method, a column per score that any of them has, the interval behind each value."""
    columns = [column for column in headings if any(column in each for each in means.values())]
    rows = [[method, *(cell(each.get(c), headings[c][1]) for c in columns)] for method, each in means.items()]
    return _markdown(["method", *(headings[column][0] for column in columns)], rows)


def markdown_tests(
    paired: Mapping[str, Mapping[str, Paired]], baseline: str, headings: Headings, *, corrected: bool = True
) -> str:
    """Differences from the baseline on the same items, with interval and p: `corrected` by Holm, or each by itself.

    Empty where nothing was compared.
    """
    columns = [column for column in headings if any(column in each for each in paired.values())]
    if not columns:
        return ""
    rows = [
        [method, *(difference_cell(each.get(c), headings[c][1], corrected=corrected) for c in columns)]
        for method, each in paired.items()
    ]
    return _markdown([f"minus '{baseline}', paired", *(headings[column][0] for column in columns)], rows)


def cell(mean: Mean | None, form: str) -> str:
    """`0.123 (0.110 to 0.135)`; a dash where there is nothing."""
    if mean is None:
        return "–"
    bounds = "" if mean.interval is None else f" ({mean.interval[0]:{form}} to {mean.interval[1]:{form}})"
    return f"{mean.value:{form}}{bounds}"


def difference_cell(found: Paired | None, form: str, *, corrected: bool = True) -> str:
    """`+0.3 (+0.2 to +0.4), p = 4e-10`; with too few items for a test it says so."""
    if found is None:
        return "–"
    bounds = "" if found.interval is None else f" ({found.interval[0]:+{form}} to {found.interval[1]:+{form}})"
    p = found.p_holm if corrected else found.p
    chance = f"no test below {MIN_ITEMS} items" if p is None else f"p = {p:.1g}"
    return f"{found.difference:+{form}}{bounds}, {chance}"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (headings, *rows)]
    return "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]]) + "\n"
