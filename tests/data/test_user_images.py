"""What a command can be pointed at."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.conftest import noise
from wplus.data import ImageSet
from wplus.data.user_images import chosen_images
from wplus.errors import UserError


def a_set(num: int = 20) -> ImageSet:
    return ImageSet(torch.zeros(num, 3, 8, 8, dtype=torch.uint8), None, [f"cat{i}" for i in range(num)])


def chosen(source, **options):
    return chosen_images(source, **{"held_out": a_set, "resolution": 8, "channels": 3, **options})


def pictures(folder: Path, *names: str, width: int = 10) -> Path:
    """Files of 10 px height in a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(width, 10).save(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "in", "b.png", "sub/a.png")


def test_held_out_images_are_limited():
    assert len(chosen("held_out")) == 16
    assert chosen("held_out", num_images=3).names == ["cat0", "cat1", "cat2"]
    assert len(chosen("held_out", num_images=100)) == 20


def test_a_folder_and_a_file(folder):
    assert chosen(folder).names == ["b.png", "sub/a.png"]
    assert chosen(folder, num_images=1).names == ["b.png"]
    one = chosen(folder / "sub" / "a.png", channels=1)
    assert one.names == ["a.png"]
    assert one.images.shape == (1, 1, 8, 8)


def test_policies_reach_the_reader(tmp_path):
    folder = pictures(tmp_path / "in", "b.png", "sub/a.png", width=12)
    with pytest.raises(UserError, match="not square"):
        chosen(folder / "b.png", fit="refuse")
    with pytest.raises(UserError, match="not square"):
        chosen(folder, fit="refuse")
    assert chosen(folder, fit="pad", alpha="keep").images.shape == (2, 4, 8, 8)


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(folder.rglob("*.png")):
            file.write(image, image.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_that_are_cropped_are_named(tmp_path, kind):
    folder = pictures(tmp_path / "in", "square.png")
    pictures(folder, "a.png", "b.png", "c.png", "d.png", width=12)
    source = folder if kind == "folder" else zipped(folder)
    with pytest.warns(UserWarning, match=r"4 of 5 image.* not square .*\(a\.png, b\.png, c\.png, \.\.\.\).*boxes="):
        chosen(source)
    with pytest.warns(UserWarning, match=r"1 of 1 .*\(a\.png\)"):
        chosen(folder / "a.png")
    chosen(folder / "square.png")
    chosen(source, fit="pad")


@pytest.mark.parametrize("kind", ["folder", "zip", "file"])
def test_boxes_align_by_hand(tmp_path, kind):
    folder = pictures(tmp_path / "in", "a.png", width=20)
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"a": [9, 1, 17, 9]}')
    source = {"folder": folder, "zip": zipped(folder), "file": folder / "a.png"}[kind]
    expected = np.asarray(Image.open(folder / "a.png"))[1:9, 9:17].transpose(2, 0, 1)
    assert np.array_equal(chosen(source, boxes=boxes).images[0], expected)


def test_images_without_a_box_are_fitted_and_foreign_boxes_refused(tmp_path):
    folder = pictures(tmp_path / "in", "a.png", "b.png", width=12)
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"a.png": [0, 0, 10, 10], "elsewhere.png": [0, 0, 1, 1]}')
    with pytest.warns(UserWarning, match=r"1 of 2 image.*\(b\.png\)"):
        chosen(folder, boxes=boxes)
    boxes.write_text('{"elsewhere.png": [0, 0, 1, 1]}')
    with pytest.raises(UserError, match=r"None of the 1 box.*elsewhere\.png"):
        chosen(folder, boxes=boxes)
    boxes.write_text('{"a.png": [30, 0, 40, 10], "b.png": [0, 0, 10, 10]}')
    with pytest.raises(UserError, match=r"a\.png: .*outside of its 12x10"):
        chosen(folder, boxes=boxes)


def test_held_out_images_have_neither_opacity_nor_boxes(tmp_path):
    for options in ({"alpha": "keep"}, {"boxes": tmp_path / "boxes.json"}):
        with pytest.raises(UserError, match="input=held_out has no alpha"):
            chosen("held_out", **options)


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.png"):
        chosen(tmp_path / "nothing.png")
    with pytest.raises(UserError, match="num_images=0"):
        chosen("held_out", num_images=0)
