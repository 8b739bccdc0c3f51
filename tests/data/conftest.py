"""Small image files of every kind, and a cache that the tests of this folder share."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wplus.data import ImageSet


@pytest.fixture(autouse=True, scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cats' paintings are shrunk once for all tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WPLUS_CACHE", str(folder))
        yield folder


def noise(width: int, height: int, *, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of a file with this picture."""
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return file.getvalue()


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """make_folder({"a/1.png": bytes or a size or an image}) -> the folder's path."""

    def make(files: dict[str, object], labels: object = None) -> Path:
        root = tmp_path / "images"
        for seed, (name, content) in enumerate(files.items()):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_content(content, seed))
        if labels is not None:
            (root / "dataset.json").write_text(json.dumps({"labels": labels}))
        return root

    return make


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """As make_folder, for a zip; `compression` of the zipfile module."""

    def make(files: dict[str, object], labels: object = None, compression: int = zipfile.ZIP_STORED) -> Path:
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            for seed, (name, content) in enumerate(files.items()):
                archive.writestr(name, _content(content, seed))
            if labels is not None:
                archive.writestr("dataset.json", json.dumps({"labels": labels}))
        return path

    return make


@pytest.fixture
def image_set() -> ImageSet:
    """23 images of 8 px whose every pixel is the image's number; columns differ, so that a flip shows."""
    images = torch.arange(23, dtype=torch.uint8).reshape(-1, 1, 1, 1).repeat(1, 3, 8, 8)
    images[:, :, :, 0] = 255
    return ImageSet(images, torch.eye(23), [f"{index}.png" for index in range(23)])


def _content(content: object, seed: int) -> bytes:
    if isinstance(content, bytes):
        return content
    return encoded(content if isinstance(content, Image.Image) else noise(*content, seed=seed))
