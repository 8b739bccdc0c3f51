"""Scores of items (images, pairs of images), one by one and on average with bootstrap intervals: CSV, JSON, text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wplus.core.files import atomic_write, write_json
from wplus.core.stats import Mean, bootstrap_mean


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
