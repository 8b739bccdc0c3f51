"""Curves of runs: scalars over kimg, and the loss terms of inversions over evaluations of the generator."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from wplus.report.runs import PageRun, Part
from wplus.tracking.tracker import KIMG

MAX_POINTS = 240  # points per curve
ALL_POINTS = 200_000  # points per part; with many runs every curve gets fewer
MIN_POINTS = 24
EVALUATIONS = "evaluations of the generator"
_TINY = float(np.finfo(np.float32).tiny)

Points = np.ndarray
"""(N, 2): position on the axis, value."""

# Curves that share a chart in the page of a single run: title -> matching names.
_TOGETHER: dict[str, tuple[str, str | tuple[str, ...]]] = {
    "losses": ("train/", "/loss"),
    "mean logits: the two drift apart when the discriminator wins": ("train/logits/", ("/real", "/fake")),
    "gradient norms": ("train/", "/grad_norm"),
    "penalties": ("train/", "/penalty"),
    "shares of logits above zero, minus the shares below": ("train/logits/", "_sign"),
}
# Charts shown expanded, in this order; others are collapsed.
_FIRST = ("val/", "train/generator/loss", "losses", "mean logits", "loss", "l2", "perceptual", "train/")


def curve_charts(part: Part) -> list[dict[str, Any]]:
    """The charts of a part: title, axis, meaning of each curve, and points of each run, thinned for display.

    With several runs every scalar has its own chart; with a single run, related scalars share one.
    """
    runs = {run.label: _series(run) for run in part.runs}
    names = dict.fromkeys(name for series in runs.values() for name in series)
    num = sum(len(series) for series in runs.values())
    most = int(min(MAX_POINTS, max(MIN_POINTS, ALL_POINTS / max(1, num))))
    charts: dict[str, dict[str, Any]] = {}
    for name in names:
        title = _title(name, is_alone=len(part.runs) == 1)
        lines = [_line(run, name, runs[run.label][name], most) for run in part.runs if name in runs[run.label]]
        lines = [line for line in lines if any(value is not None for value in line["y"])]
        if lines:
            axis = EVALUATIONS if not name.count("/") else "kimg"
            chart = charts.setdefault(title, {"title": title, "axis": axis, "lines": [], "meanings": {}})
            chart["lines"] += lines
            chart["is_log"] = axis == EVALUATIONS
            chart["meanings"] |= _meaning(part.runs, name)
    return sorted(charts.values(), key=lambda chart: _rank(chart["title"]))


def thinned(points: Points, most: int) -> Points:
    """Reduce to at most `most` points by averaging neighbours; groups with non-finite values become gaps."""
    values = np.where(np.isfinite(points), points, np.nan)
    if len(values) <= most:
        return values
    return np.array([group.mean(axis=0) for group in np.array_split(values, most)])


def _series(run: PageRun) -> dict[str, Points]:
    found: dict[str, list[tuple[float, float]]] = {}
    for row in run.rows:
        for name, value in row.items() if KIMG in row else ():
            if name not in (KIMG, "time") and not isinstance(value, Mapping):
                found.setdefault(name, []).append((float(row[KIMG]), float(value)))
    curves = {name: np.array(points) for name, points in found.items()}
    return {**curves, **dict(convergence(run.folder))}


def convergence(folder: Path) -> Iterator[tuple[str, Points]]:
    """Loss term -> its geometric mean over the images of an inversion folder, at each evaluation.

    Reads history/NAME.safetensors, term -> (steps,), as written by `wplus.inversion.folder`; images with fewer
    evaluations keep their last value.
    """
    histories = [history for path in sorted((folder / "history").rglob("*.safetensors"))
                 if (history := _history(path))]  # fmt: skip
    for term in dict.fromkeys(term for history in histories for term in history):
        rows = [history[term] for history in histories if term in history]
        longest = max(map(len, rows))
        if longest > 1:
            filled = np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in rows])
            means = np.exp(np.log(np.maximum(filled, _TINY)).mean(axis=0))
            yield term, np.stack([np.arange(1.0, longest + 1), means], axis=1)


def _history(path: Path) -> dict[str, np.ndarray]:
    try:
        return {term: values.astype(np.float64).ravel() for term, values in load_file(path).items() if values.size}
    except (OSError, SafetensorError):
        return {}


def _line(run: PageRun, name: str, points: Points, most: int) -> dict[str, Any]:
    shown = thinned(points, most)
    return {"run": run.label, "group": run.group, "name": name, "x": _rounded(shown[:, 0]), "y": _rounded(shown[:, 1])}


def _rounded(values: np.ndarray) -> list[float | None]:
    """Round to five significant digits, to limit the page's size."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _title(name: str, *, is_alone: bool) -> str:
    if is_alone:
        for title, (start, end) in _TOGETHER.items():
            if name.startswith(start) and name.endswith(end):
                return title
        if name.startswith("probe/") and name.count("/") > 1:
            return name.rpartition("/")[0]
    return name


def _rank(title: str) -> int:
    return next((place for place, start in enumerate(_FIRST) if title.startswith(start)), len(_FIRST))


def _meaning(runs: Sequence[PageRun], name: str) -> dict[str, str]:
    infos = (run.result.get("info", {}).get(name) for run in runs)
    return next(({name: info["meaning"]} for info in infos if info), {})
