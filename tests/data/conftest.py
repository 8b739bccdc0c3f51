"""A cache shared by the tests of this folder, folders and zips of pictures, and a set of numbered images."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.fakes import write_folder, write_zip
from wplus.data import ImageSet


@pytest.fixture(autouse=True, scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cats' paintings are shrunk once for all tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WPLUS_CACHE", str(folder))
        yield folder


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_folder({"a/1.png": (8, 8)}, labels) -> the folder's path; see `fakes.write_folder`."""
    return partial(write_folder, tmp_path / "images")


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """As make_folder, for a zip; `compression` of the zipfile module."""
    return partial(write_zip, tmp_path / "images.zip")


@pytest.fixture
def image_set() -> ImageSet:
    """23 images of 8 px whose every pixel is the image's number; columns differ, so that a flip shows."""
    images = torch.arange(23, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 3, 8, 8)
    images[:, :, :, 0] = 255
    return ImageSet(images, torch.eye(23), [f"{index}.png" for index in range(23)])
