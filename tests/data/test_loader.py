import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from wplus.data import Batches, ImageSet, LazyImages
from wplus.errors import UserError


def numbers(images: torch.Tensor) -> list[int]:
    """Which images of the fixture these are, flipped or not."""
    return images[:, 0, 0, 3].tolist()


def take(batches: Batches, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(itertools.islice(batches, count))


def test_every_epoch_sees_every_image_once_and_joins_the_next_without_a_gap(image_set: ImageSet) -> None:
    seen = [number for images, _ in take(Batches(image_set, 8, seed=3), 23) for number in numbers(images)]
    epochs = [seen[start : start + 23] for start in range(0, len(seen), 23)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    assert epochs[0] != list(range(23))


def test_labels_stay_with_their_images(image_set: ImageSet) -> None:
    for images, labels in take(Batches(image_set, 8, mirror="x"), 5):
        assert labels.argmax(1).tolist() == numbers(images)


@pytest.mark.parametrize("start", [0, 8, 16, 184, 4000])
def test_a_restart_at_any_clock_gives_the_same_batches(image_set: ImageSet, start: int) -> None:
    straight = Batches(image_set, 8, seed=1, mirror="x")
    again = Batches(image_set, 8, seed=1, mirror="x", start_nimg=lambda: start)
    for step, (images, labels) in enumerate(take(again, 4)):
        expected = straight.at(start + 8 * step)
        assert torch.equal(images, expected[0])
        assert torch.equal(labels, expected[1])
    if start <= 16:
        assert torch.equal(take(straight, 3)[start // 8][0], take(again, 1)[0][0])


def test_the_clock_is_asked_when_iteration_begins(image_set: ImageSet) -> None:
    clock = [0]
    batches = Batches(image_set, 8, start_nimg=lambda: clock[0])
    first = take(batches, 2)[1]
    clock[0] = 8
    assert torch.equal(take(batches, 1)[0][0], first[0])


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_see_what_one_process_sees(image_set: ImageSet, world_size: int) -> None:
    alone = Batches(image_set, 8, seed=5, mirror="x")
    ranks = [Batches(image_set, 8, seed=5, mirror="x", rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *parts in zip(take(alone, 6), *(take(rank, 6) for rank in ranks), strict=True):
        for index in (0, 1):
            gathered = torch.stack([part[index] for part in parts], dim=1).flatten(0, 1)
            assert torch.equal(gathered, whole[index])


def test_a_batch_larger_than_the_set(image_set: ImageSet) -> None:
    counts = np.bincount(numbers(Batches(image_set, 60).at(0)[0]), minlength=23)
    assert set(counts.tolist()) <= {2, 3}
    assert counts.sum() == 60


def test_mirror(image_set: ImageSet) -> None:
    plain, mirrored = Batches(image_set, 400), Batches(image_set, 400, mirror="x")
    images, flipped = plain.at(0)[0], mirrored.at(0)[0]
    flips = torch.from_numpy(mirrored.flips(np.arange(400)))
    assert torch.equal(flipped[flips], images[flips].flip(3))
    assert torch.equal(flipped[~flips], images[~flips])
    assert 160 < flips.sum() < 240
    other, positions = Batches(image_set, 400, mirror="x", seed=1), np.arange(400)
    assert (mirrored.indices(positions) != other.indices(positions)).any(), "the seed changes the order"
    assert (mirrored.flips(positions) != other.flips(positions)).any(), "and the flips"


def test_lazily_decoded_sets_give_the_same_batches_and_are_decoded_ahead(image_set: ImageSet) -> None:
    decoded: list[int] = []

    def decode(number: int) -> np.ndarray:
        decoded.append(number)
        return image_set.images[number].numpy()

    digests = np.zeros((23, 32), np.uint8)
    lazy = LazyImages(decode, numbers=np.arange(23), image_shape=(3, 8, 8), digests=digests, num_threads=2)
    iterator = iter(Batches(replace(image_set, images=lazy), 8, mirror="x", prefetch=3))
    for images, labels in take(Batches(image_set, 8, mirror="x"), 5):
        lazy_images, lazy_labels = next(iterator)
        assert torch.equal(lazy_images, images)
        assert torch.equal(lazy_labels, labels)
    lazy[0]  # waits for the two threads' queue
    assert len(decoded) >= 5 * 8 + 2 * 8


def test_nonsense_is_refused(image_set: ImageSet) -> None:
    for options in ({"batch_size": 0}, {"batch_size": 9, "world_size": 2}, {"batch_size": 8, "mirror": "y"}):
        with pytest.raises(UserError, match="must be"):
            Batches(image_set, **options)
