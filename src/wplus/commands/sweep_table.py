"""The actions table and report of `wplus sweep`: what the runs found."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wplus.sweeps.spec import Spec
    from wplus.sweeps.table import SweepTable


def add_actions(actions: Any) -> None:
    """Tell the parser of it."""
    table = actions.add_parser("table", help="means over seeds with intervals, tests against a baseline")
    add = table.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="of sweeps, of runs, or with runs in them")
    add(
        "--where",
        nargs="+",
        default=[],
        metavar="CONDITION",
        help="rows with 'space=w+', 'perceptual>=0.1', 'psnr_db>20'",
    )
    add("--numbers", nargs="+", metavar="NUMBER", help="these columns, and tests of them alone; default: the first few")
    add("--sort", metavar="NUMBER", help="the best first; default: the sweep's objective")
    add("--baseline", help="the configuration to compare with, by its name in the table; default: the sweep's")
    add("--margin", nargs="+", default=[], metavar="[NUMBER=]VALUE",
        help="differences up to this mean nothing: also test that (NUMBER: the objective)")  # fmt: skip
    add("--screen", action="store_true", help="correct by Benjamini and Hochberg, to screen many options")
    add("--across", nargs="+", default=[], metavar="KEY",
        help="keys that tell data sets apart: interquartile mean, probability of improvement")  # fmt: skip
    add("--confirm", type=int, metavar="K", help="run the best K, and the baseline, on fresh seeds: those count")
    add("--slots", default="1", help="for --confirm, as of run")
    add("--output", type=Path, nargs="+", default=[], help="files .md, .csv, .json, .parquet")
    table.set_defaults(action=_table)
    report = actions.add_parser("report", help="one page: the table, figures, curves, pictures and films")
    report.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of sweeps or runs")
    report.add_argument("--output", type=Path, help="the page (default: report.html in the folder; of several, here)")
    report.set_defaults(action=_report)


def _table(options: argparse.Namespace) -> int:
    from wplus.sweeps.groups import NoBaseline
    from wplus.sweeps.members import read_members
    from wplus.sweeps.sections import show
    from wplus.sweeps.state import SWEEP, SweepFolder
    from wplus.sweeps.table import sweep_table
    from wplus.sweeps.where import full_name, having, read_conditions

    specs = [SweepFolder(path).spec for path in options.folders if (path / SWEEP).is_file()]
    members = read_members(options.folders)
    conditions = read_conditions(options.where, members)
    members = having(members, conditions)
    known = list(dict.fromkeys(name for member in members for name in member.numbers()))
    numbers = [full_name(text, known, separator="/", what="The number") for text in options.numbers or ()]
    wanted = options.sort or next((each for spec in specs for each in spec.objectives if each in known), None)
    sort = wanted and full_name(wanted, known, separator="/", what="The number")
    tested = numbers or ([sort] if sort else None)
    asked: dict[str, Any] = {
        "margin": _margins(options.margin, known, sort),
        "tested": tested,
        "across": options.across,
    }
    own = next((spec.baseline for spec in specs if spec.baseline), None)
    try:
        table = sweep_table(members, baseline=options.baseline or own, **asked).only(conditions)
    except NoBaseline as error:
        if options.baseline:
            raise
        table = sweep_table(members, **asked).only(conditions)  # of a part of the sweep, or one of several data sets
        table = replace(table, notes=[*table.notes, str(error)])
    table = table if sort is None else table.sorted_by(sort)
    for path in options.output:
        print(table.write(path))
    show(table, numbers, screen=options.screen)
    return 0 if options.confirm is None else _confirm(table, options)


def _confirm(table: "SweepTable", options: argparse.Namespace) -> int:
    """Run what is to be confirmed, in sweeps below the sweep's folder, and show both."""
    from wplus.errors import UserError
    from wplus.sweeps.confirm import chosen, confirmation, confirming, fresh_seeds
    from wplus.sweeps.members import read_members
    from wplus.sweeps.sections import show, show_section
    from wplus.sweeps.state import SweepFolder
    from wplus.sweeps.table import sweep_table

    if len(options.folders) != 1:
        raise UserError(f"--confirm needs the folder of one sweep, got {len(options.folders)} folders.")
    folder, groups, seeds = options.folders[0], chosen(table, options.confirm), fresh_seeds(table)
    sweep = SweepFolder(folder)
    sweeps = {group: confirming(sweep.spec, sweep.jobs(), table, group, seeds) for group in groups}
    status = 0
    for spec in sweeps.values():
        status = _run(spec, folder / "confirm" / spec.name, options.slots) or status
    if status:
        return status
    if options.slots == "slurm":
        print("Submitted; without --slots the same command shows both when the jobs are done.")
        return 0
    members = read_members([folder / "confirm" / spec.name for spec in sweeps.values()])
    baseline = table.baseline if table.baseline in groups and len(groups) > 1 else None
    margins = table.comparison.margins
    fresh = sweep_table(members, baseline=baseline, margin=margins, tested=[str(table.sort)], keys=table.keys)
    print("\nOn fresh seeds:")
    show(fresh, [str(table.sort)])
    show_section(confirmation(table, fresh))
    return 0


def _run(spec: "Spec", folder: Path, slots: str) -> int:
    """As `wplus sweep run` does."""
    import yaml

    from wplus.__main__ import main
    from wplus.core.files import atomic_write

    path = folder.parent / f"{folder.name}.yaml"
    atomic_write(path, lambda file: file.write(yaml.safe_dump(spec.as_dict(), sort_keys=False).encode()))
    return int(main(["sweep", "run", str(path), "--folder", str(folder), "--slots", slots]))


def _margins(texts: Sequence[str], known: Sequence[str], objective: str | None) -> dict[str, float]:
    """Number -> margin."""
    from wplus.errors import UserError
    from wplus.sweeps.where import full_name

    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            margin = float(value)
        except ValueError:
            raise UserError(f"--margin must be VALUE or NUMBER=VALUE, got '{text}'.") from None
        if not name and objective is None:
            raise UserError(f"--margin {text} must name its number, as NUMBER={value}: there is no objective.")
        found[full_name(name, known, separator="/", what="The number") if name else str(objective)] = margin
    return found


def _report(options: argparse.Namespace) -> None:
    from wplus.report.page import write_report

    print(write_report(options.folders, options.output))
