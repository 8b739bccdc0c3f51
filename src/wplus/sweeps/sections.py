"""Formats a sweep's table as Markdown and for the terminal: means, differences, and spread."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from wplus.core.markdown import AT_ODDS, as_markdown, heading, mean_cell, paired_cell, points_cell
from wplus.core.seed_stats import MIN_SEEDS, SEEDS, ClusterMean
from wplus.errors import check_choice
from wplus.sweeps.across import Across, across_sets
from wplus.sweeps.table import SweepTable

T = TypeVar("T")
FORM = ".4g"
WIDTH = 100
_SHOWN = 3  # number of metrics that fit into a terminal


@dataclass(frozen=True)
class Section:
    """A table of text; the first of the `rows` is the header."""

    title: str
    rows: list[list[str]]


def sections(table: SweepTable, numbers: Sequence[str], *, screen: bool = False) -> list[Section]:
    """The non-empty sections. With `screen`, p is corrected by Benjamini and Hochberg instead of Holm."""
    return [_means(table, numbers), *findings(table, numbers, screen=screen)]


def findings(table: SweepTable, numbers: Sequence[str], *, screen: bool = False) -> list[Section]:
    """Sections besides the means: differences with tests, statistics over data sets, components of the spread."""
    for name in numbers:
        check_choice("numbers", name, table.numbers)
    found = [_differences(table, numbers, screen=screen), _over_sets(table, numbers), _spreads(table, numbers)]
    return [section for section in found if len(section.rows) > 1]


def markdown(table: SweepTable, numbers: Sequence[str] | None = None, *, screen: bool = False) -> str:
    """All sections, the meanings of the metrics, and the notes, as Markdown."""
    shown = list(numbers or table.numbers)
    parts = [(f"{each.title}\n\n" if each.title else "") + as_markdown(each.rows)
             for each in sections(table, shown, screen=screen)]  # fmt: skip
    lines = [*meanings(table, shown), *notes(table, shown)]
    return "\n".join([*parts, *(f"- {line}" for line in lines), ""])


def show(
    table: SweepTable, numbers: Sequence[str] | None = None, *, screen: bool = False, width: int | None = None
) -> None:
    """Print the table; by default with the metric it is sorted by and a few more. `width` None: the terminal's, or 100
    characters if there is none."""
    shown = list(numbers) if numbers else first_numbers(table)
    for section in sections(table, shown, screen=screen):
        show_section(section, width=width)
    others = [name for name in table.numbers if name not in shown]
    more = [f"Further numbers (--numbers, --output): {', '.join(others)}."] if others else []
    show_notes([*meanings(table, shown), *notes(table, shown), *more, ""], width=width)


def show_section(section: Section, *, width: int | None = None) -> None:
    """Print one section."""
    grid = Grid(title=section.title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
                padding=(0, 2, 0, 0))  # fmt: skip
    for name in section.rows[0]:
        grid.add_column(Text(name), overflow="fold")
    for row in section.rows[1:]:
        grid.add_row(*(Text(cell) for cell in row))
    console = _console(width)
    console.print(grid)
    console.print()


def show_notes(lines: Iterable[str], *, width: int | None = None) -> None:
    """Print sentences, each starting on a new line."""
    console = _console(width)
    for line in lines:
        console.print(Text(line))


def _console(width: int | None) -> Console:
    console = Console(width=width, highlight=False)
    return console if width is not None or console.is_terminal else Console(width=WIDTH, highlight=False)


def meanings(table: SweepTable, numbers: Sequence[str]) -> list[str]:
    """The meanings of the metrics, one line each."""
    return [f"{heading(name, table.info[name])}: {table.info[name].meaning}" for name in numbers if name in table.info]


def notes(table: SweepTable, numbers: Sequence[str]) -> list[str]:
    """Notes on the metrics."""
    cells = [row[name] for row in table.rows.values() for name in numbers if name in row]
    few = any(len(cell.points) < MIN_SEEDS for cell in cells)
    odds = [test for row in table.tests.values() for name, test in row.items() if name in numbers and test.is_at_odds]
    found = list(table.notes)
    if few:
        found.append(f"Below {MIN_SEEDS} seeds there is no interval and no test: the points stand in brackets.")
    else:
        found.append(f"In parentheses: {SEEDS.interval.partition(';')[0]}.")
    if odds:
        found.append(f"{AT_ODDS} the interval and the test disagree: so few seeds decide nothing, run more (of "
                     f"{MIN_SEEDS} the smallest possible p is {2 / 2**MIN_SEEDS:.2g}).")  # fmt: skip
    if table.sort is not None and len(table.groups) > 1:
        found.append(f"The first of {len(table.groups)} rows was chosen by these very runs, which flatters it: "
                     "--confirm K runs the best K again on fresh seeds.")  # fmt: skip
    return found


def first_numbers(table: SweepTable) -> list[str]:
    """The metric used for sorting, then those with a direction, as many as fit side by side."""
    judged = [name for name in table.numbers if name in table.info and table.info[name].direction != "neither"]
    first = [*([table.sort] if table.sort else []), *table.objectives]
    return list(dict.fromkeys([*first, *judged, *table.numbers]))[: max(_SHOWN, len(set(first)))]


def _means(table: SweepTable, numbers: Sequence[str]) -> Section:
    rows = [["configuration", "seeds", *(heading(name, table.info.get(name)) for name in numbers)]]
    for group, row in table.rows.items():
        mark = " (baseline)" if (table.methods or {}).get(group) == table.baseline else ""
        num = max((len(cell.points) for cell in row.values()), default=0)
        cells = [points_cell(row[name].mean, list(row[name].points.values()), FORM) if name in row else "–"
                 for name in numbers]  # fmt: skip
        rows.append([group + mark, str(num), *cells])
    return Section("", rows)


def _differences(table: SweepTable, numbers: Sequence[str], *, screen: bool) -> Section:
    shown = [name for name in numbers if any(name in row for row in table.tests.values())]
    num = sum(test.p is not None for row in table.comparison.paired.values() for test in row.values())
    by = "q after Benjamini and Hochberg, to screen" if screen else "p after Holm"
    margins = {name: table.comparison.margins[name] for name in shown if name in table.comparison.margins}
    within = "".join(f"; margin of {name} {margin:g}" for name, margin in margins.items())
    tested = f"; signs flipped, {by} ({num} comparison{'s' if num > 1 else ''}){within}" if num else ""
    title = f"Minus '{table.baseline}', seed by seed{tested}"
    rows = [["configuration", *(heading(name, table.info.get(name)) for name in shown)]]
    for group in table.groups:
        row = table.tests.get(group, {})
        if any(name in row for name in shown):
            rows.append([group, *(paired_cell(row[name], FORM, SEEDS, screen=screen) if name in row else "–"
                                  for name in shown)])  # fmt: skip
    return Section(title, rows)


def _spreads(table: SweepTable, numbers: Sequence[str]) -> Section:
    """The contributions of seeds and images to the spread."""
    cells = {name: {group: spread for group in table.groups
                    if (spread := table.comparison.clusters(group, name)) is not None} for name in numbers}  # fmt: skip
    shown = [name for name in numbers if cells[name]]
    title = "Over seeds and images, both drawn; standard deviation of seeds, of images"
    return Section(title, _rows(table.groups, shown, cells, _spread_cell, "configuration", table))


def _over_sets(table: SweepTable, numbers: Sequence[str]) -> Section:
    cells = {name: across_sets(table, name) for name in numbers} if table.across else {}
    shown = [name for name in numbers if cells.get(name)]
    methods = list(dict.fromkeys((table.methods or {}).values()))
    title = (f"Against '{table.baseline}' over all {' '.join(table.across)}: interquartile mean, probability of "
             "improvement; seeds drawn within each")  # fmt: skip
    return Section(title, _rows(methods, shown, cells, _across_cell, "method", table))


def _rows(
    names: Sequence[str], numbers: Sequence[str], cells: dict[str, dict[str, T]], shown: Callable[[T], str],
    corner: str, table: SweepTable,
) -> list[list[str]]:  # fmt: skip
    found = [[corner, *(heading(name, table.info.get(name)) for name in numbers)]]
    for each in names:
        if any(each in cells[name] for name in numbers):
            found.append([each, *(shown(cells[name][each]) if each in cells[name] else "–" for name in numbers)])
    return found


def _spread_cell(spread: ClusterMean) -> str:
    bounds = "" if spread.interval is None else f"{spread.interval[0]:{FORM}} to {spread.interval[1]:{FORM}}; "
    return f"{bounds}seeds {spread.seed_sd:.2g}, images {spread.image_sd:.2g}"


def _across_cell(found: Across) -> str:
    form = FORM if found.is_ratio else "+" + FORM
    change = ("times " if found.is_ratio else "") + mean_cell(found.interquartile, form)
    better = "" if found.improvement is None else f"; better with {mean_cell(found.improvement, '.2f')}"
    return f"{change}{better} [{found.num_sets} sets]"
