"""Line charts as inline SVG: sharp at any size, a few kilobytes, in the colours of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

Point = tuple[float, float]
Scale = Callable[[float], float]

Bar = tuple[float, "Sequence[float] | None"]
"""A value with its bounds, where it has any."""

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 42
MAX_POINTS = 240
BAR_HEIGHT, NAME_WIDTH, MAX_NAME = 20, 150, 24  # of a row; of the names beside it, in pixels and characters


def line_chart(series: Mapping[str, Sequence[Point]], *, x_label: str) -> str:
    """Curves of (x, y) points, one colour each, with axes and a legend; points that are not finite leave a gap.

    More than `MAX_POINTS` points are averaged in equal groups, which the eye would do anyway. The colours are the CSS
    classes `line-0`, `line-1`, ... of the page.
    """
    curves = {name: thinned(points) for name, points in series.items()}
    finite = [point for points in curves.values() for point in points if math.isfinite(point[1])]
    if not finite:
        return ""
    xs, ys = zip(*finite, strict=True)
    x_ticks, y_ticks = ticks(min(xs), max(xs)), ticks(min(ys), max(ys))
    to_x = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    to_y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [_y_tick(to_y(tick), tick) for tick in y_ticks]
    parts += [_x_tick(to_x(tick), tick) for tick in x_ticks if min(xs) <= tick <= max(xs)]
    parts += [_curve(index, points, to_x, to_y) for index, points in enumerate(curves.values())]
    parts.append(f'<text class="axis" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{escape(x_label)}</text>')
    title = escape(f"{', '.join(curves)} over {x_label}")
    svg = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    return svg + _legend(curves)


def interval_chart(bars: Mapping[str, Bar], *, x_label: str) -> str:
    """A row for each name: a dot at its value and a line over its interval; values that are not finite have none."""
    finite = {name: (value, bounds) for name, (value, bounds) in bars.items() if math.isfinite(value)}
    if not finite:
        return ""
    reached = [x for value, bounds in finite.values() for x in (value, *(bounds or ())) if math.isfinite(x)]
    marks = ticks(min(reached), max(reached), num=3)
    to_x = _scale(marks[0], marks[-1], NAME_WIDTH, WIDTH - RIGHT)
    bottom = TOP + BAR_HEIGHT * len(bars)
    parts = [_x_line(to_x(mark), mark, bottom) for mark in marks]
    for row, name in enumerate(bars):
        y = TOP + BAR_HEIGHT * (row + 0.5)
        shown = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        parts.append(f'<text class="tick y" x="{NAME_WIDTH - 10}" y="{y + 4:.1f}">{escape(shown)}</text>')
        parts.append(_bar(y, *finite[name], to_x) if name in finite else "")
    parts.append(
        f'<text class="axis" x="{(NAME_WIDTH + WIDTH - RIGHT) / 2}" y="{bottom + 34}">{escape(x_label)}</text>'
    )
    title = escape(f"{x_label} of {', '.join(bars)}")
    height = bottom + BOTTOM
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{title}">{"".join(parts)}</svg>'


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MAX_POINTS` points: means of neighbours; a group with a value that is not finite is a gap."""
    size = -(-len(points) // MAX_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def ticks(low: float, high: float, *, num: int = 5) -> list[float]:
    """About `num` round numbers (1, 2, 2.5 or 5 times a power of ten) from at most `low` to at least `high`."""
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
    raw = (high - low) / num
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def _scale(low: float, high: float, start: float, stop: float) -> Scale:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _curve(index: int, points: Sequence[Point], to_x: Scale, to_y: Scale) -> str:
    """One path; a gap begins a new stroke, a point between two gaps is drawn as a dot."""
    path, pen = [], "M"
    for x, y in points:
        if math.isfinite(y):
            path.append(f"{pen}{to_x(x):.1f} {to_y(y):.1f}")
        pen = "L" if math.isfinite(y) else "M"
    dot = f"{path[0]}h0" if len(path) == 1 else ""
    return f'<path class="line line-{index}" d="{dot or "".join(path)}"/>'


def _y_tick(y: float, value: float) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text class="tick y" x="{LEFT - 8}" y="{y + 4:.1f}">{_number(value)}</text>'


def _x_tick(x: float, value: float) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{_number(value)}</text>'


def _x_line(x: float, value: float, bottom: float) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
    return line + f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{_number(value)}</text>'


def _bar(y: float, value: float, bounds: Sequence[float] | None, to_x: Scale) -> str:
    low, high = bounds if bounds and all(map(math.isfinite, bounds)) else (value, value)
    line = f'<line class="bar" x1="{to_x(low):.1f}" x2="{to_x(high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<circle class="dot" cx="{to_x(value):.1f}" cy="{y:.1f}" r="3.6"/>'


def _number(value: float) -> str:
    return f"{value:.6g}"


def _legend(curves: Mapping[str, object]) -> str:
    items = [f'<span class="key key-{index}">{escape(name)}</span>' for index, name in enumerate(curves)]
    return f'<p class="legend">{"".join(items)}</p>' if len(curves) > 1 else ""
