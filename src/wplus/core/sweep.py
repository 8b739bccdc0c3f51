"""The sweep this process takes part in, read from its environment: folder, varied keys, and the label of this run."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from wplus.core.surroundings import environment

FOLDER = "WPLUS_SWEEP"  # folder of the sweep
KEYS = "WPLUS_SWEPT"  # keys that vary between its jobs
LABEL = "WPLUS_SWEEP_LABEL"  # label of this process's job
HERE = "WPLUS_SWEEP_HERE"  # set while the process that runs the sweep runs a job itself
PRUNED = "WPLUS_SWEEP_PRUNED"  # set when that job has been asked to end early, as a search does


def swept() -> list[str]:
    """The keys that differ between the jobs of the sweep."""
    return [key for key in os.environ.get(KEYS, "").split(",") if key]


def sweep_folder() -> Path | None:
    """The folder of the sweep; None outside of a sweep."""
    return Path(os.environ[FOLDER]) if FOLDER in os.environ else None


def label() -> str | None:
    """The label that distinguishes this run from the others, "w+ perceptual=0.1 s1"; None outside of a sweep."""
    return os.environ.get(LABEL)


def runs_here() -> bool:
    """Whether this process runs the jobs of a sweep one after the other."""
    return HERE in os.environ


def is_pruned() -> bool:
    """Whether a search has asked the job running here to end early."""
    return PRUNED in os.environ


@contextlib.contextmanager
def sweep(folder: Path, keys: Sequence[str]) -> Iterator[None]:
    """Within the block, this process and those it starts belong to the sweep in `folder` over `keys`."""
    with environment({FOLDER: str(folder.resolve()), KEYS: ",".join(keys)}):
        yield
