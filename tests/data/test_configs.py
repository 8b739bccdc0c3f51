"""Every configs/data/*.yaml builds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.fakes import write_folder
from wplus.config import build
from wplus.errors import UserError


def test_all_build_and_an_unknown_key_is_the_users_mistake(
    repository: Path, make_folder: Callable, make_zip: Callable, tmp_path: Path
) -> None:
    files = {f"{index}.png": (8, 8) for index in range(4)}
    pair = {f"{index}_{side}.png": (8, 8) for index in range(4) for side in "ab"}
    of_pairs = write_folder(tmp_path / "pairs", pair)
    own = {
        "cat_domains": {"num_images": 8},
        "pairs": {"path": str(of_pairs), "layout": "suffixes"},
        "unpaired": {"path": str(of_pairs), "path_b": str(of_pairs), "num_images": 4},
        "folder": {"path": str(make_folder(files))},
        "zip": {"path": str(make_zip(files))},
    }
    for path in (repository / "configs" / "data").glob("*.yaml"):
        node = {**yaml.safe_load(path.read_text()), "resolution": 8, **own.get(path.stem, {"num_images": 4})}
        assert len(build(node, split="all")) == 4
        with pytest.raises(UserError, match="colour"):
            build({**node, "colour": "blue"}, split="all")
