"""Labels of any source, and the split that a name decides."""

import json

import pytest
import torch

from wplus.data.reader import Reader, check_split, one_hot, read_labels, select
from wplus.errors import UserError

LABELLED = ["cats/2.png", "cats/a/1.png", "dogs/3.png"]


class FakeReader(Reader):
    """Names, and perhaps the content of a dataset.json."""

    def __init__(self, names: list[str] = LABELLED, labels: bytes | None = None) -> None:
        super().__init__("set", "folder", [*names, *([] if labels is None else ["dataset.json"])])
        self.labels = labels

    def read(self, name: str) -> bytes:
        return self.labels


def from_json(labels: object, **more: object) -> tuple:
    return read_labels(FakeReader(labels=json.dumps({"labels": labels, **more}).encode()), "json")


def test_no_labels_and_the_first_sub_folder() -> None:
    assert read_labels(FakeReader(), "none") == (None, None)
    labels, names = read_labels(FakeReader(), "folder")
    assert names == ["cats", "dogs"]
    assert labels.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_class_numbers_become_one_hot_in_the_order_of_the_names() -> None:
    labels, names = from_json([["dogs/3.png", 3], ["cats\\a\\1.png", 0], ["cats/2.png", 1], ["gone.png", 2]])
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert names is None


def test_vectors_stay_and_label_names_widen_the_label() -> None:
    labels, _ = from_json([[name, [0.5, index]] for index, name in enumerate(LABELLED)])
    assert labels.tolist() == [[0.5, 0], [0.5, 1], [0.5, 2]]
    labels, names = from_json([[name, 0] for name in LABELLED], label_names=["tabby", "never seen"])
    assert labels.shape == (3, 2)
    assert names == ["tabby", "never seen"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "not of the form"),
        ([["a.png"]], "not of the form"),
        ([[name, 0] for name in LABELLED[1:]], "no label for 1 image.*cats/2.png"),
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
        read_labels(FakeReader(), "json")
    for content in (b"{", b"[]", b"{}", b"\xff"):
        with pytest.raises(UserError, match="not of the form"):
            read_labels(FakeReader(labels=content), "json")
    with pytest.raises(UserError, match=r"'loose\.png' is in none"):
        read_labels(FakeReader([*LABELLED, "loose.png"]), "folder")
    assert one_hot([1, 0], 3).tolist() == [[0, 1, 0], [1, 0, 0]]


NAMES = [f"{index}.png" for index in range(500)]


def test_splits_are_disjoint_and_complete() -> None:
    train, held_out = select(NAMES, "train", 0.2), select(NAMES, "held_out", 0.2)
    assert sorted([*train, *held_out]) == select(NAMES, "all", 0.2).tolist()
    assert 60 < len(held_out) < 140
    assert [len(select(NAMES, "held_out", share)) for share in (0, 1)] == [0, 500]


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
