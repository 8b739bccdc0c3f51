"""Where images count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.conftest import noise
from wplus.data.masks import chosen_with_masks
from wplus.errors import UserError


def chosen(source: Path, masks: object, **options):
    policies = {"held_out": None, "resolution": 8, "channels": 3, "masks": str(masks)}
    return chosen_with_masks(source, **{**policies, **options})


def sketch(path: Path, columns: int, *, opacity: int = 255, size: int = 8) -> None:
    """Green paint on the first columns, nothing elsewhere."""
    pixels = np.zeros((size, size, 4), dtype=np.uint8)
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
    monkeypatch.setattr("wplus.data.user_images.folder_images", _limited(memory_limit_gb))
    images, masks = chosen(sketches, "alpha")
    assert images.names == ["a.png", "sub/b.png"]
    pixels, masks = images.batch(torch.tensor([0, 1]))[0], masks[torch.tensor([0, 1])]
    assert (pixels.shape, masks.shape) == ((2, 3, 8, 8), (2, 1, 8, 8))
    assert masks.dtype == torch.uint8
    assert masks[0, 0, 0].tolist() == [255] * 3 + [0] * 5
    assert masks[1, 0, 0].tolist() == [100] * 5 + [0] * 3
    assert pixels[1, :, 0, 4].tolist() == [0, 200, 0]
    assert pixels[0, :, 0, 5].tolist() == [255, 255, 255]


def _limited(memory_limit_gb: float):
    from wplus.data.sources import folder_images

    return lambda path, **options: folder_images(path, **options, memory_limit_gb=memory_limit_gb)


def test_a_single_grey_sketch(tmp_path):
    sketch(tmp_path / "a.png", 4)
    images, masks = chosen(tmp_path / "a.png", "alpha", channels=1, num_images=1)
    assert images.images.shape == masks.shape == (1, 1, 8, 8)
    assert masks[0, 0, 0].tolist() == [255] * 4 + [0] * 4


def test_a_folder_of_masks_of_the_same_names(tmp_path):
    for name in ("a.png", "sub/b.png", "c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        noise(12, 8).save(tmp_path / "in" / name)
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.zeros((8, 12), dtype=np.uint8)
        grey[:, 6:] = {"a.png": 255, "sub/b.png": 100, "c.png": 50}[name]
        Image.fromarray(grey).save((tmp_path / "masks" / name).with_suffix(".bmp"))
    with pytest.warns(UserWarning, match="not square"):
        images, masks = chosen(tmp_path / "in", tmp_path / "masks", num_images=3)
    assert images.names == ["a.png", "c.png", "sub/b.png"]
    assert masks[:, 0, 0, -1].tolist() == [255, 50, 100]
    assert (masks[:, 0, :, :4] == 0).all()
    _, padded = chosen(tmp_path / "in", tmp_path / "masks", fit="pad", resolution=16)
    assert (padded[:, 0, :2] < 8).all()  # beyond the image nothing counts; Lanczos rings a little
    assert padded[0, 0, 8, -1] == 255
    boxes = tmp_path / "boxes.json"
    boxes.write_text('{"a.png": [6, 0, 12, 6], "c.png": [0, 0, 12, 8], "sub/b": [6, 0, 12, 6]}')
    _, cut = chosen(tmp_path / "in", tmp_path / "masks", boxes=boxes)
    assert (cut[0] == 255).all()
    (tmp_path / "masks" / "c.bmp").unlink()
    with pytest.raises(UserError, match=r"1 image.* no mask in .*masks', the first is 'c\.png'"):
        chosen(tmp_path / "in", tmp_path / "masks", fit="pad")


def test_masks_that_say_nothing_are_refused(tmp_path, sketches):
    noise(8, 8).save(tmp_path / "opaque.png")
    with pytest.raises(UserError, match="masks=alpha has no effect"):
        chosen(tmp_path / "opaque.png", "alpha")
    sketch(sketches / "empty.png", 0)
    with pytest.raises(UserError, match=r"black: nothing of 'empty\.png'"):
        chosen(sketches, "alpha")
    with pytest.raises(UserError, match=r"masks=soft is not allowed: it must be none, alpha, or a folder"):
        chosen(tmp_path / "opaque.png", "soft")
    assert chosen(tmp_path / "opaque.png", "none")[1] is None
