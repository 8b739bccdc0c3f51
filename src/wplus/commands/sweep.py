"""Sweeps: many runs that answer one question, in a folder of their own."""

import argparse
import sys
from collections.abc import Sequence

from wplus.commands import sweep_run, sweep_table, sweep_wandb
from wplus.commands.entry import program
from wplus.errors import OneLineParser, UserError

# Each adds its actions to the parser; their imports are deferred until they run.
ACTIONS = (sweep_run, sweep_table, sweep_wandb)


@program
def sweep(arguments: Sequence[str]) -> int:
    """Run a sweep, show its status, table and report: wplus sweep run|retry|status|table|report|wandb."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    is_more = hasattr(options, "overrides") and not any(each.startswith("-") for each in rest)  # KEY=VALUE after a flag
    if rest and not is_more:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.overrides += rest
    try:
        return int(options.action(options) or 0)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="wplus sweep", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for module in ACTIONS:
        module.add_actions(actions)
    return parser
