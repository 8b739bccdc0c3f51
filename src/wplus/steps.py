"""Long work that is made of this project's commands, each of which works by itself and continues where it was."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run_step(command: Sequence[str], root: Path) -> None:
    """Run a script of the folder `root` with this Python: its path, then its arguments; say first which it is.

    A failure ends this process with the same exit status.
    """
    print(f"\n{shlex.join(['python', *command])}", flush=True)
    status = subprocess.run([sys.executable, *command], cwd=root).returncode
    if status:
        sys.exit(status)
