"""Randomness belongs to the image."""

from __future__ import annotations

import torch

from wplus.core.random import NormalStream, normal, rng

CPU = torch.device("cpu")


def test_rows_depend_on_seed_name_and_purpose_alone():
    both = normal(1, ["a", "b"], "start", (3,), CPU)
    assert torch.equal(normal(1, ["b"], "start", (3,), CPU)[0], both[1])
    others = [normal(2, ["a"], "start", (3,), CPU), normal(1, ["a"], "noise", (3,), CPU), both[1:]]
    assert not any(torch.equal(other[0], both[0]) for other in others)


def test_a_stream_is_the_same_in_any_batch_and_never_repeats():
    pair, single = NormalStream(0, ["a", "b"], "x", (2,), CPU), NormalStream(0, ["b"], "x", (2,), CPU)
    draws = torch.stack([pair.next() for _ in range(100)])
    assert torch.equal(draws[:, 1], torch.stack([single.next()[0] for _ in range(100)]))
    assert len(draws.flatten().unique()) == draws.numel()
    assert abs(draws.std().item() - 1) < 0.15


def test_words_are_kept_apart():
    assert rng(0, "ab", "c").initial_seed() != rng(0, "a", "bc").initial_seed()
