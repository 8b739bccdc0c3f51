"""The actions run, retry and status of `wplus sweep`."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import readable, shown
from wplus.config import CONFIG_FOLDER
from wplus.core.claim import digest, question
from wplus.core.sweep import KEYS, swept
from wplus.errors import UserError

if TYPE_CHECKING:
    from wplus.sweeps.spec import Spec

ROOT = Path("runs/sweeps")


def add_actions(actions: Any) -> None:
    """Tell the parser of them."""
    for name, text in (("run", "bring a sweep to its end"), ("retry", "the same, and run what failed again")):
        run = actions.add_parser(name, help=text)
        run.add_argument("spec", help="a name in configs/sweep, a YAML file, or the folder of a sweep")
        run.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for all jobs")
        run.add_argument("--slots", default="1", help="1 (default), cpu:N processes, or gpu:A-B, a job each")
        run.add_argument("--folder", type=Path, help=f"of the sweep (default: {ROOT}/NAME)")
        run.add_argument("--max-failures", type=int, help="stop after so many; default: the others go on")
        run.add_argument("--dry", action="store_true", help="show what would be run, and how long it takes")
        run.set_defaults(action=_run, retry=name == "retry")
    status = actions.add_parser("status", help="the state of every job")
    status.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    status.set_defaults(action=_status)


def _run(options: argparse.Namespace) -> int:
    from wplus.sweeps.launch import Launch, slots_of
    from wplus.sweeps.state import SweepFolder

    slots = slots_of(options.slots)
    spec = named_spec(options.spec)
    if options.overrides:
        stages = [replace(each, overrides=[*each.overrides, *options.overrides]) for each in spec.stages]
        spec = replace(spec, stages=stages)
    folder = SweepFolder(options.folder or (Path(options.spec) if is_folder(options.spec) else ROOT / spec.name))
    os.environ[KEYS] = ",".join(dict.fromkeys(key for job in spec.jobs() for key in job.point))
    launch = Launch(folder, spec, _asked, slots=slots, command=_here, retry=options.retry,
                    max_failures=options.max_failures)  # fmt: skip
    folder.claim(spec, shlex.join(["wplus", "sweep", *sys.argv[2:]]))
    if options.dry:
        print(launch.plan())
        return 0
    return launch.run()


def is_folder(text: str) -> bool:
    """Of a sweep."""
    return (Path(text) / "sweep.json").is_file()


def named_spec(text: str) -> "Spec":
    """By name, by file, or of a sweep that is there."""
    from wplus.sweeps.spec import read_spec
    from wplus.sweeps.state import SweepFolder

    if is_folder(text):
        return SweepFolder(Path(text)).spec
    named = CONFIG_FOLDER / "sweep" / f"{text}.yaml"
    if named.is_file() or Path(text).is_file():
        return read_spec(named if named.is_file() else Path(text))
    known = ", ".join(sorted(path.stem for path in (CONFIG_FOLDER / "sweep").glob("*.yaml")))
    raise UserError(f"A sweep must be one of {known}, a YAML file, or the folder of a sweep; got '{text}'.")


def _asked(verb: str, overrides: Sequence[str]) -> tuple[str, Path]:
    """The digest of what a job asks, and its folder."""
    config = shown(verb, readable(overrides))
    return digest(question(config, also=swept())), Path(config["run_dir"])


def _here(arguments: Sequence[str]) -> int:
    """Run a command in this process; its status, after its words."""
    import traceback

    from wplus.__main__ import main

    try:
        return main(arguments)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1


def _status(options: argparse.Namespace) -> None:
    from wplus.sweeps.state import SweepFolder, counted

    for path in options.folders:
        states = SweepFolder(path).states()
        for state in states.values():
            words = f": {state.error}" if state.error else ""
            print(f"{state.id}  {state.state:<11}  {state.label}  {state.run_dir}{words}")
        print(f"{path}: {counted(states)}")
