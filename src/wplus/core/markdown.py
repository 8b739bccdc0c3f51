"""Table cells and Markdown tables: means with intervals, differences with tests."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from wplus.core.metric_result import ARROWS, MetricInfo
from wplus.core.paired import ITEMS, Paired, Unit
from wplus.core.stats import Mean

T = TypeVar("T")
Headings = Mapping[str, tuple[str, str]]
"""Column -> heading and number format of its cells; also determines which columns are shown, and their order."""
AT_ODDS = "(!)"


def heading(column: str, info: MetricInfo | None) -> str:
    """`psnr_db, dB ↑`: name, unit, and which values are better, if known."""
    if info is None:
        return column
    name = column if not info.unit or column.endswith(f"_{info.unit.lower()}") else f"{column}, {info.unit}"
    return f"{name} {ARROWS[info.direction]}".rstrip()


def markdown_means(means: Mapping[str, Mapping[str, Mean]], headings: Headings) -> str:
    """One row per method, one column per score that any of them has, with an interval after each value."""
    return markdown_table("method", means, headings, mean_cell)


def markdown_tests(
    paired: Mapping[str, Mapping[str, Paired]], baseline: str, headings: Headings, unit: Unit = ITEMS
) -> str:
    """Differences from the baseline on the same units, with interval and p; empty if nothing was compared."""
    return markdown_table(
        f"minus '{baseline}', paired", paired, headings, lambda found, form: paired_cell(found, form, unit)
    )


def mean_cell(mean: Mean, form: str) -> str:
    """`0.123 (0.110 to 0.135)`."""
    return f"{mean.value:{form}}{_bounds(mean.interval, form)}"


def points_cell(mean: Mean, points: Sequence[float], form: str) -> str:
    """`0.123 [0.110, 0.136]`: the mean and the individual values, for too few of them to give an interval."""
    shown = "" if mean.interval is not None or len(points) < 2 else f" [{', '.join(f'{x:{form}}' for x in points)}]"
    return mean_cell(mean, form) + shown


def paired_cell(found: Paired, form: str, unit: Unit = ITEMS, *, screen: bool = False) -> str:
    """`+0.3 (+0.2 to +0.4), p = 4e-10`, or a note that there are too few units for a test. With `screen` q, not p.

    `AT_ODDS` marks cells where the interval and the test of a few seeds disagree.
    """
    chance, letter = (found.q, "q") if screen else (found.p_holm, "p")
    words = f"no test below {unit.fewest} {'items' if unit is ITEMS else unit.name}"
    shown = words if chance is None else f"{letter} = {chance:.1g}"
    mark = f" {AT_ODDS}" if unit is not ITEMS and found.is_at_odds else ""
    same = "" if found.equivalent_p is None else f", equal within the margin: p = {found.equivalent_p:.1g}"
    return f"{found.difference:+{form}}{_bounds(found.interval, '+' + form)}, {shown}{mark}{same}"


def _bounds(interval: tuple[float, float] | None, form: str) -> str:
    """The interval in brackets; empty if there is none or it has zero width."""
    return "" if interval is None or interval[0] == interval[1] else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def markdown_table(
    corner: str, values: Mapping[str, Mapping[str, T]], headings: Headings, cell: Callable[[T, str], str]
) -> str:
    """The columns of `headings` that any row has, with dashes for missing values; empty if there are none."""
    return as_markdown(table_cells(corner, values, headings, cell))


def table_cells(
    corner: str, values: Mapping[str, Mapping[str, T]], headings: Headings, cell: Callable[[T, str], str]
) -> list[list[str]]:
    """Cells of `markdown_table` as text by row and column, headings first."""
    columns = [column for column in headings if any(column in row for row in values.values())]
    if not columns:
        return []
    rows = [[corner, *(headings[column][0] for column in columns)]]
    for name, row in values.items():
        rows.append([name, *(cell(row[c], headings[c][1]) if c in row else "–" for c in columns)])
    return rows


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, headings first, as a Markdown table; empty for no rows."""
    if not rows:
        return ""
    first, *others = (f"| {' | '.join(cells)} |\n" for cells in rows)
    return "".join([first, "|---" * len(rows[0]) + "|\n", *others])
