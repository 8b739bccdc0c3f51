from pathlib import Path

import numpy as np
import pytest

from wplus.data.cache import cache_folder, cached_array
from wplus.errors import UserError

CONTENT = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return CONTENT


def ask(folder: Path, make: Maker, **key: object) -> np.ndarray:
    return cached_array("things", key, make, shape=CONTENT.shape, cache_dir=str(folder))


def test_made_once_per_key(tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        found = ask(tmp_path, make, seed=1)
        assert np.array_equal(found, CONTENT)
    found[0] = 0  # the result can be written to
    assert make.calls == 1
    ask(tmp_path, make, seed=2)
    assert make.calls == 2


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "longer"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    make = Maker()
    ask(tmp_path, make)
    (path,) = tmp_path.glob("things-*.bin")
    whole = path.read_bytes()
    changed = bytes([whole[0] ^ 1]) + whole[1:]
    path.write_bytes({"truncated": whole[:-5], "changed": changed, "empty": b"", "longer": whole + b"x"}[damage])
    with pytest.warns(UserWarning, match="damaged"):
        assert np.array_equal(ask(tmp_path, make), CONTENT)
    assert path.read_bytes() == whole
    assert make.calls == 2


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WPLUS_CACHE", str(tmp_path / "variable"))
    assert cache_folder() == tmp_path / "variable"
    assert cache_folder(str(tmp_path / "key")) == tmp_path / "key"
    monkeypatch.delenv("WPLUS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WPLUS_CACHE", "")
    assert cache_folder("") == tmp_path / ".cache" / "wplus"


def test_a_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="WPLUS_CACHE"):
        ask(tmp_path / "file", Maker())
