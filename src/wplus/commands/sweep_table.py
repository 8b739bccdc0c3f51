"""The actions table and report of `wplus sweep`: the results of the runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wplus.sweeps.answer import Asked
    from wplus.sweeps.spec import Spec
    from wplus.sweeps.table import SweepTable


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions to the parser."""
    table = actions.add_parser("table", help="means over seeds with intervals, tests against a baseline")
    add = table.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="folders of sweeps, of runs, or containing runs")
    add(
        "--where",
        nargs="+",
        default=[],
        metavar="CONDITION",
        help="rows with 'space=w+', 'perceptual>=0.1', 'psnr_db>20'",
    )
    add("--numbers", nargs="+", default=[], metavar="NUMBER",
        help="show and test only these columns; default: the first few")  # fmt: skip
    _add_asked(table)
    add("--screen", action="store_true", help="Benjamini-Hochberg correction, for screening many options")
    add("--confirm", type=int, metavar="K", help="rerun the best K and the baseline on fresh seeds, and report those")
    add("--slots", default="1", help="for --confirm, as for run")
    add("--output", type=Path, nargs="+", default=[], help="files .md, .csv, .json, .parquet")
    table.set_defaults(action=_table)
    report = actions.add_parser("report", help="one page: the table, figures, curves, pictures and videos")
    report.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="folders of sweeps or runs")
    _add_asked(report)
    report.add_argument("--output", type=Path, help="the page (default: report.html in the folder; for several, here)")
    report.set_defaults(action=_report)


def _add_asked(parser: argparse.ArgumentParser) -> None:
    """Add options that default to the sweep's own settings."""
    add = parser.add_argument
    add("--sort", metavar="NUMBER", help="the best first; default: the sweep's objective")
    add("--baseline", help="the configuration to compare with, by its name in the table; default: the sweep's")
    add("--margin", nargs="+", default=[], metavar="[NUMBER=]VALUE",
        help="also test equivalence up to this difference (NUMBER: of the objective)")  # fmt: skip
    add("--across", nargs="+", default=[], metavar="KEY",
        help="keys that distinguish data sets: interquartile mean, probability of improvement")  # fmt: skip


def _asked(options: argparse.Namespace) -> "Asked":
    from wplus.sweeps.answer import Asked

    return Asked(numbers=getattr(options, "numbers", ()), sort=options.sort, baseline=options.baseline,
                 margin=options.margin, across=options.across)  # fmt: skip


def _table(options: argparse.Namespace) -> int:
    from wplus.sweeps.answer import answering_table, number_named
    from wplus.sweeps.confirm import confirmed
    from wplus.sweeps.members import read_members
    from wplus.sweeps.sections import notes, show, show_notes, show_section
    from wplus.sweeps.state import SWEEP, SweepFolder
    from wplus.sweeps.table import checked_ending
    from wplus.sweeps.where import having, read_conditions

    for path in options.output:
        checked_ending(path)  # checked before the work
    sweeps = [path for path in options.folders if (path / SWEEP).is_file()]
    specs = [SweepFolder(path).spec for path in sweeps]
    members = read_members(options.folders)
    conditions = read_conditions(options.where, members)
    table = answering_table(having(members, conditions), specs, _asked(options), conditions)
    confirming = [] if options.confirm is None else _confirming(table, options)  # errors are reported before the work
    for path in options.output:
        print(table.write(path))
    show(table, [number_named(text, table.numbers) for text in options.numbers], screen=options.screen)
    if confirming and (status := _confirm(confirming, options)) is not None:
        return status
    for path in sweeps:
        sections, words = confirmed(path, table)
        for section in sections:
            show_section(section)
        show_notes(word for word in words if word not in notes(table, table.numbers))
    return 0


def _confirming(table: "SweepTable", options: argparse.Namespace) -> "list[Spec]":
    """The sweeps that confirm the best configurations."""
    from wplus.errors import UserError
    from wplus.sweeps.confirm import chosen, confirming, fresh_seeds
    from wplus.sweeps.state import SweepFolder

    if len(options.folders) != 1:
        raise UserError(f"--confirm needs the folder of one sweep, got {len(options.folders)} folders.")
    groups, seeds, sweep = chosen(table, options.confirm), fresh_seeds(table), SweepFolder(options.folders[0])
    return [confirming(sweep.spec, sweep.jobs(), table, group, seeds) for group in groups]


def _confirm(sweeps: "Sequence[Spec]", options: argparse.Namespace) -> int | None:
    """Run the confirmation below the sweep's folder; None if there are results to show."""
    from wplus.sweeps.confirm import FOLDER

    status = 0
    for spec in sweeps:
        status = _run(spec, options.folders[0] / FOLDER / spec.name, options.slots) or status
    if options.slots == "slurm" and not status:
        print("Submitted; once the jobs are done, the same command without --slots shows both.")
        return 0
    return status or None


def _run(spec: "Spec", folder: Path, slots: str) -> int:
    """Run a sweep as `wplus sweep run` does."""
    import yaml

    from wplus.__main__ import main
    from wplus.core.files import atomic_write

    path = folder.parent / f"{folder.name}.yaml"
    atomic_write(path, lambda file: file.write(yaml.safe_dump(spec.as_dict(), sort_keys=False).encode()))
    return int(main(["sweep", "run", str(path), "--folder", str(folder), "--slots", slots]))


def _report(options: argparse.Namespace) -> None:
    from wplus.report.page import write_report

    print(write_report(options.folders, options.output, _asked(options)))
