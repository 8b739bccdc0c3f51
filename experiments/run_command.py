"""Long work that is made of this project's commands, each of which works by itself and continues where it was."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_command(command: Sequence[str], root: Path = ROOT) -> None:
    """Run `wplus VERB ...` in the folder `root` with this Python, and say first what is run.

    A failure ends this process with the same exit status.
    """
    print(f"\n{shlex.join(['wplus', *command])}", flush=True)
    status = subprocess.run([sys.executable, "-m", "wplus", *command], cwd=root).returncode
    if status:
        sys.exit(status)
