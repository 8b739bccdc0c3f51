"""Charts of a report: matplotlib's SVG, cut down to what stands inside a page, in the page's own colours and type."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Point = tuple[float, float]
Bar = tuple[float, "Sequence[float] | None"]
"""A value with its bounds, where it has any."""

MAX_POINTS = 240  # of a curve
MAX_NAME = 26  # characters beside a row
WIDTH = 4.2  # inches
# What is drawn in these colours comes out in the variables of the page's style sheet, which knows dark from light.
_LINES = ("#2f6db3", "#c8622a", "#3a8f5c", "#8a5bb0", "#a08a1f", "#b0466e")
_INK, _RULE = "#666d78", "#e3e1dc"
_VARIABLES = {_INK: "var(--soft)", _RULE: "var(--rule)", **{c: f"var(--c{i})" for i, c in enumerate(_LINES)}}
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "wplus", "text.parse_math": False, "font.size": 10, "axes.labelcolor": _INK,
}  # fmt: skip


@rc_context(_STYLE)
def line_chart(series: Mapping[str, Sequence[Point]], *, x_label: str) -> str:
    """Curves of (x, y) points with axes and a legend, as SVG; points that are not finite leave a gap.

    More than `MAX_POINTS` points are averaged in groups, which the eye would do anyway. Empty without a finite point.
    """
    curves = {name: thinned(points) for name, points in series.items()}
    if not any(np.isfinite(points[:, 1]).any() for points in curves.values()):
        return ""
    figure, axes = _axes(height=2.7)
    for index, (name, points) in enumerate(curves.items()):
        lonely = np.isfinite(points[:, 1]).sum() == 1
        colour = _LINES[index % len(_LINES)]
        style: dict[str, Any] = {"color": colour, "linewidth": 1.4, "marker": "o" if lonely else "", "markersize": 3}
        axes.plot(*points.T, **style, label=name, gid="line")
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_xlabel(x_label)
    if len(curves) > 1:
        look: dict[str, Any] = {"fontsize": 10, "labelcolor": _INK, "frameon": False, "handlelength": 1.2}
        figure.legend(loc="outside upper left", ncols=2, columnspacing=1, **look)
    return _svg(figure, f"{', '.join(curves)} over {x_label}")


@rc_context(_STYLE)
def interval_chart(bars: Mapping[str, Bar], *, x_label: str) -> str:
    """A row for each name: a dot at its value and a line over its interval; values that are not finite have none."""
    finite = {name: bar for name, bar in bars.items() if math.isfinite(bar[0])}
    if not finite:
        return ""
    figure, axes = _axes(height=0.8 + 0.24 * len(bars))
    for row, name in enumerate(bars):
        if name in finite:
            value, bounds = finite[name]
            if bounds is not None and all(map(math.isfinite, bounds)):
                axes.plot(bounds, [row, row], color=_LINES[0], linewidth=1.6, gid="bar")
            axes.plot([value], [row], color=_LINES[0], marker="o", markersize=4, gid="dot")
    names = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…" for name in bars]
    axes.set_yticks(range(len(bars)), names)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(axis="x", color=_RULE, linewidth=0.8)
    axes.set_xlabel(x_label)
    return _svg(figure, f"{x_label} of {', '.join(bars)}")


def thinned(points: Sequence[Point]) -> np.ndarray:
    """At most `MAX_POINTS` points (N, 2): means of neighbours; a group with a value that is not finite is a gap."""
    values = np.array(points, dtype=np.float64).reshape(-1, 2)
    values[~np.isfinite(values)] = np.nan
    groups = np.array_split(values, min(len(values), MAX_POINTS)) if len(values) else []
    return np.array([group.mean(axis=0) for group in groups]).reshape(-1, 2)


def _axes(*, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, colors=_INK)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure, title: str) -> str:
    """The <svg> element alone, shortened: no metadata, ids, families of type or digits that nobody sees."""
    for artist in figure.findobj():
        artist.set_clip_on(False)
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True)
    text = file.getvalue()
    head = re.search(r'<svg[^>]*(viewBox="[^"]*")[^>]*>', text)
    assert head is not None
    text = text[head.end() :]
    for clutter in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->", r" font-family: [^;\"]*;?",
                    r' transform="rotate\(-?0 [^"]*"', r' id="[\w.]+_\d+"'):  # fmt: skip
        text = re.sub(clutter, "", text, flags=re.S)
    text = re.sub(r' id="(bar|dot|line)"', r' class="\1"', text)
    text = re.sub(r' (d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    names = f'class="chart" role="img" aria-label="{escape(title)}" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {names} {head[1]}>" + re.sub(r"\s+", " ", text).strip()
