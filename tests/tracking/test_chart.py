"""Line charts: round ticks, honest gaps, coordinates that can be computed by hand."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from wplus.tracking import chart
from wplus.tracking.chart import interval_chart, line_chart, thinned, ticks


def paths(svg: str) -> list[str]:
    return re.findall(r'<path class="line line-\d" d="([^"]*)"', svg)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 20, [0, 5, 10, 15, 20]),
        (-1.7, 1.6, [-2, -1, 0, 1, 2]),
        (0.049, 0.0511, [0.049, 0.0495, 0.05, 0.0505, 0.051, 0.0515]),
        (3, 3, [1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]),
        (0, 0, [-0.5, -0.25, 0, 0.25, 0.5]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, expected):
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    if low != high:
        assert found == pytest.approx(expected)
    assert 3 <= len(found) <= 8


def test_coordinates_follow_the_axes():
    (path,) = paths(line_chart({"loss": [(0, 0), (5, 10), (10, 5)]}, x_label="kimg"))
    left, right = chart.LEFT, chart.WIDTH - chart.RIGHT
    bottom, top = chart.HEIGHT - chart.BOTTOM, chart.TOP
    middle = f"{(left + right) / 2:.1f}"
    assert path == f"M{left}.0 {bottom}.0L{middle} {top}.0L{right}.0 {(bottom + top) / 2:.1f}"


def test_what_is_not_finite_leaves_a_gap():
    (path,) = paths(
        line_chart({"loss": [(0, 0), (1, 1), (2, math.nan), (3, 1), (4, math.inf), (5, 0)]}, x_label="kimg")
    )
    assert re.sub(r"[\d. ]+", "", path) == "MLMM"


def test_nothing_finite_is_no_chart():
    assert line_chart({"loss": [(0, math.nan)]}, x_label="kimg") == ""
    assert line_chart({}, x_label="kimg") == ""


def test_a_single_point_is_a_dot():
    assert paths(line_chart({"loss": [(1.0, 2.0)]}, x_label="kimg"))[0].endswith("h0")


def test_the_result_is_wellformed_and_escaped():
    svg = line_chart({"<a & b>": [(0, 0), (1, 1)], "c": [(0, 1), (1, 0)]}, x_label="k<img>")
    root = ElementTree.fromstring(f"<div>{svg}</div>")
    assert [key.text for key in root.iter("span")] == ["<a & b>", "c"]


def test_thinning_keeps_the_mean_and_bounds_the_size():
    points = [(float(i), float(i % 7)) for i in range(1200)]
    few = thinned(points)
    assert len(few) <= chart.MAX_POINTS
    assert sum(y for _, y in few) / len(few) == pytest.approx(sum(y for _, y in points) / len(points))
    assert few[0] == (2.0, 2.0)
    assert thinned(points[:100]) == points[:100]


def test_a_row_for_each_name_with_its_interval():
    svg = interval_chart({"a": (1.0, (0.0, 2.0)), "b & c": (3.0, None), "lost": (math.nan, None)}, x_label="l2")
    root = ElementTree.fromstring(svg)
    dots = [float(each.get("cx")) for each in root.iter() if each.get("class") == "dot"]
    bars = [(float(each.get("x1")), float(each.get("x2"))) for each in root.iter() if each.get("class") == "bar"]
    left, right = chart.NAME_WIDTH, chart.WIDTH - chart.RIGHT  # 0 and 3 or 4
    assert len(dots) == len(bars) == 2
    assert bars[0] == pytest.approx((left, 2 * dots[0] - left), abs=0.2)
    assert bars[1] == (dots[1], dots[1])
    assert left < dots[0] < dots[1] <= right
    assert "b &amp; c" in svg
    assert "lost" in svg
    assert interval_chart({"a": (math.inf, None)}, x_label="x") == ""
