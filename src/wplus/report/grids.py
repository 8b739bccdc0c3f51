"""Picture grids: a row per image, a column per run; videos and a training's pictures play in sync."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wplus.report.blocks import short
from wplus.report.media import Media
from wplus.report.runs import PageRun, Part
from wplus.tracking.tracker import KIMG

MAX_IMAGES = 16  # rows per grid
MAX_FRAMES = 12  # frames of the pictures that a training logged under one name
# Left out because the page draws these itself, so that runs can be compared.
_DRAWN_HERE = ("invert/grid", "invert/convergence")


@dataclass(frozen=True)
class Frame:
    """A picture or video at one time."""

    name: str
    """Name in `Media`."""
    caption: str


@dataclass(frozen=True)
class GridCell:
    """A run's entry in a row; several frames are played as an animation."""

    kind: str
    """"image" or "video"."""
    frames: Sequence[Frame]
    note: str = ""
    """All scores of this image."""
    score: str = ""
    """The objective's score, shown below the picture."""


@dataclass
class Grid:
    """Rows by columns."""

    title: str
    columns: list[str]
    groups: list[str | None]
    """The configuration of each column; None for a column shared by all."""
    rows: dict[str, list[GridCell | None]] = field(default_factory=dict)
    left_out: int = 0
    """Number of rows not shown."""
    size: int = 128
    """Initial width of a column in pixels."""

    @property
    def has_film(self) -> bool:
        """Whether the grid has anything to play."""
        cells = [cell for row in self.rows.values() for cell in row if cell is not None]
        return any(cell.kind == "video" or len(cell.frames) > 1 for cell in cells)


def grids(part: Part, media: Media) -> list[Grid]:
    """Grids of the picture tables that the runs tracked (images and inversions), then of everything else logged."""
    tables = {key: _table_grid(key, part, media) for key in _picture_tables(part.runs)}
    found = [grid for grid in tables.values() if grid.rows]
    logged = _logged_grid(part.runs, media, without=_DRAWN_HERE if found else ())
    return [*found, *([logged] if logged.rows else [])]


# Tables with pictures in their cells


def _picture_tables(runs: Sequence[PageRun]) -> list[str]:
    keys = dict.fromkeys(key for run in runs for key, files in run.result.get("files", {}).items()
                         if files and files[0].endswith(".json"))  # fmt: skip
    return [key for key in keys if any(_pictures(row) for run in runs for row in run.table_rows(key))]


def _table_grid(key: str, part: Part, media: Media) -> Grid:
    """The grid of a picture table; a column that is the same in all runs (a target) is shown once, in front."""
    runs, score = part.runs, short(part.objective or "")
    found = {run.label: {_title(row): row for row in run.table_rows(key)} for run in runs}
    names = list(dict.fromkeys(name for rows in found.values() for name in rows))
    picture_columns = dict.fromkeys(c for rows in found.values() for row in rows.values() for c in _pictures(row))
    grid = Grid(short(key).replace("_", " "), [], [], left_out=max(0, len(names) - MAX_IMAGES))
    grid.rows = {name: [] for name in names[:MAX_IMAGES]}
    for column in picture_columns:
        cells = {run.label: [_table_cell(run, found[run.label].get(name), column, media, score) for name in grid.rows]
                 for run in runs}  # fmt: skip
        shared = _shared(list(cells.values()))
        if shared is not None and len(runs) > 1:
            _add(grid, column, None, shared)
            continue
        for run in runs:
            label = run.label if len(picture_columns) == 1 or len(runs) > 1 else column
            _add(grid, label, run.group, cells[run.label])
    return grid


def _pictures(row: Mapping[str, Any]) -> list[str]:
    return [column for column, value in row.items() if isinstance(value, Mapping) and "file" in value]


def _title(row: Mapping[str, Any]) -> str:
    return next((str(value) for value in row.values() if isinstance(value, str)), "")


def _table_cell(run: PageRun, row: Mapping[str, Any] | None, column: str, media: Media, score: str) -> GridCell | None:
    name = media.add(run.folder / row[column]["file"]) if row and column in _pictures(row) else None
    if row is None or name is None:
        return None
    scores = {key: value for key, value in row.items() if isinstance(value, int | float)}
    note = ", ".join(f"{key} {value:.4g}" for key, value in scores.items())
    shown = f"{score} {scores[score]:.4g}" if score in scores else ""
    return GridCell("image", [Frame(name, f"{_title(row)}, {column}: {run.label}")], note, shown)


def _shared(columns: Sequence[Sequence[GridCell | None]]) -> list[GridCell | None] | None:
    """The common column if all are equal, ignoring missing cells; None if they differ."""
    merged: list[GridCell | None] = []
    for cells in zip(*columns, strict=True):
        present = [cell for cell in cells if cell is not None]
        if len({cell.frames[0].name for cell in present}) > 1:
            return None
        merged.append(GridCell("image", [Frame(present[0].frames[0].name, present[0].frames[0].caption.split(":")[0])])
                      if present else None)  # fmt: skip
    return merged


def _add(grid: Grid, label: str, group: str | None, cells: Iterable[GridCell | None]) -> None:
    grid.columns.append(label)
    grid.groups.append(group)
    for row, cell in zip(grid.rows.values(), cells, strict=True):
        row.append(cell)


# What was logged by name


def _logged_grid(runs: Sequence[PageRun], media: Media, *, without: Sequence[str]) -> Grid:
    """A row for every name; pictures that a training logged repeatedly are frames of an animation."""
    logged = {run.label: _logged(run) for run in runs}
    names = dict.fromkeys(key for files in logged.values() for key in files if key not in without)
    size = 480 if len(runs) == 1 else 256
    grid = Grid("pictures and films", [run.label for run in runs], [run.group for run in runs], size=size)
    for key in names:
        cells = [_logged_cell(run, logged[run.label].get(key, []), media) for run in runs]
        if any(cells):
            grid.rows[short(key).replace("_", " ")] = cells
    return grid


def _logged(run: PageRun) -> dict[str, list[tuple[str, str]]]:
    """Key -> (file, caption) in order, without those of methods and tables."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in run.rows:
        for key, entry in row.items():
            if isinstance(entry, Mapping) and "file" in entry and not str(entry["file"]).endswith(".json"):
                at = f", {float(row[KIMG]):g} kimg" if KIMG in row else ""
                caption = (entry.get("caption") or short(key).replace("_", " ")) + at
                found.setdefault(key, []).append((entry["file"], caption))
    return found


def _logged_cell(run: PageRun, files: Sequence[tuple[str, str]], media: Media) -> GridCell | None:
    shown = list(dict.fromkeys(_evenly(files)))
    frames = [Frame(name, f"{caption}: {run.label}") for file, caption in shown
              if (name := media.add(run.folder / file)) is not None]  # fmt: skip
    if not frames:
        return None
    is_video = frames[-1].name in media.films
    return GridCell("video", frames[-1:]) if is_video else GridCell("image", frames)


def _evenly(files: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """At most `MAX_FRAMES`, evenly spaced, including the first and the last."""
    if len(files) <= MAX_FRAMES:
        return list(files)
    return [files[round(index * (len(files) - 1) / (MAX_FRAMES - 1))] for index in range(MAX_FRAMES)]
