"""Every configs/data/*.yaml names a source, sets only keys that it takes, and agrees with its defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_method

from wplus.config import build
from wplus.errors import UserError

NAMES = ("cats", "folder", "zip")
# What a command decides itself: the split, and what only an inversion asks for.
GIVEN = {"split", "alpha", "boxes"}


def load(repository: Path, name: str) -> dict:
    return yaml.safe_load((repository / "configs" / "data" / f"{name}.yaml").read_text())


def test_all_are_listed(repository: Path) -> None:
    assert sorted(path.stem for path in (repository / "configs" / "data").glob("*.yaml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_keys_and_defaults(repository: Path, name: str) -> None:
    node = load(repository, name)
    source = get_method(node.pop("_target_"))
    parameters = inspect.signature(source).parameters
    assert set(node) == set(parameters) - GIVEN
    for key, value in node.items():
        if key not in ("path", "resolution"):
            default = parameters[key].default
            assert value == (list(default) if isinstance(default, tuple) else default), key


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
