"""The sweep that this process takes part in: its environment says which, what varies, and what it is called there."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wplus.core.surroundings import environment

FOLDER = "WPLUS_SWEEP"  # of the sweep
KEYS = "WPLUS_SWEPT"  # what varies between its jobs
LABEL = "WPLUS_SWEEP_LABEL"  # of this process's job
HERE = "WPLUS_SWEEP_HERE"  # set while the process that runs the sweep runs a job itself
PRUNED = "WPLUS_SWEEP_PRUNED"  # set when that job has been asked to end early, as a search does


def swept() -> list[str]:
    """The keys that differ between the jobs of the sweep."""
    return [key for key in os.environ.get(KEYS, "").split(",") if key]


def sweep_folder() -> Path | None:
    """None outside of a sweep."""
    return Path(os.environ[FOLDER]) if FOLDER in os.environ else None


def label() -> str | None:
    """What tells this process's run from the others, "w+ perceptual=0.1 s1"; None outside of a sweep."""
    return os.environ.get(LABEL)


def runs_here() -> bool:
    """Whether this process runs the jobs of a sweep one after the other."""
    return HERE in os.environ


def is_pruned() -> bool:
    """Whether the job that runs here ends because a search has seen enough of it."""
    return PRUNED in os.environ


@contextlib.contextmanager
def sweep(folder: Path, keys: Sequence[str]) -> Iterator[None]:
    """For the time of the block this process, and what it starts, works for the sweep in `folder` over `keys`."""
    with environment({FOLDER: str(folder.resolve()), KEYS: ",".join(keys)}):
        yield
