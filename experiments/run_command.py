"""Run long jobs as a series of this project's commands, each of which resumes where it stopped."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wplus.errors import UserError
from wplus.sweeps.spec import Job
from wplus.sweeps.state import SweepFolder


def run_command(command: Sequence[str]) -> None:
    """Print `wplus VERB ...` and run it with this Python in the current folder.

    If it fails, this process exits with the same status.
    """
    print(f"\n{shlex.join(['wplus', *command])}", flush=True)
    status = subprocess.run([sys.executable, "-m", "wplus", *command]).returncode
    if status:
        sys.exit(status)


def run_script(main: Callable[[], None]) -> None:
    """Run `main()`; a UserError becomes one sentence and exit status 1, as in the commands."""
    try:
        main()
    except UserError as error:
        sys.exit(str(error))


def finished(folder: Path) -> Iterator[tuple[Job, Path]]:
    """Yield the finished jobs of the sweep in `folder` with their run folders; UserError if it is not a sweep."""
    sweep = SweepFolder(folder)
    states = sweep.states()
    for job in sweep.jobs():
        if states[job.id].state == "done":
            yield job, Path(states[job.id].run_dir)
