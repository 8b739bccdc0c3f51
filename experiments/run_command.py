"""Long work that is made of this project's commands, each of which works by itself and continues where it was."""

import shlex
import subprocess
import sys
from collections.abc import Sequence


def run_command(command: Sequence[str]) -> None:
    """Run `wplus VERB ...` with this Python in the folder that this process is in, and say first what is run.

    A failure ends this process with the same exit status.
    """
    print(f"\n{shlex.join(['wplus', *command])}", flush=True)
    status = subprocess.run([sys.executable, "-m", "wplus", *command]).returncode
    if status:
        sys.exit(status)
