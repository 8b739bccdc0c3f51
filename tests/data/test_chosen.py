"""What a command can be pointed at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from wplus.data import ImageSet
from wplus.data.chosen import chosen_images
from wplus.errors import UserError


def a_set(num: int = 20) -> ImageSet:
    return ImageSet(torch.zeros(num, 3, 8, 8, dtype=torch.uint8), None, [f"cat{i}" for i in range(num)])


def chosen(source, **options):
    return chosen_images(source, **{"held_out": a_set, "resolution": 8, "channels": 3, **options})


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "sub/a.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 12, 3), 7, dtype=np.uint8)).save(tmp_path / "in" / name)
    return tmp_path / "in"


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


def test_policies_reach_the_reader(folder):
    with pytest.raises(UserError, match="not square"):
        chosen(folder / "b.png", fit="refuse")
    with pytest.raises(UserError, match="not square"):
        chosen(folder, fit="refuse")


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.png"):
        chosen(tmp_path / "nothing.png")
    with pytest.raises(UserError, match="num_images=0"):
        chosen("held_out", num_images=0)
