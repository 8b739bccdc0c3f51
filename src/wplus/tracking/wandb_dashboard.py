"""Workspaces and reports of sweeps in Weights & Biases, as code: built offline, saved to a server.

Parallel coordinates over what varies, curves with bands over seeds, pictures side by side. Workarounds for W&B: panels
resolve `a.b` of the configuration as nested keys, and parallel coordinates cannot show minima, so both have keys of
their own (`wandb_keys`); panels do not use the runs' axis of curves, so every panel sets it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import wandb
import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from wplus.core.metric_result import Direction
from wplus.errors import UserError
from wplus.tracking.tracker import KIMG
from wplus.tracking.wandb_keys import extreme_key, is_curve, swept_key


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The dashboard content for a command's runs: curves over kimg by panel title, final metrics, pictures."""

    curves: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Sequence[str] = ()
    pictures: Sequence[str] = ()


SEED = "seed"
_COST = {"Speed": ["progress/sec_per_kimg"], "Memory": ["progress/peak_memory_gb"]}
SHOWN = {
    "train": Shown(
        curves={
            "Losses": ["train/generator/loss", "train/discriminator/loss"],
            "Gradients": ["train/generator/grad_norm", "train/discriminator/grad_norm"],
            "Logits": ["train/logits/real", "train/logits/fake"],
            **_COST,
        },
        numbers=["train/kimg"],
        pictures=["samples/fixed_latents"],
    ),
    "encoder": Shown(
        curves={"Losses": ["train/encoder/loss"], "Gradients": ["train/encoder/grad_norm"], **_COST},
        numbers=["train/kimg"],
        pictures=["samples/inversions"],
    ),
    "invert": Shown(
        numbers=["invert/psnr_db", "invert/l2", "invert/prior_distance", "invert/seconds"],
        pictures=["invert/grid", "invert/convergence"],
    ),
    "interpolate": Shown(pictures=["interpolate/filmstrip", "interpolate/distances"]),
    "edit": Shown(pictures=["edit/filmstrip"]),
    "directions": Shown(pictures=["directions/overview"]),
    "translate": Shown(numbers=["translate/change"], pictures=["translate/grid"]),
    "evaluate": Shown(),
}
"""By kind of run; the objective is only known to the sweep."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A sweep as shown on its dashboards.

    Args:
        name: name of the sweep, which is the group of its runs.
        question: the question that it answers, a sentence.
        kinds: kinds of its runs, stage by stage, such as those in `SHOWN`.
        swept: key -> values.
        objective: the metric to optimize, and which of its values are better.
        names: key -> shorter name for panels.
        page: Markdown with findings, shown in reports.
    """

    name: str
    question: str
    kinds: Sequence[str]
    swept: Mapping[str, Sequence[Any]]
    objective: str
    direction: Direction
    names: Mapping[str, str] = field(default_factory=dict)
    page: str = ""

    @property
    def decisive(self) -> str:
        """The objective's key in the summary: the best value for a curve, else the metric itself."""
        return extreme_key(self.objective, self.direction) if is_curve(self.objective) else self.objective

    @property
    def keys(self) -> list[str]:
        """The keys that vary, without the seed."""
        return [key for key in self.swept if key != SEED]


def workspace(board: Board, *, entity: str, project: str) -> ws.Workspace:
    """A workspace with only the sweep's runs, with the varying keys and the objective in pinned columns."""
    columns = [*(f"config:{swept_key(key)}.value" for key in board.swept), f"summary:{board.decisive}"]
    best_first = expr.Ordering(expr.Summary(board.decisive), ascending=board.direction == "lower")
    runs = ws.RunsetSettings(
        filters=expr.And(expr.Metric("Group") == board.name),
        order=[best_first],
        pinned_columns=["run:displayName", *columns],
    )
    sections = [ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections_of(board).items()]
    settings = ws.WorkspaceSettings(x_axis=KIMG if shown_of(board).curves else "Step")
    return ws.Workspace(
        entity=entity, project=project, name=board.name, sections=sections, settings=settings, runset_settings=runs
    )


