from pathlib import Path

import pytest


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a hostile file would create if it ran."""
    return tmp_path / "marker"
