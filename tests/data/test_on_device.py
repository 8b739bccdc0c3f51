"""Images that stay on a device: the same batches, each image decoded and sent once, and whether they fit."""

import itertools

import pytest
import torch

from tests.fakes import random_images
from tests.pretended_gpu import GPU, OnGpu, pretended_gpu
from wplus.data import Batches
from wplus.data.domains import DomainBatches, TwoDomains
from wplus.data.image_set import LazyImages
from wplus.data.on_device import place_of

CPU = torch.device("cpu")


def lazy(images, asked: list[int]):
    """The same images, decoded when they are asked for; `asked` is told of each."""

    def decode(number: int):
        asked.append(number)
        return images.images[number].numpy()

    shape = {"image_shape": images.images.shape[1:], "digests": images.digests}
    return LazyImages(decode, numbers=torch.arange(len(images)).numpy(), num_threads=1, **shape)


@pytest.mark.parametrize("is_lazy", [False, True])
def test_batches_are_the_same_and_every_image_is_sent_once(is_lazy):
    asked: list[int] = []
    plain = random_images(10, c_dim=3)
    images = plain if not is_lazy else type(plain)(lazy(plain, asked), plain.labels, plain.names)
    expected = list(itertools.islice(Batches(plain, 4, mirror="x", seed=1), 8))
    with pretended_gpu() as gpu:
        batches = Batches(images, 4, mirror="x", seed=1, device=GPU, place="device")
        found = list(itertools.islice(batches, 8))
        again = batches.at(4)
        assert sum(gpu.waits.values()) == 0
    for (mine, labels), (theirs, its) in zip([*found, again], [*expected, expected[1]], strict=True):
        assert torch.equal(mine.numbers, theirs)
        assert torch.equal(labels, its)
    if is_lazy:
        assert set(asked) == set(range(10))
        assert len(asked) <= 10 + 3 * 4  # what the batches ahead ask for before they know


def test_two_domains_lie_there_too():
    domains = TwoDomains.pairs(random_images(6), random_images(6, channels=1))
    expected = DomainBatches(domains, 2, paired=True).at(0)[0]
    with pretended_gpu():
        images, labels = DomainBatches(domains, 2, paired=True, device=GPU, place="device").at(0)
    assert isinstance(images, OnGpu)
    assert torch.equal(images.numbers, expected)
    assert labels.shape == (2, 0)


def test_a_gpu_fetches_batches_of_the_host_without_the_host(monkeypatch):
    """From pinned memory; for a CPU nothing is pinned."""
    pinned: list[torch.Size] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.shape) or self)
    images = random_images(6, c_dim=3)
    plain = Batches(images, 2).at(0)
    assert not pinned
    found = Batches(images, 2, device="cuda").at(0)
    assert pinned == [torch.Size([2, 3, 8, 8]), torch.Size([2, 3])]
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


@pytest.mark.parametrize(
    ("device", "asked", "free", "place"),
    [(CPU, "device", 0, "host"), (GPU, "auto", 4 * 960, "device"), (GPU, "auto", 4 * 960 - 1, "host"),
     (GPU, "host", 10**9, "host"), (GPU, "device", 0, "device")],
)  # fmt: skip
def test_where_they_lie(monkeypatch, device, asked, free, place):
    """On a GPU where they fill at most a quarter of what is free: five images of 8 px are 960 bytes."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
    assert place_of([random_images(2), random_images(3)], device, asked) == place
