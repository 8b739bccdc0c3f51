"""Labels of any source, and the split that a name decides."""

import json

import numpy as np
import pytest
import torch

from wplus.data.reader import check_split, one_hot, read_labels, select
from wplus.errors import UserError

LABELLED = ["cats/a/1.png", "cats/2.png", "dogs/3.png"]


def from_json(labels: object, **more: object) -> tuple:
    return read_labels(LABELLED, "json", json.dumps({"labels": labels, **more}).encode(), "set.zip")


def test_no_labels() -> None:
    assert read_labels(LABELLED, "none", None, "set") == (None, None)


def test_first_sub_folder_is_the_class() -> None:
    labels, names = read_labels(LABELLED, "folder", None, "set")
    assert names == ["cats", "dogs"]
    assert labels.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_class_numbers_become_one_hot_in_the_order_of_the_names() -> None:
    labels, names = from_json([["dogs/3.png", 3], ["cats\\a\\1.png", 0], ["cats/2.png", 1], ["gone.png", 2]])
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert names is None


def test_vectors_stay() -> None:
    labels, _ = from_json([[name, [0.5, index]] for index, name in enumerate(LABELLED)])
    assert labels.tolist() == [[0.5, 0], [0.5, 1], [0.5, 2]]


def test_label_names_can_be_given_and_widen_the_label() -> None:
    labels, names = from_json([[name, 0] for name in LABELLED], label_names=["tabby", "never seen"])
    assert labels.shape == (3, 2)
    assert names == ["tabby", "never seen"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "not of the form"),
        ([["a.png"]], "not of the form"),
        ([[name, 0] for name in LABELLED[1:]], "no label for 1 image.*cats/a/1.png"),
        ([[LABELLED[0], 0], [LABELLED[1], [1.0]], [LABELLED[2], 0]], "class number"),
        ([[name, -1] for name in LABELLED], "class number"),
        ([[name, True] for name in LABELLED], "class number"),
        ([[name, "x"] for name in LABELLED], "class number"),
        ([[name, [0] * (index + 1)] for index, name in enumerate(LABELLED)], "class number"),
    ],
)
def test_bad_label_files(labels: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_json(labels)


def test_missing_or_foreign_label_file_and_loose_images() -> None:
    with pytest.raises(UserError, match=r"needs a file dataset\.json"):
        read_labels(LABELLED, "json", None, "set")
    for content in (b"{", b"[]", b"{}", b"\xff"):
        with pytest.raises(UserError, match="not of the form"):
            read_labels(LABELLED, "json", content, "set")
    with pytest.raises(UserError, match=r"'loose\.png' is in none"):
        read_labels([*LABELLED, "loose.png"], "folder", None, "set")


def test_one_hot() -> None:
    assert one_hot([1, 0], 3).tolist() == [[0, 1, 0], [1, 0, 0]]


NAMES = [f"{index}.png" for index in range(500)]


def test_splits_are_disjoint_and_complete() -> None:
    train, held_out = select(NAMES, "train", 0.2), select(NAMES, "held_out", 0.2)
    assert sorted([*train, *held_out]) == select(NAMES, "all", 0.2).tolist()
    assert 60 < len(held_out) < 140


def test_more_images_or_a_larger_share_move_nothing_back() -> None:
    before = {NAMES[index] for index in select(NAMES, "held_out", 0.2)}
    grown = sorted([*NAMES, *(f"new{index}.png" for index in range(50))])
    after = {grown[index] for index in select(grown, "held_out", 0.2)}
    assert before == after & set(NAMES)
    assert before < {NAMES[index] for index in select(NAMES, "held_out", 0.4)}


@pytest.mark.parametrize(
    ("split", "fraction"), [("test", 0.1), ("train", 1.5), ("train", -0.1), ("all", "x"), ("all", True)]
)
def test_nonsense_is_refused(split: str, fraction: float) -> None:
    with pytest.raises(UserError, match="must be"):
        check_split(split, fraction)


def test_extreme_fractions() -> None:
    assert len(select(NAMES, "held_out", 0)) == 0
    assert np.array_equal(select(NAMES, "held_out", 1), np.arange(500))
