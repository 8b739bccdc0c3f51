from __future__ import annotations

import json

import pytest
import torch

from wplus.data.labels import one_hot, read_labels
from wplus.errors import UserError

NAMES = ["cats/a/1.png", "cats/2.png", "dogs/3.png"]


def from_json(labels: object, **more: object) -> tuple:
    return read_labels(NAMES, "json", json.dumps({"labels": labels, **more}).encode(), "set.zip")


def test_no_labels() -> None:
    assert read_labels(NAMES, "none", None, "set") == (None, None)


def test_first_sub_folder_is_the_class() -> None:
    labels, names = read_labels(NAMES, "folder", None, "set")
    assert names == ["cats", "dogs"]
    assert labels.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_class_numbers_become_one_hot_in_the_order_of_the_names() -> None:
    labels, names = from_json([["dogs/3.png", 3], ["cats\\a\\1.png", 0], ["cats/2.png", 1], ["gone.png", 2]])
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert names is None


def test_vectors_stay() -> None:
    labels, _ = from_json([[name, [0.5, index]] for index, name in enumerate(NAMES)])
    assert labels.tolist() == [[0.5, 0], [0.5, 1], [0.5, 2]]


def test_label_names_can_be_given_and_widen_the_label() -> None:
    labels, names = from_json([[name, 0] for name in NAMES], label_names=["tabby", "never seen"])
    assert labels.shape == (3, 2)
    assert names == ["tabby", "never seen"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "not of the form"),
        ([["a.png"]], "not of the form"),
        ([[name, 0] for name in NAMES[1:]], "no label for 1 image.*cats/a/1.png"),
        ([[NAMES[0], 0], [NAMES[1], [1.0]], [NAMES[2], 0]], "class number"),
        ([[name, -1] for name in NAMES], "class number"),
        ([[name, True] for name in NAMES], "class number"),
        ([[name, "x"] for name in NAMES], "class number"),
        ([[name, [0] * (index + 1)] for index, name in enumerate(NAMES)], "class number"),
    ],
)
def test_bad_label_files(labels: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_json(labels)


def test_missing_or_foreign_label_file_and_loose_images() -> None:
    with pytest.raises(UserError, match=r"needs a file dataset\.json"):
        read_labels(NAMES, "json", None, "set")
    for content in (b"{", b"[]", b"{}", b"\xff"):
        with pytest.raises(UserError, match="not of the form"):
            read_labels(NAMES, "json", content, "set")
    with pytest.raises(UserError, match=r"'loose\.png' is in none"):
        read_labels([*NAMES, "loose.png"], "folder", None, "set")


def test_one_hot() -> None:
    assert one_hot([1, 0], 3).tolist() == [[0, 1, 0], [1, 0, 0]]
