"""Line charts as inline SVG: sharp at any size, a few kilobytes, in the colours of the page they stand in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

Point = tuple[float, float]
Scale = Callable[[float], float]

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 42
MAX_POINTS = 240


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


def _number(value: float) -> str:
    return f"{value:.6g}"


def _legend(curves: Mapping[str, object]) -> str:
    items = [f'<span class="key key-{index}">{escape(name)}</span>' for index, name in enumerate(curves)]
    return f'<p class="legend">{"".join(items)}</p>' if len(curves) > 1 else ""
