"""The page's script alone, in node: filters, orders, smoothing, bands, fronts, and its calls of plotly."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import wplus.report
from tests.report.fake_runs import invert_spec, write_sweep
from wplus.report.page import context

FOLDER = Path(wplus.report.__file__).parent
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node, which runs the page's script, is not installed")

# Expression -> its value.
CASES = {
    'formatted(0.123456)': "0.1235",
    'formatted(-12.5, true)': "−12.5",
    'formatted(2, true)': "+2",
    'formatted(1234567)': "1.235e+6",
    'formatted(null)': "–",
    'parsedFilter("space=w+  psnr>=20 Cats")': [
        {"key": "space", "operator": "=", "value": "w+"}, {"key": "psnr", "operator": ">=", "value": "20"},
        {"word": "cats"},
    ],
    # a name as it is, a part of it that is unmistakable, one that is not, one that there is not
    'matchesFilter(parsedFilter("space=w+"), "", {space: "w+"})': True,
    'matchesFilter(parsedFilter("space=w+"), "", {space: "w"})': False,
    'matchesFilter(parsedFilter("weight=1.0"), "", {weight: "1"})': True,
    'matchesFilter(parsedFilter("psnr>20"), "", {psnr_db: 21})': True,
    'matchesFilter(parsedFilter("psnr>20"), "", {psnr_db: 20})': False,
    'matchesFilter(parsedFilter("psnr>=20"), "", {psnr_db: 20})': True,
    'matchesFilter(parsedFilter("psnr<20"), "", {psnr_db: 9})': True,
    'matchesFilter(parsedFilter("psnr!=20"), "", {psnr_db: 9})': True,
    'matchesFilter(parsedFilter("s>1"), "", {s_a: 2, s_b: 2})': False,
    'matchesFilter(parsedFilter("absent>1"), "", {s_a: 2})': False,
    'matchesFilter(parsedFilter("psnr>1"), "", {psnr: null})': False,
    'matchesFilter(parsedFilter("W+ cat"), "a cat in w+", {})': True,
    'matchesFilter(parsedFilter("dog"), "a cat in w+", {})': False,
    'matchesFilter(parsedFilter(""), "", {})': True,
    # what is missing stands last both ways, equal ones keep their order
    'sortedIndices([3, null, 1, 3], true)': [2, 0, 3, 1],
    'sortedIndices([3, null, 1, 3], false)': [0, 3, 2, 1],
    'sortedIndices(["b", "a"], true)': [1, 0],
    # a constant stays one from its first value on: the bias is taken out
    'smoothed([2, 2, 2], 0.9).map((y) => y.toFixed(6))': ["2.000000"] * 3,
    'smoothed([1, null, 3], 0)': [1, None, 3],
    'smoothed([0, 1], 0.5).map((y) => y.toFixed(6))': ["0.000000", "0.666667"],
    'valueAt([0, 2], [0, 4], 1)': 2,
    'valueAt([0, 2], [0, 4], 3)': None,
    'valueAt([0, 1, 2], [0, null, 4], 0.5)': None,
    'valueAt([5], [7], 5)': 7,
    'band([{x: [0, 1, 2], y: [0, 2, 4]}, {x: [0, 2], y: [2, 6]}])': {
        "x": [0, 1, 2], "mean": [1, 3, 5], "low": [0, 2, 4], "high": [2, 4, 6],
    },
    'band([{x: [0, 1, 2], y: [0, 2, 4]}, {x: [1, 2], y: [2, 6]}]).x': [1, 2],
    'paretoFront([[1, 1], [2, 2], [3, 1], [0, 3], [2, 2]], ["higher", "higher"])': [1, 2, 3, 4],
    'paretoFront([[1, 1], [2, 2], [3, 1]], ["lower", "higher"])': [0, 1],
    'paretoFront([[1, 1, 5], [2, 2, 9], [2, 2, null]], ["higher", "higher", "lower"])': [0, 1],
    'pairedDifference([[0, 5], [1, 7], [2, 100]], [[0, 4], [1, 4]])': {"difference": 2, "num": 2},
    'pairedDifference([[3, 5]], [[0, 4]])': None,
    'rankCorrelation([1, 2, 3], [10, 20, 30])': 1,
    'rankCorrelation([1, 2, 3], [3, 2, 1])': -1,
    'rankCorrelation([1, 2, 3, 4], [1, 3, 2, NaN])': 0.5,
    'rankCorrelation([1, 1], [1, 2])': 0,
    'wrapped("space=w+ perceptual=0.1 s1", 17)': ["space=w+", "perceptual=0.1 s1"],
    'wrapped("perceptual=0.1", 6)': ["perce…"],
}  # fmt: skip


def evaluated(expressions: list[str], *, before: str = "") -> list:
    """Evaluate expressions, all in one process."""
    script = f"Object.assign(globalThis, require('{FOLDER}/charts.js'), require('{FOLDER}/numbers.js')); {before}"
    script += f"console.log(JSON.stringify([{','.join(expressions)}]))"
    done = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def values() -> dict:
    return dict(zip(CASES, evaluated(list(CASES)), strict=True))


@pytest.mark.parametrize("expression", CASES)
def test_what_is_computed(values, expression):
    assert values[expression] == CASES[expression]


@pytest.fixture(scope="module")
def block(tmp_path_factory) -> dict:
    folder = write_sweep(tmp_path_factory.mktemp("charts") / "sweep", invert_spec(weights=(0.1, 1.0, 10.0), seeds=2))
    return context([folder])["parts"][0]["block"]["data"]


def test_what_plotly_draws(block):
    view = {
        "rows": [0, 1, 2, 3, 4, 5], "brushable": [0, 1, 2, 3, 4, 5], "number": "invert/psnr_db", "isNarrow": False,
        "colours": {"of": [f"#00000{row}" for row in range(6)]},
        "theme": {"palette": ["#111111", "#222222"], "scale": [[0, "#000000"], [1, "#ffffff"]], "card": "#ffffff"},
    }  # fmt: skip
    before = f"const block = {json.dumps(block)}, view = {json.dumps(view)};"
    score = "['invert/psnr_db', 'invert/prior_distance']"
    keys = [key["label"] for key in block["keys"]]
    weight, space = keys.index("perceptual"), keys.index("space")
    dimensions = f"[{{key: {weight}}}, {{key: {space}}}, {{number: 'invert/psnr_db'}}]"
    dots, axis, heat, parallel, pareto, brushed, nothing, edge = evaluated([
        "dotsFigure(block, view)", f"axisFigure(block, view, {weight})",
        f"heatFigure(block, view, {weight}, {space})",
        f"parallelFigure(block, view, {score}, [null, [0.5, 1.5]])", f"paretoFigure(block, view, {score})",
        f"brushedRows(block, {dimensions}, [null, [0.5, 1.5], [[23, 24.05]]])",
        f"brushedRows(block, {dimensions}, [[5, 6], null, null])",
        f"brushedRows(block, {dimensions}, [null, [0.75, 0.9999999999999999], null])",
    ], before=before)  # fmt: skip
    names = [row["name"] for row in block["rows"]]
    assert dots["layout"]["yaxis"]["ticktext"] == names[::-1]
    assert len(dots["data"][0]["x"]) == 12  # seeds
    assert [round(value, 2) for value in dots["data"][1]["x"]] == [19.05, 20.05, 21.05, 23.05, 24.05, 25.05]
    assert axis["layout"]["xaxis"]["type"] == "log"
    assert axis["layout"]["xaxis"]["tickvals"] == [0.1, 1, 10]
    lines = [trace for trace in axis["data"] if trace["mode"] == "lines+markers"]
    assert [(trace["name"], trace["x"]) for trace in lines] == [("space=w+", [0.1, 1, 10]), ("space=w", [0.1, 1, 10])]
    assert axis["legend"] == [["space=w+", "#111111"], ["space=w", "#222222"]]
    band = next(trace for trace in axis["data"] if trace["name"] == "band")
    assert [round(value, 2) for value in band["y"]] == [23.1, 24.1, 25.1, 25.0, 24.0, 23.0]  # the range of two seeds
    assert [[round(value, 2) for value in row] for row in heat["data"][0]["z"]] == [
        [19.05, 20.05, 21.05], [23.05, 24.05, 25.05]
    ]  # fmt: skip
    labels = [each["label"] for each in parallel["data"][0]["dimensions"]]
    assert labels == [*keys, "psnr_db ↑", "prior_distance ↓"]
    assert parallel["data"][0]["dimensions"][1]["constraintrange"] == [0.5, 1.5]
    assert len(parallel["data"][0]["line"]["color"]) == 12  # runs
    assert sorted(pareto["front"]) == [0, 1, 2, 3, 4, 5]  # closer pictures, further latents
    assert sorted(brushed) == [1, 2]
    assert nothing == []
    assert sorted(edge) == [0, 1, 2]


def test_names_are_no_markup_in_figures(block):
    row = {**block["rows"][0], "name": "<b onclick='x'>&"}
    view = {
        "rows": [0],
        "number": "invert/psnr_db",
        "colours": {"of": ["#000000"]},
        "theme": {"palette": []},
        "isNarrow": True,
    }
    before = f"const block = {json.dumps({**block, 'rows': [row]})}, view = {json.dumps(view)};"
    (figure,) = evaluated(["dotsFigure(block, view)"], before=before)
    assert figure["layout"]["yaxis"]["ticktext"] == ["&lt;b onclick='x'&gt;&amp;"]
    assert "<b " not in json.dumps(figure)
