"""The notebooks run from the first cell to the last in an empty folder, and are committed without outputs."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "experiments" / "notebooks").glob("*.ipynb"))
SHOWN = {"first_steps": 7, "own_images": 4, "reading_a_sweep": 1}  # results that show themselves


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def run_cell(source: str, names: dict[str, object]) -> object:
    """Run a cell like a notebook, returning the value of the last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    values = [run_cell(source, names) for source in cells(path, "code")]
    shown = [value._repr_html_() for value in values if hasattr(value, "_repr_html_")]
    assert len(shown) == SHOWN[path.stem]
    assert all(text.lstrip().startswith("<") for text in shown)
    if path.stem == "reading_a_sweep":
        assert len(names["table"][["space", "inverter.loss_weights.perceptual"]].drop_duplicates()) == 4
        assert {result["status"] for result in names["results"].values()} == {"finished"}
        assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_words_and_no_outputs(path):
    content = json.loads(path.read_text())
    assert content["nbformat"] == 4
    assert all(
        not cell["outputs"] and cell["execution_count"] is None for cell in content["cells"] if "outputs" in cell
    )
    assert cells(path, "markdown")[0].startswith("# ")


def test_there_are_three():
    assert {path.stem for path in NOTEBOOKS} == SHOWN.keys()
