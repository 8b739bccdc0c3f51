"""Fix incomplete process environments: variables that are set but empty, and a missing home folder."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

# Our variables, and those of libraries that would take an empty text for the working directory, or fail to parse it as
# a number. CUDA_VISIBLE_DEVICES is not included: empty means no GPU.
_OURS = re.compile(
    r"(WPLUS|WANDB|XDG|SLURM|HF|TORCH)_\w+|TMPDIR|TEMP|TMP|HOME|USER|LOGNAME|MPLCONFIGDIR|NETRC|HYDRA_FULL_ERROR"
    r"|WORLD_SIZE|RANK|LOCAL_RANK|NODE_RANK|MASTER_ADDR|MASTER_PORT"
)


def settle() -> None:
    """Unset variables that are empty; without a home folder, use a temporary one and print a note."""
    for name in [name for name, value in os.environ.items() if not value.strip() and _OURS.fullmatch(name)]:
        del os.environ[name]
    home = os.path.expanduser("~")
    if not os.path.isdir(home) or (home == "/" and not os.access(home, os.W_OK)):
        os.environ["HOME"] = str(temporary_home())
        os.environ.setdefault("USER", str(os.getuid()))  # libraries ask for a name, and the system knows none
        print(f"There is no home folder: caches go to {temporary_home()}, or where HOME says.", file=sys.stderr)


@contextlib.contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block; they are restored afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def temporary_home() -> Path:
    """A folder for this user in the system's temporary folder, created if missing."""
    folder = Path(tempfile.gettempdir()) / f"wplus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
