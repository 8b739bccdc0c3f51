"""Workspace and report as code: built without a server; the keys they name are the ones that are logged."""

import json
import re

import pytest

from wplus.errors import UserError
from wplus.tracking import wandb_dashboard as dashboard
from wplus.tracking.wandb_dashboard import Board

BOARD = Board(
    name="spaces", question="Which gamma?", kinds=["train"], objective="val/fd_effnet_lite0", direction="lower",
    swept={"model": ["stylegan2", "r3gan"], "training.hparams.gamma": [0.1, 1.0, 10.0], "seed": [0, 1]},
    names={"training.hparams.gamma": "gamma"},
)  # fmt: skip


def sent(board: Board, build=dashboard.workspace) -> dict:
    return json.loads(dashboard.as_json(build(board, entity="e", project="p")))


def panels(content: dict) -> list[dict]:
    """All panels, at any depth."""
    if isinstance(content, list):
        return [panel for item in content for panel in panels(item)]
    if not isinstance(content, dict):
        return []
    own = [content] if "viewType" in content else []
    return own + [panel for item in content.values() for panel in panels(item)]


def of_kind(content: dict, kind: str) -> list[dict]:
    return [panel["config"] for panel in panels(content) if panel["viewType"] == kind]


def test_parallel_coordinates_have_what_varies_and_the_best_of_the_objective():
    (plot,) = of_kind(sent(BOARD), "Parallel Coordinates Plot")
    assert [(column["accessor"], column["displayName"]) for column in plot["columns"]] == [
        ("config:swept/model.value", "model"),
        ("config:swept/training/hparams/gamma.value", "gamma"),
        ("config:swept/seed.value", "seed"),
        ("summary:val/fd_effnet_lite0_min", "val/fd_effnet_lite0_min"),
    ]
    assert [column.get("log") for column in plot["columns"]] == [False, True, False, None]
    higher = Board(**{**vars(BOARD), "objective": "val/recall_effnet_lite0", "direction": "higher"})
    (plot,) = of_kind(sent(higher), "Parallel Coordinates Plot")
    assert plot["columns"][-1]["accessor"] == "summary:val/recall_effnet_lite0_max"
    inversion = Board(**{**vars(BOARD), "kinds": ["invert"], "objective": "invert/psnr_db", "direction": "higher"})
    (plot,) = of_kind(sent(inversion), "Parallel Coordinates Plot")
    assert plot["columns"][-1]["accessor"] == "summary:invert/psnr_db"


def test_curves_run_over_kimg_with_bands_over_seeds():
    curves = of_kind(sent(BOARD), "Run History Line Plot")
    assert curves[0]["metrics"] == ["val/fd_effnet_lite0"]
    assert {plot["xAxis"] for plot in curves} == {"progress/kimg"}
    assert {plot["groupBy"] for plot in curves} == {"swept/model.value"}
    assert {plot["groupArea"] for plot in curves} == {"stddev"}
    for swept in ({"model": ["stylegan2", "r3gan"]}, {"seed": [0, 1]}):
        alone = Board(**{**vars(BOARD), "swept": swept})
        assert not [plot for plot in of_kind(sent(alone), "Run History Line Plot") if "groupArea" in plot]


def test_the_workspace_shows_the_sweeps_runs_alone_with_pinned_columns():
    section = sent(BOARD)["spec"]["section"]
    (runs,) = section["runSets"]
    text = json.dumps(runs)
    assert '"name": "group"' in text
    assert '"value": "spaces"' in text
    pinned = list(runs["runFeed"]["columnPinned"])
    assert pinned == ["run:displayName", "config:swept/model.value", "config:swept/training/hparams/gamma.value",
                      "config:swept/seed.value", "summary:val/fd_effnet_lite0_min"]  # fmt: skip
    titles = [each["name"] for each in section["panelBankConfig"]["sections"]]
    assert titles == ["Answer", "Curves", "Numbers", "Pictures"]


def test_the_report_has_the_question_and_the_same_panels():
    content = sent(BOARD, dashboard.report)
    assert "Which gamma?" in json.dumps(content)
    kinds = [sorted(panel["viewType"] for panel in panels(each)) for each in (content, sent(BOARD))]
    assert kinds[0] == kinds[1]
    assert '"value": "spaces"' in json.dumps(content)


def test_the_report_shows_what_was_found_without_the_files_beside_it():
    page = (
        "# Found\n\n| w | [5](#five) |\n\n![a picture](grid.png) [the log](../LOG.md), [paper](https://arxiv.org/a_(b))"
    )
    (block,) = [each for each in sent(Board(**{**vars(BOARD), "page": page}), dashboard.report)["spec"]["blocks"]
                if each["type"] == "markdown-block"]  # fmt: skip
    assert block["content"] == "# Found\n\n| w | 5 |\n\n the log, [paper](https://arxiv.org/a_(b))"


def test_every_stage_of_a_sweep_is_shown():
    board = Board(**{**vars(BOARD), "kinds": ["directions", "invert", "invert", "edit"], "objective": "edit/editable"})
    shown = dashboard.shown_of(board)
    assert shown.numbers == dashboard.SHOWN["invert"].numbers
    assert shown.pictures == ["directions/overview", "invert/grid", "invert/convergence", "edit/filmstrip"]


@pytest.mark.parametrize("kind", [*dashboard.SHOWN, "compare"])
def test_every_kind_of_run_has_a_dashboard(kind):
    board = Board(**{**vars(BOARD), "kinds": [kind]})
    shown = dashboard.shown_of(board)
    text = json.dumps(sent(board))
    named = [*(name for names in shown.curves.values() for name in names), *shown.numbers, *shown.pictures]
    assert all(f'"{name}"' in text or f":{name}" in text for name in named)
    assert not re.search(r"config:[^\"]*swept/[^\"]*\.(?!value)", text), "a dot makes W&B look for a part"


def test_saving_without_an_account_is_one_sentence():
    with pytest.raises(UserError, match=r"^Saving needs an account and a server \(.*\): set WANDB_API_KEY"):
        dashboard.saved(dashboard.workspace, BOARD, entity=None, project="p")
