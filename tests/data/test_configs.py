"""Every configs/data/*.yaml builds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from wplus.config import build
from wplus.errors import UserError

NAMES = ("cats", "folder", "zip")


def load(repository: Path, name: str) -> dict:
    return yaml.safe_load((repository / "configs" / "data" / f"{name}.yaml").read_text())


def test_all_are_listed(repository: Path) -> None:
    assert sorted(path.stem for path in (repository / "configs" / "data").glob("*.yaml")) == sorted(NAMES)


def test_build(repository: Path, make_folder: Callable, make_zip: Callable) -> None:
    files = {f"{index}.png": (8, 8) for index in range(4)}
    for name, path in (("folder", make_folder(files)), ("zip", make_zip(files))):
        images = build({**load(repository, name), "path": str(path), "resolution": 8}, split="all")
        assert len(images) == 4
    assert len(build({**load(repository, "cats"), "resolution": 8, "num_images": 12}, split="all")) == 12


def test_an_unknown_key_is_the_users_mistake(repository: Path, make_folder: Callable) -> None:
    node = {**load(repository, "folder"), "path": str(make_folder({"1.png": (8, 8)})), "colour": "blue"}
    with pytest.raises(UserError, match="colour"):
        build(node, split="all")
