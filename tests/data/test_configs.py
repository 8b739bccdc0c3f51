"""Every configs/data/*.yaml builds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from wplus.config import build
from wplus.errors import UserError


def test_all_build_and_an_unknown_key_is_the_users_mistake(
    repository: Path, make_folder: Callable, make_zip: Callable
) -> None:
    files = {f"{index}.png": (8, 8) for index in range(4)}
    own = {
        "folder": {"path": str(make_folder(files))},
        "zip": {"path": str(make_zip(files))},
    }
    for path in (repository / "configs" / "data").glob("*.yaml"):
        node = {**yaml.safe_load(path.read_text()), "resolution": 8, **own.get(path.stem, {"num_images": 4})}
        assert len(build(node, split="all")) == 4
        with pytest.raises(UserError, match="colour"):
            build({**node, "colour": "blue"}, split="all")
