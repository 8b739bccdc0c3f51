"""The table of a sweep: a row for every configuration, means over seeds with their intervals, and honest tests."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from wplus.core.files import atomic_write
from wplus.core.metric_result import ARROWS, MetricInfo
from wplus.core.stats import Mean, holm
from wplus.errors import UserError, check_choice
from wplus.sweeps.labels import SEED, Point
from wplus.sweeps.members import Member, group_of, infos, matches, varying
from wplus.sweeps.seed_stats import (
    MIN_SEEDS,
    ClusterMean,
    SeedDifference,
    cluster_mean,
    seed_difference,
    seed_mean,
)

FORMATS = ("md", "csv", "json", "parquet")


@dataclass(frozen=True)
class Cell:
    """A number of a configuration."""

    mean: Mean
    points: Mapping[int, float]
    """Seed -> value."""
    clustered: ClusterMean | None = None
    """Over the images of all seeds, where they were measured one by one."""


@dataclass(frozen=True)
class SweepTable:
    """Configurations by numbers.

    Attributes:
        keys: what varies, but for the seed.
        rows: configuration -> number -> cell, in the order of the first members.
        settings: configuration -> key -> value.
        info: what the numbers mean.
        baseline: the configuration that the others are compared with, or None.
        tests: configuration -> number -> difference from the baseline.
    """

    keys: Sequence[str]
    rows: Mapping[str, Mapping[str, Cell]]
    settings: Mapping[str, Mapping[str, Any]]
    info: Mapping[str, MetricInfo]
    baseline: str | None
    tests: Mapping[str, Mapping[str, SeedDifference]]

    @property
    def numbers(self) -> list[str]:
        """Every number that any configuration has."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each configuration and number: mean, interval, number of seeds, difference, p."""
        found = []
        for group, row in self.rows.items():
            for name, cell in row.items():
                low, high = cell.mean.interval or (None, None)
                test = self.tests.get(group, {}).get(name)
                tested = {} if test is None else {
                    "difference": test.difference, "p_holm": test.p_corrected, "equivalent_p": test.equivalent_p
                }  # fmt: skip
                what = {"number": name, "mean": cell.mean.value, "low": low, "high": high}
                found.append({**self.settings[group], **what, "num_seeds": len(cell.points), **tested})
        return pd.DataFrame(found)

    def sorted_by(self, number: str) -> "SweepTable":
        """The best configuration first, as the number's direction says; those without it last."""
        check_choice("sort", number, self.numbers)
        sign = -1 if number in self.info and self.info[number].direction == "higher" else 1
        having = [group for group, row in self.rows.items() if number in row]
        order = sorted(having, key=lambda group: sign * self.rows[group][number].mean.value)
        return replace(self, rows={group: self.rows[group] for group in dict.fromkeys([*order, *self.rows])})

    def markdown(self, numbers: Sequence[str] | None = None) -> str:
        """For people: means with intervals, below five seeds the points; then the differences from the baseline."""
        shown = list(numbers or self.numbers)
        for name in shown:
            check_choice("numbers", name, self.numbers)
        heads = [_heading(name, self.info.get(name)) for name in shown]
        lines = [_line(["configuration", "seeds", *heads]), "|---" * (2 + len(shown)) + "|"]
        for group, row in self.rows.items():
            num = max((len(cell.points) for cell in row.values()), default=0)
            mark = " (baseline)" if group == self.baseline else ""
            lines.append(_line([group + mark, str(num), *(_cell(row.get(name)) for name in shown)]))
        if self.tests:
            lines += ["", f"Minus '{self.baseline}', seed by seed; p by flipping signs, after Holm's correction.", ""]
            lines += [_line(["configuration", *shown]), "|---" * (1 + len(shown)) + "|"]
            for group, tested in self.tests.items():
                lines.append(_line([group, *(_difference(tested.get(name)) for name in shown)]))
        return "\n".join(lines)

    def write(self, path: Path) -> Path:
        """As the ending says: .md, .csv, .json or .parquet (which needs pyarrow)."""
        kind = path.suffix.lstrip(".")
        check_choice("the ending of the table", kind, FORMATS)
        if kind == "parquet":
            try:
                content = self.frame.to_parquet()
            except ImportError as error:
                raise UserError("A .parquet file needs pyarrow: pip install 'wplus[sweep]'.") from error
        elif kind == "csv":
            content = self.frame.to_csv(index=False, lineterminator="\n").encode()
        else:
            content = (self.markdown() if kind == "md" else json.dumps(self.as_dict(), indent=2)).encode()
        return atomic_write(path, lambda file: file.write(content))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "keys": list(self.keys), "baseline": self.baseline, "settings": self.settings,
            "info": {name: asdict(each) for name, each in self.info.items()},
            "rows": {group: {name: asdict(cell) for name, cell in row.items()} for group, row in self.rows.items()},
            "tests": {group: {name: asdict(test) for name, test in row.items()} for group, row in self.tests.items()},
        }  # fmt: skip


