"""The kinds of input that a command accepts."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes import noise, write_folder, write_zip
from wplus.data import ImageSet, build_dataset
from wplus.data.user_images import user_images, user_images_with_masks
from wplus.errors import UserError


def a_set(num: int = 20) -> ImageSet:
    return ImageSet(torch.zeros(num, 3, 8, 8, dtype=torch.uint8), None, [f"cat{i}" for i in range(num)])


def chosen(source, **options):
    return user_images(source, **{"held_out": a_set, "resolution": 8, "channels": 3, **options})


def pictures(folder: Path, *names: str, width: int = 10) -> Path:
    """Files of 10 px height in a folder."""
    return write_folder(folder, dict.fromkeys(names, (width, 10)))


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "in", "b.png", "sub/a.png")


def test_what_is_chosen(folder):
    assert len(chosen("held_out")) == 16
    assert chosen("held_out", num_images=3).names == ["cat0", "cat1", "cat2"]
    assert len(chosen("held_out", num_images=100)) == 20
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
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}
    return write_zip(folder.with_suffix(".zip"), files)


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
    source = {"folder": folder, "zip": zipped(folder).rename(tmp_path / "in.ZIP"), "file": folder / "a.png"}[kind]
    expected = np.asarray(Image.open(folder / "a.png"))[1:9, 9:17].transpose(2, 0, 1)
    assert np.array_equal(chosen(source, boxes=boxes).images[0], expected)


def test_images_without_a_box_are_fitted_and_foreign_boxes_refused(tmp_path):
    folder = pictures(tmp_path / "in", "a.png", "b.png", width=12)
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"a.png": [0, 0, 10, 10], "elsewhere.png": [0, 0, 1, 1]}')
    with pytest.warns(UserWarning, match=r"1 of 2 image.*\(b\.png\)"):
        chosen(folder, boxes=boxes)
    boxes.write_text('{"a.png": [30, 0, 40, 10], "b.png": [0, 0, 10, 10]}')
    with pytest.raises(UserError, match=r"a\.png: .*outside of its 12x10"):
        chosen(folder, boxes=boxes)


def test_bad_input(tmp_path):
    for options in ({"alpha": "keep"}, {"boxes": tmp_path / "boxes.json"}):
        with pytest.raises(UserError, match="input=held_out has no alpha"):
            chosen("held_out", **options)
    with pytest.raises(UserError, match=r"nothing\.png"):
        chosen(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    for place in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(UserError, match=rf"'{place}' must be an image file, .* a pipe or a device"):
            chosen(place)
    with pytest.raises(UserError, match="num_images must be 1 or more, or null, got 0"):
        chosen("held_out", num_images=0)


def with_masks(source: Path, masks: object, **options):
    policies = {"held_out": None, "resolution": 8, "channels": 3, "masks": str(masks)}
    return user_images_with_masks(source, **{**policies, **options})


def sketch(path: Path, columns: int, *, opacity: int = 255) -> None:
    """Green paint on the first columns, nothing elsewhere."""
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)
    pixels[:, :columns] = 0, 200, 0, opacity
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def sketches(tmp_path):
    sketch(tmp_path / "in" / "a.png", 3)
    sketch(tmp_path / "in" / "sub" / "b.png", 5, opacity=100)
    return tmp_path / "in"


@pytest.mark.parametrize("memory_limit_gb", [4.0, 0.0])
def test_alpha_is_the_mask_and_its_colours_are_those_of_the_paint(sketches, memory_limit_gb, monkeypatch):
    monkeypatch.setattr("wplus.data.user_images.build_dataset", partial(build_dataset, memory_limit_gb=memory_limit_gb))
    images, masks = with_masks(sketches, "alpha")
    assert images.names == ["a.png", "sub/b.png"]
    pixels, masks = images.batch(torch.tensor([0, 1]))[0], masks[torch.tensor([0, 1])]
    assert (pixels.shape, masks.shape) == ((2, 3, 8, 8), (2, 1, 8, 8))
    assert masks.dtype == torch.uint8
    assert masks[0, 0, 0].tolist() == [255] * 3 + [0] * 5
    assert masks[1, 0, 0].tolist() == [100] * 5 + [0] * 3
    assert pixels[1, :, 0, 4].tolist() == [0, 200, 0]
    assert pixels[0, :, 0, 5].tolist() == [255, 255, 255]

    one, mask = with_masks(sketches / "a.png", "alpha", channels=1, num_images=1)
    assert one.images.shape == mask.shape == (1, 1, 8, 8)


def test_a_folder_of_masks_of_the_same_names(tmp_path):
    files = {"a": 255, "sub/b": 100, "c": 50}
    write_folder(tmp_path / "in", {f"{name}.png": (12, 8) for name in files})
    greys = {f"{name}.bmp": Image.new("L", (12, 8)) for name in files}
    for picture, white in zip(greys.values(), files.values(), strict=True):
        picture.paste(white, (6, 0, 12, 8))
    write_folder(tmp_path / "masks", greys)
    with pytest.warns(UserWarning, match="not square"):
        images, masks = with_masks(tmp_path / "in", tmp_path / "masks", num_images=3)
    assert images.names == ["a.png", "c.png", "sub/b.png"]
    assert masks[:, 0, 0, -1].tolist() == [255, 50, 100]
    assert (masks[:, 0, :, :4] == 0).all()
    _, padded = with_masks(tmp_path / "in", tmp_path / "masks", fit="pad", resolution=16)
    assert (padded[:, 0, :2] < 8).all()  # beyond the image nothing counts; Lanczos rings a little
    assert padded[0, 0, 8, -1] == 255
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"a.png": [6, 0, 12, 6], "c.png": [0, 0, 12, 8], "sub/b": [6, 0, 12, 6]}')
    _, cut = with_masks(tmp_path / "in", tmp_path / "masks", boxes=boxes)
    assert (cut[0] == 255).all()
    Image.new("L", (12, 8)).save(tmp_path / "masks" / "c.gif")  # of two masks of one stem neither is taken
    with pytest.raises(UserError, match=r"1 image.* no mask in .*masks', the first is 'c\.png'"):
        with_masks(tmp_path / "in", tmp_path / "masks", fit="pad")
    (tmp_path / "masks" / "c.gif").unlink()
    (tmp_path / "masks" / "c.bmp").unlink()
    with pytest.raises(UserError, match=r"1 image.* no mask in .*masks', the first is 'c\.png'"):
        with_masks(tmp_path / "in", tmp_path / "masks", fit="pad")


def test_masks_that_say_nothing_are_refused(tmp_path, sketches):
    noise(8, 8).save(tmp_path / "opaque.png")
    with pytest.raises(UserError, match="masks=alpha has no effect"):
        with_masks(tmp_path / "opaque.png", "alpha")
    sketch(sketches / "empty.png", 0)
    with pytest.raises(UserError, match=r"black: no pixel of 'empty\.png'"):
        with_masks(sketches, "alpha")
    with pytest.raises(UserError, match=r"masks must be none, alpha, or a folder of grey pictures, got 'soft'"):
        with_masks(tmp_path / "opaque.png", "soft")
    assert with_masks(tmp_path / "opaque.png", "none")[1] is None
