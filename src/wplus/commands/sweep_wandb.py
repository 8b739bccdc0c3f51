"""The action wandb of `wplus sweep`: export as a sweep, a workspace or a report of Weights & Biases."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.compose import shown
from wplus.commands.overrides import readable
from wplus.commands.sweep_run import ROOT, is_folder, named_spec
from wplus.errors import UserError

if TYPE_CHECKING:
    from wplus.core.metric_result import Direction
    from wplus.sweeps.spec import Spec, Stage


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action to the parser."""
    wandb = actions.add_parser("wandb", help="the YAML of a W&B sweep; a workspace, a report")
    wandb.add_argument("spec", help="a name in configs/sweep, a YAML file, or the folder of a sweep")
    wandb.add_argument("--method", help="grid, random or bayes; default: the sweep's")
    wandb.add_argument("--output", type=Path, help="write the YAML to this file; default: print it")
    wandb.add_argument("--workspace", action="store_true", help="save a workspace of the sweep's runs instead")
    wandb.add_argument("--report", action="store_true", help="save a report of the sweep's runs instead")
    wandb.add_argument("--page", type=Path, metavar="FILE.md", help="findings to show in the report")
    wandb.add_argument("--dry", action="store_true", help="print workspace and report as JSON: no account is needed")
    wandb.set_defaults(action=_wandb)


def _wandb(options: argparse.Namespace) -> None:
    if options.page is not None and not options.report:
        raise UserError("--page is shown by a report: give --report, too.")
    spec = named_spec(options.spec)
    direction = _direction(spec, Path(options.spec) if is_folder(options.spec) else ROOT / spec.name)
    config = _config(spec.stages[-1])
    tracking = config["tracking"]
    project = os.environ.get("WANDB_PROJECT") or tracking.get("project") or "wplus"
    entity = os.environ.get("WANDB_ENTITY") or tracking.get("entity")
    if options.workspace or options.report:
        _dashboards(options, spec, direction, project=project, entity=entity)
    else:
        _write_yaml(options, spec, direction, project=project, entity=entity)


def _write_yaml(
    options: argparse.Namespace, spec: "Spec", direction: "Direction", *, project: str, entity: str | None
) -> None:
    from wplus.core.files import atomic_write
    from wplus.sweeps.wandb_sweep import as_yaml, wandb_sweep

    content = wandb_sweep(spec, direction=direction, project=project, entity=entity, method=options.method)
    text = as_yaml(content, str(options.output or "FILE"))
    if options.output is None:
        print(text, end="")
        return
    print(atomic_write(options.output, lambda file: file.write(text.encode())))


def _dashboards(
    options: argparse.Namespace, spec: "Spec", direction: "Direction", *, project: str, entity: str | None
) -> None:
    from wplus.sweeps.labels import short_keys
    from wplus.sweeps.wandb_sweep import swept_of

    try:
        from wplus.tracking import wandb_dashboard as dashboard
    except ModuleNotFoundError as error:
        raise UserError(f"W&B's workspaces need {error.name}: pip install 'wplus[dashboards]'.") from error
    if not spec.objectives:
        raise UserError(f"A dashboard shows what decides, and '{spec.name}' has no objective: add one to the sweep.")
    swept = swept_of(spec)
    board = dashboard.Board(
        name=spec.name, question=spec.question, kinds=[_kind(stage) for stage in spec.stages], swept=swept,
        names=short_keys(list(swept)), objective=spec.objectives[0], direction=direction, page=_page(options),
    )  # fmt: skip
    chosen = [build for build, is_asked in
              ((dashboard.workspace, options.workspace), (dashboard.report, options.report)) if is_asked]  # fmt: skip
    for build in chosen:
        if options.dry:
            print(dashboard.as_json(build(board, entity=entity or "ENTITY", project=project)))
        else:
            print(dashboard.saved(build, board, entity=entity, project=project))


def _page(options: argparse.Namespace) -> str:
    """The Markdown to show in a report; "" if none is given."""
    if options.page is None:
        return ""
    try:
        return str(options.page.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--page must be a file of Markdown in UTF-8, got {options.page}: {error}.") from error


def _direction(spec: "Spec", folder: Path) -> "Direction":
    """Which values of the objective are better: as set by the sweep, else as recorded by its runs."""
    if spec.direction is not None or not spec.objectives:
        return spec.direction or "lower"
    from wplus.sweeps.members import infos, read_members

    known, objective = infos(read_members([folder])) if is_folder(str(folder)) else {}, spec.objectives[0]
    if objective not in known or known[objective].direction == "neither":
        raise UserError(
            f"No run of '{spec.name}' has recorded yet which values of {objective} are better: add "
            "direction: lower or direction: higher to the sweep."
        )
    return known[objective].direction


def _kind(stage: "Stage") -> str:
    """The kind of a stage's runs, by which dashboards distinguish them."""
    return "encoder" if stage.verb == "train" and _config(stage).get("encoder") else stage.verb


def _config(stage: "Stage") -> dict[str, Any]:
    """The config of a stage's runs, whose inputs from earlier stages may not exist yet."""
    from wplus.sweeps.spec import OF_STAGE

    return shown(stage.verb, readable([OF_STAGE.sub("x", override) for override in stage.overrides]))