def report(board: Board, *, entity: str, project: str) -> wr.Report:
    """A report with the question, the findings, and the workspace's panels with a heading for each section."""
    # Without a project, which would be looked up on the server; the report has one.
    runs = wr.Runset(name=board.name, filters=expr.And(expr.Metric("Group") == board.name))
    blocks: list[Any] = [wr.P(text=board.question)] if board.question else []
    blocks += [wr.MarkdownBlock(text=without_files(board.page))] if board.page else []
    for title, panels in sections_of(board).items():
        blocks += [wr.H2(text=title), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(entity=entity, project=project, title=board.name, description=board.question, blocks=blocks)


def without_files(page: str) -> str:
    """Remove references to local files from Markdown: pictures are dropped, links to files become plain text."""
    pictures = re.compile(r"!\[[^\]]*\]\((?!https?:)[^)]*\)")
    links = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")
    return links.sub(r"\1", pictures.sub("", page))


def shown_of(board: Board) -> Shown:
    """The dashboard content for its kinds of runs; nothing for kinds not listed in `SHOWN`."""
    known = [SHOWN.get(kind, Shown()) for kind in dict.fromkeys(board.kinds)]
    return Shown(
        curves={title: names for each in known for title, names in each.curves.items()},
        numbers=[name for each in known for name in each.numbers],
        pictures=[name for each in known for name in each.pictures],
    )


def sections_of(board: Board) -> dict[str, list[Any]]:
    """Title -> panels."""
    shown = shown_of(board)
    curves = [_curve(board, board.objective, [board.objective])] if is_curve(board.objective) else []
    curves += [_curve(board, title, names) for title, names in shown.curves.items()]
    numbers = [_bars(board, name) for name in dict.fromkeys([board.decisive, *shown.numbers])]
    sections: dict[str, list[Any]] = {
        "Answer": [_parallel(board), *_scatter(board), wr.ParameterImportancePlot(with_respect_to=board.decisive)],
        "Curves": curves,
        "Numbers": numbers,
        "Pictures": [wr.MediaBrowser(title=key, media_keys=[key], num_columns=4) for key in shown.pictures],
    }
    return {title: panels for title, panels in sections.items() if panels}


def _parallel(board: Board) -> wr.ParallelCoordinatesPlot:
    """One axis for each varying key, then one for the objective."""
    columns = [
        wr.ParallelCoordinatesPlotColumn(
            metric=wr.Config(swept_key(key)),
            display_name=board.names.get(key, key),
            log=_is_logarithmic(values),
        )
        for key, values in board.swept.items()
    ]
    last = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(board.decisive), display_name=board.decisive)
    return wr.ParallelCoordinatesPlot(columns=[*columns, last], title=f"{board.decisive} by what varies")


def _scatter(board: Board) -> list[wr.ScatterPlot]:
    """The objective over each varying numeric key."""
    return [
        wr.ScatterPlot(
            title=f"{board.decisive} over {board.names.get(key, key)}", x=wr.Config(swept_key(key)),
            y=wr.SummaryMetric(board.decisive), log_x=_is_logarithmic(board.swept[key]),
        )
        for key in board.keys
        if all(_is_number(value) for value in board.swept[key])
    ]  # fmt: skip


def _curve(board: Board, title: str, names: Sequence[str]) -> wr.LinePlot:
    """A curve with mean and standard deviation over seeds if both seeds and other keys vary."""
    has_bands = board.keys and SEED in board.swept
    bands = {**_grouped(board), "groupby_rangefunc": "stddev"} if has_bands else {}
    return wr.LinePlot(title=title, x=KIMG, y=list(names), **bands)


def _bars(board: Board, name: str) -> wr.BarPlot:
    return wr.BarPlot(title=name, metrics=[wr.SummaryMetric(name)], **_grouped(board))


def _grouped(board: Board) -> dict[str, Any]:
    """Options for averaging runs with equal values of the first varying key."""
    return {"groupby": wr.Config(swept_key(board.keys[0])), "groupby_aggfunc": "mean"} if board.keys else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_logarithmic(values: Sequence[Any]) -> bool:
    """Whether values are spaced logarithmically: three or more, all positive, the last step larger than the first."""
    if len(values) < 3 or not all(_is_number(value) and value > 0 for value in values):
        return False
    ordered = sorted(values)
    return ordered[-1] / ordered[0] >= 10 and ordered[-1] - ordered[-2] > 2 * (ordered[1] - ordered[0])


def as_json(built: ws.Workspace | wr.Report) -> str:
    """The content that would be sent to the server."""
    content = json.loads(built._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return json.dumps(content, indent=2)


def saved(build: Callable[..., Any], board: Board, *, entity: str | None, project: str) -> str:
    """Build with `workspace` or `report`, save to the server; returns the URL. UserError without account or server."""
    try:
        built = build(board, entity=entity or wandb.Api().default_entity, project=project)
        built.save()
    except Exception as error:  # the library raises plain Exceptions
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(
            f"Saving needs an account and a server ({reason[0].rstrip('.')}): set WANDB_API_KEY or use wandb login, or "
            "print it with --dry."
        ) from error
    return str(built.url)
