import pickle
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from wplus.data import ImageSet, LazyImages
from wplus.data.image_set import image_digest
from wplus.errors import UserError


class Decode:
    """Row of a stored array, remembering on which threads it was asked."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.threads = images, set()

    def __call__(self, number: int) -> np.ndarray:
        self.threads.add(threading.get_ident())
        return self.images[number]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (10, 3, 8, 8), dtype=np.uint8)


def lazy(pixels: np.ndarray) -> LazyImages:
    digests = np.stack([np.frombuffer(image_digest(image), dtype=np.uint8) for image in pixels])
    given = {"numbers": np.arange(len(pixels)), "image_shape": (3, 8, 8), "digests": digests}
    return LazyImages(Decode(pixels), **given, num_threads=2)


def test_shape_and_batch(image_set: ImageSet) -> None:
    assert (len(image_set), image_set.resolution, image_set.img_channels, image_set.c_dim) == (23, 8, 3, 23)
    images, labels = image_set.batch(torch.tensor([4, 0, 4]))
    assert images[:, 0, 0, 1].tolist() == [4, 0, 4]
    assert labels.argmax(1).tolist() == [4, 0, 4]
    plain = replace(image_set, labels=None)
    assert plain.c_dim == 0
    assert plain.batch(torch.tensor([1, 2]))[1].shape == (2, 0)


def test_lazy_images_index_as_a_tensor_does(pixels: np.ndarray) -> None:
    images, tensor = lazy(pixels), torch.from_numpy(pixels)
    assert images.shape == tensor.shape
    assert len(images) == 10
    for index in (3, -1, slice(2, 9, 3), slice(None), torch.tensor([5, 5, 0]), torch.tensor([[1, 2], [3, 4]])):
        assert torch.equal(images[index], tensor[index])


def test_lazy_images_are_decoded_on_other_threads_and_can_travel(pixels: np.ndarray) -> None:
    images = lazy(pixels)
    images[:]
    assert threading.get_ident() not in images._decode.threads
    assert torch.equal(pickle.loads(pickle.dumps(images))[2], torch.from_numpy(pixels[2]))
    images._decode = lambda number: 1 // 0
    with pytest.raises(ZeroDivisionError):
        images[0]


def test_fingerprint_is_the_same_lazily_and_in_memory(pixels: np.ndarray) -> None:
    names = [str(index) for index in range(10)]
    whole = ImageSet(torch.from_numpy(pixels), None, names)
    assert ImageSet(lazy(pixels), None, names).fingerprint == whole.fingerprint
    rows = torch.tensor([7, 2])
    assert ImageSet(lazy(pixels), None, names).subset(rows).fingerprint == whole.subset(rows).fingerprint
    assert len(whole.fingerprint) == 16


@pytest.mark.parametrize("part", ["images", "labels", "names", "order", "presence"])
def test_fingerprint_notices_every_change(image_set: ImageSet, part: str) -> None:
    images, labels, names = image_set.images.clone(), image_set.labels.clone(), list(image_set.names)
    if part == "images":
        images[3, 1, 2, 5] += 1
    if part == "labels":
        labels[0, 1] = 0.5
    if part == "names":
        names[0] = "other.png"
    if part == "order":
        images, labels, names = images.flip(0), labels.flip(0), names[::-1]
    changed = ImageSet(images, None if part == "presence" else labels, names)
    assert changed.fingerprint != image_set.fingerprint
    assert ImageSet(image_set.images, image_set.labels, image_set.names).fingerprint == image_set.fingerprint


def test_subset_keeps_everything_in_step(image_set: ImageSet) -> None:
    full = replace(image_set, attributes={"number": torch.arange(23)}, label_names=[str(i) for i in range(23)])
    part = full.subset(torch.tensor([9, 1]))
    assert part.names == ["9.png", "1.png"]
    for numbers in (part.images[:, 0, 0, 1], part.attributes["number"], part.labels.argmax(1)):
        assert numbers.tolist() == [9, 1]


def test_describe(image_set: ImageSet) -> None:
    words = replace(image_set, policies={"fit": "crop"}).describe()
    assert words["num_images"] == 23
    assert words["class_counts"] == {str(index): 1 for index in range(23)}
    assert words["fit"] == "crop"
    assert words["fingerprint"] == image_set.fingerprint


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ([[1, 0, 0]] * 20 + [[0, 0, 1]] * 3, [20, 0, 3]),
        ([[1, 1, 0]] * 13 + [[0, 0, 1]] * 10, [13, 13, 10]),
        ([[1, 1, 0]] * 13 + [[0, 0, 0]] * 10, [13, 13, 0]),
        ([[0.5, 0.5, 0]] * 23, None),
        ([[2, 0, 0]] * 23, None),
        ([[-1, 1, 1]] * 23, None),
        (None, None),
    ],
)
def test_class_counts_are_true_or_none(image_set: ImageSet, rows: list | None, counts: list | None) -> None:
    labels = None if rows is None else torch.tensor(rows, dtype=torch.float32)
    found = replace(image_set, labels=labels).describe()["class_counts"]
    assert found == (counts and dict(zip("012", counts, strict=True)))


def test_training_leaves_values_out_and_other_splits_say_so():
    attributes = {"body": torch.tensor([0, 1, 2, 1]), "fur": torch.tensor([0, 0, 1, 1])}
    images = ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), None, list("abcd"), attributes=attributes)
    left = images.without({"body": [1], "fur": [1]}, split="train")
    assert left.names == ["a"]
    assert left.policies == {"subset_of": 4, "without": {"body": [1], "fur": [1]}}
    held_out = images.without({"body": [1]}, split="held_out")
    assert (held_out.names, held_out.policies) == (images.names, {"without": {"body": [1]}})
    assert images.without(None, split="train") is images
    with pytest.raises(UserError, match="without must name attributes of the images, body, fur, got 'eyes'"):
        images.without({"eyes": [1]}, split="train")
    with pytest.raises(UserError, match=r"Without \{'fur': \[0, 1\]\} no training image is left"):
        images.without({"fur": [0, 1]}, split="train")
    with pytest.raises(UserError, match="No training image has body=9, which without leaves out; they have 0, 1, 2"):
        images.without({"body": [1, 9]}, split="train")
    assert len(images.without({"body": [9]}, split="held_out")) == 4  # of few images none may have it


@pytest.mark.parametrize("values", [9, "9", ["nine"], [1.5], None])
def test_values_to_leave_out_are_whole_numbers(values: Any) -> None:
    images = ImageSet(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), None, ["a", "b"], attributes={"fur": torch.arange(2)})
    for split in ("train", "held_out"):
        with pytest.raises(UserError, match=r"without must list whole numbers .* \{fur: \[1\]\}, got"):
            images.without({"fur": values}, split=split)
