"""A large page."""

from pathlib import Path

import pytest

from tests.report.fake_runs import invert_spec, write_sweep
from wplus.report.page import write_report


@pytest.fixture(scope="session")
def hundred(tmp_path_factory) -> Path:
    """The page of a sweep of a hundred runs, each with incompressible pictures and a large video."""
    spec = invert_spec(weights=[0.01 * 2**power for power in range(10)], seeds=5)
    folder = tmp_path_factory.mktemp("hundred") / "sweep"
    return write_report(write_sweep(folder, spec, images=1, size=112, film=bytes(150_000), noise=True))