def sweep_table(
    members: Sequence[Member], *, baseline: Point | str | None = None, margin: float | None = None
) -> SweepTable:
    """Group members by all that varies but the seed. Only finished runs count.

    Args:
        members: of one command; UserError for several.
        baseline: the configuration to compare with: what of the varying keys it has, or its name in the table.
        margin: differences within it are nothing: the claim that a configuration is as good is tested, too.
    """
    done = [member for member in members if member.status == "finished"]
    if not done:
        raise UserError(f"None of the {len(members)} runs has finished: there is nothing to put into a table.")
    keys = [key for key in varying(done) if key != SEED]
    groups: dict[str, list[Member]] = {}
    for member in done:
        groups.setdefault(group_of(member, keys), []).append(member)
    rows = {group: _cells(those) for group, those in groups.items()}
    settings = {group: {key: those[0].asked.get(key) for key in keys} for group, those in groups.items()}
    chosen = _baseline(groups, baseline)
    tests = {} if chosen is None else _tests(rows, chosen, margin)
    return SweepTable(keys, rows, settings, infos(done), chosen, tests)


def _cells(members: Sequence[Member]) -> dict[str, Cell]:
    points: dict[str, dict[int, float]] = {}
    for member in members:
        for name, value in member.numbers().items():
            points.setdefault(name, {})[member.seed] = value
    found = {}
    for name, by_seed in points.items():
        items = [member.items(name) for member in members]
        clustered = cluster_mean(items) if len(items) > 1 and all(len(each) > 1 for each in items) else None
        found[name] = Cell(seed_mean(list(by_seed.values())), by_seed, clustered)
    return found


def _baseline(groups: Mapping[str, Sequence[Member]], wanted: Point | str | None) -> str | None:
    if not wanted:
        return None
    if isinstance(wanted, str):
        check_choice("baseline", wanted, groups)
        return wanted
    found = [group for group, members in groups.items() if matches(members[0], wanted)]
    if len(found) != 1:
        text = " ".join(f"{key}={value}" for key, value in wanted.items())
        raise UserError(f"baseline '{text}' must fit one of {', '.join(groups)}; it fits {len(found)}.")
    return found[0]


def _tests(
    rows: Mapping[str, Mapping[str, Cell]], baseline: str, margin: float | None
) -> dict[str, dict[str, SeedDifference]]:
    own = rows[baseline]
    found = {
        group: {name: test for name, cell in row.items() if name in own and
                (test := seed_difference(cell.points, own[name].points, margin=margin)) is not None}
        for group, row in rows.items() if group != baseline
    }  # fmt: skip
    corrected = iter(holm([test.p for row in found.values() for test in row.values()]))
    return {group: {name: replace(test, p_corrected=next(corrected)) for name, test in row.items()}
            for group, row in found.items()}  # fmt: skip


def _heading(name: str, info: MetricInfo | None) -> str:
    return name if info is None else f"{name} {ARROWS[info.direction]}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    if cell.mean.interval is not None:
        low, high = cell.mean.interval
        return f"{cell.mean.value:.4g} ({low:.4g} to {high:.4g})"
    if len(cell.points) == 1:
        return f"{cell.mean.value:.4g}"
    return f"{cell.mean.value:.4g} [{', '.join(f'{value:.4g}' for value in cell.points.values())}]"


def _difference(test: SeedDifference | None) -> str:
    if test is None:
        return "–"
    bounds = "" if test.interval is None else f" ({test.interval[0]:+.4g} to {test.interval[1]:+.4g})"
    chance = f"no test below {MIN_SEEDS} seeds" if test.p_corrected is None else f"p = {test.p_corrected:.1g}"
    same = f", the same within the margin: p = {test.equivalent_p:.1g}" if test.equivalent_p is not None else ""
    return f"{test.difference:+.4g}{bounds}, {chance}{same}"
