"""Fixtures for every test: fixed seeds, one thread, no network, W&B offline in a temporary folder."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, and inherited by the commands that tests start: two workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
REPOSITORY = Path(__file__).resolve().parents[1]
# So that the tests of a checkout test that checkout, whatever else is installed.
os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])

import numpy as np
import pytest
import torch

from wplus.core.random import seed_torch


def pytest_configure(config: pytest.Config) -> None:
    """Threads are set once per worker; inside a test torch would already be running with more."""
    torch.set_num_threads(1)


def pytest_sessionfinish() -> None:
    """W&B's service process outlives its runs; unfinished at exit it would be a ResourceWarning."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same random state and leaves the default type as it found it."""
    random.seed(0)
    np.random.seed(0)
    seed_torch(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


@pytest.fixture(autouse=True)
def quiet_surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no network, no caches of the user's: what tests write lands in temporary folders."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__DISABLE_STATS", "true")
    home = tmp_path_factory.getbasetemp() / "home"
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "TORCH_HOME"):
        folder = home / name.lower()
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(folder))


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power: files need not be on the disk itself, and thousands of them would be waited for."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def without_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing those of an inversion takes longer than a few of its steps; inversion/test_report does it."""
    monkeypatch.setattr("wplus.inversion.report.plot_convergence", lambda histories, path: path)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout: entry scripts, configs, README."""
    return REPOSITORY
