"""Labels of any source, and the split determined by a name."""

import json

import pytest
import torch

from wplus.data.reader import Reader, check_split, one_hot, read_labels, select
from wplus.errors import UserError

LABELLED = ["cats/2.png", "cats/a/1.png", "dogs/3.png"]


class FakeReader(Reader):
    """Names, and perhaps the content of a dataset.json."""

    def __init__(self, names: list[str] = LABELLED, labels: bytes | None = None) -> None:
        super().__init__("set", "folder", [(name, name) for name in [*names, *(["dataset.json"] if labels else [])]])
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
    labels, names = from_json(
        [[name, index % 2] for index, name in enumerate(LABELLED)], label_names=["a", "b", "never"]
    )
    assert labels.shape == (3, 3)
    assert names == ["a", "b", "never"]
    vectors = [[LABELLED[0], [0, 1, 1]], *([name, [1, 0, 0]] for name in LABELLED[1:])]
    assert from_json(vectors, label_names=["hat"])[1] == ["hat", "1", "2"]


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
        *[
            ([[name, value] for name in LABELLED], "class number from 0 to 65535")
            for value in (65536, 10**30, [float("nan")], [float("inf"), 1], [10**400], [1e39], [], [True], [[1]])
        ],
    ],
)
def test_bad_label_files(labels: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        from_json(labels)


def test_missing_or_foreign_label_file_and_loose_images() -> None:
    with pytest.raises(UserError, match=r"needs a file dataset\.json"):
        read_labels(FakeReader(), "json")
    for content in (b"{", b"[]", b"{}", b"\xff", b"[" * 100_000):
        with pytest.raises(UserError, match="not of the form"):
            read_labels(FakeReader(labels=content), "json")
    with pytest.raises(UserError, match=r"'loose\.png' is in none"):
        read_labels(FakeReader([*LABELLED, "loose.png"]), "folder")
    with pytest.raises(UserError, match="label_names"):
        from_json([[name, [1, 2]] for name in LABELLED], label_names=["a", "b", "c"])
    assert one_hot([1, 0], 3).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize(
    ("pattern", "numbers", "is_refused"),
    [
        ("{thousand:05d}/img{number:08d}.png", (0, 999, 1000, 2400), True),  # of prepared and NVlabs' zips
        ("set/{thousand:05d}/img{number:08d}.JPG", (0, 1), True),
        ("{thousand:02d}000/{number:05d}.png", (0, 999, 1000, 69999), True),  # of FFHQ
        ("{number:05d}/{number:05d}.png", (1, 2, 3), False),
        ("n{thousand:08d}/{number:08d}.png", (1, 1000), False),
        ("{number}/{number}.png", (0, 1), False),
    ],
)
def test_parts_of_a_prepared_set_are_no_classes(pattern: str, numbers: tuple[int, ...], is_refused: bool) -> None:
    reader = FakeReader([pattern.format(number=number, thousand=number // 1000) for number in numbers])
    if not is_refused:
        return read_labels(reader, "folder") and None
    with pytest.raises(UserError, match=r"parts of a prepared set, not classes: use labels=json.*--labels folder"):
        read_labels(reader, "folder")


def test_one_class_warns() -> None:
    with pytest.warns(UserWarning, match="has the same label, which is uninformative"):
        read_labels(FakeReader(["cats/1.png", "cats/2.png"]), "folder")


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
