"""Charts as SVG: honest gaps, bounded size, wellformed whatever the names are, nothing that leaks into a page."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from wplus.tracking.charts import MAX_POINTS, interval_chart, line_chart, thinned


def strokes(svg: str, kind: str) -> list[list[list[float]]]:
    """Of every curve, bar or dot its strokes: M x y L x y ... -> numbers."""
    found = re.findall(rf'<g class="{kind}"> <path d="([^"]*)"', svg)
    return [[[float(x) for x in re.findall(r"[\d.]+", stroke)] for stroke in path.split("M")[1:]] for path in found]


def test_coordinates_follow_the_axes():
    ((path,),) = strokes(line_chart({"loss": [(0, 0), (5, 10), (10, 5)]}, x_label="kimg"), "line")
    (left, bottom), (middle, top), (right, half) = np.reshape(path, (3, 2))
    assert middle == pytest.approx((left + right) / 2, abs=0.2)
    assert half == pytest.approx((top + bottom) / 2, abs=0.2)
    assert left < right
    assert top < bottom


def test_what_is_not_finite_leaves_a_gap():
    points = [(0, 0), (1, 1), (2, math.nan), (3, 1), (4, 2), (5, math.inf), (6, 0), (7, 0)]
    (path,) = strokes(line_chart({"loss": points}, x_label="kimg"), "line")
    assert [len(stroke) // 2 for stroke in path] == [2, 2, 2]


def test_nothing_finite_is_no_chart_and_a_single_point_is_a_dot():
    assert line_chart({"loss": [(0, math.nan)]}, x_label="kimg") == line_chart({}, x_label="kimg") == ""
    assert interval_chart({"a": (math.inf, None)}, x_label="x") == ""
    assert line_chart({"loss": [(1.0, 2.0)]}, x_label="kimg").count("<use ") == 1


def test_the_result_is_wellformed_in_the_pages_colours_and_without_strangers():
    names = ["<a & b>", "c_1$x$ "]
    for svg in (
        line_chart({name: [(0, 0), (1, 1)] for name in names}, x_label="k<img>"),
        interval_chart(dict.fromkeys(names, (1.0, (0.5, 2.0))), x_label="k<img>"),
    ):
        texts = [each.text for each in ElementTree.fromstring(svg).iter() if each.tag.endswith("text")]
        assert {name.strip() for name in [*names, "k<img>"]} <= {text.strip() for text in texts}
        assert "var(--c0)" in svg
        assert not re.search(r"#[0-9a-f]{6}[; \"]|<style|<metadata|url\(|font-family", svg)


def test_thinning_keeps_the_mean_and_bounds_the_size():
    points = [(float(i), float(i % 7)) for i in range(1200)]
    few = thinned(points)
    assert few.shape == (MAX_POINTS, 2)
    assert few[:, 1].mean() == pytest.approx(sum(y for _, y in points) / len(points))
    assert few[0].tolist() == [2.0, 2.0]
    assert thinned(points[:100]).tolist() == [list(point) for point in points[:100]]


def test_a_row_for_each_name_with_its_interval():
    bars = {"a": (1.0, (0.0, 2.0)), "b": (3.0, None), "lost": (math.nan, None), "n" * 40: (2.0, (math.nan, 3.0))}
    svg = interval_chart(bars, x_label="l2")
    ((bar,),) = strokes(svg, "bar")
    (first,), (second,), (third,) = strokes(svg, "dot")
    assert first[0] == pytest.approx((bar[0] + bar[2]) / 2, abs=0.2)
    assert second[0] - first[0] == pytest.approx(bar[2] - bar[0], abs=0.3)
    assert second[1] - first[1] == pytest.approx((third[1] - second[1]) / 2, abs=0.2)  # "lost" keeps its row
    assert ">lost<" in svg
    assert f">{'n' * 25}…<" in svg
