"""The actions table and report of `wplus sweep`."""

import argparse
from pathlib import Path
from typing import Any

from wplus.commands.sweep_run import is_folder


def add_actions(actions: Any) -> None:
    """Tell the parser of it."""
    table = actions.add_parser("table", help="means over seeds with intervals, tests against a baseline")
    table.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of sweeps or runs")
    table.add_argument("--numbers", nargs="+", help="these columns; default: all")
    table.add_argument("--sort", help="by this number, the best first; default: the sweep's objective")
    table.add_argument("--baseline", help="the configuration to compare with, by its name in the table")
    table.add_argument("--margin", type=float, help="differences up to this are nothing: also test that")
    table.add_argument("--output", type=Path, nargs="+", default=[], help="files .md, .csv, .json, .parquet")
    table.set_defaults(action=_table)
    report = actions.add_parser("report", help="one page: the table, figures, curves, pictures and films")
    report.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of sweeps or runs")
    report.add_argument("--output", type=Path, help="the page (default: report.html in the folder; of several, here)")
    report.set_defaults(action=_report)


def _table(options: argparse.Namespace) -> None:
    from wplus.sweeps.members import read_members
    from wplus.sweeps.state import SweepFolder
    from wplus.sweeps.table import sweep_table

    specs = [SweepFolder(path).spec for path in options.folders if is_folder(str(path))]
    baseline = options.baseline or next((spec.baseline for spec in specs if spec.baseline), None)
    made = sweep_table(read_members(options.folders), baseline=baseline, margin=options.margin)
    sort = options.sort or next((spec.objective for spec in specs if spec.objective in made.numbers), None)
    made = made if sort is None else made.sorted_by(sort)
    for path in options.output:
        print(made.write(path))
    print(made.markdown(options.numbers))


def _report(options: argparse.Namespace) -> None:
    from wplus.report.page import write_report

    print(write_report(options.folders, options.output))
