"""Random draws depend only on seed, name, purpose and position."""

import numpy as np
import torch

from wplus.core.random import (
    NormalStream,
    hashes,
    name_fraction,
    normal,
    permutation,
    rng,
    sample_rng,
    seed_torch,
    step_seed,
    uniforms,
)

CPU = torch.device("cpu")
MASK = (1 << 64) - 1


def test_published_seeds_do_not_move():
    """Another value would change every run, search or metric."""
    assert step_seed(0, 0, 64, "generator") == 811146355220238767
    assert rng(123, "prior").initial_seed() == 3006563035203618242
    assert sample_rng(0, 1, 2).initial_seed() == 1535930435702422785
    assert name_fraction("a/1.png") == 0.5241839035952847


def test_seeds_are_far_apart():
    seeds = [step_seed(s, rank, nimg, name) for s in (0, 1) for rank in (0, 1) for nimg in (0, 4, 8) for name in "gd"]
    seeds += [sample_rng(s, stream, index).initial_seed() for s in (0, 1) for stream in (0, 1) for index in (0, 1)]
    seeds += [step_seed(1, 23), step_seed(12, 3), rng(0, "ab", "c").initial_seed(), rng(0, "a", "bc").initial_seed()]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_torch_is_seeded_as_by_its_own_function():
    torch.manual_seed(2**63 - 1)
    expected = torch.rand(9)
    seed_torch(2**63 - 1)
    assert torch.equal(torch.rand(9), expected)


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


def splitmix(state: int) -> int:
    """The published finaliser in plain integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def slow_hash(position: int, *key: int) -> int:
    state = 0
    for part in key:
        state = splitmix(((state + 0x9E3779B97F4A7C15) & MASK) ^ (part & MASK))
    inner = splitmix((state + 0x9E3779B97F4A7C15 + position) & MASK)
    return splitmix((inner + 0x9E3779B97F4A7C15) & MASK)


def test_hashes_are_the_published_mix():
    positions = np.array([0, 1, 7, 2**40])
    for key in ((), (3,), (3, 5), (-1, 2**63)):
        assert hashes(positions, *key).tolist() == [slow_hash(int(position), *key) for position in positions]


def test_uniforms_are_uniform_and_independent_between_keys():
    one, other = uniforms(np.arange(20000), 1, 2), uniforms(np.arange(20000), 1, 3)
    assert one.min() >= 0
    assert one.max() < 1
    counts = np.histogram(one, bins=20, range=(0, 1))[0]
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.03
    assert uniforms(np.array([5, 3]), 1, 2).tolist() == one[[5, 3]].tolist()


def test_permutations_are_complete_and_differ_by_key():
    one, other = permutation(1000, 0, 1), permutation(1000, 0, 2)
    assert sorted(one) == list(range(1000))
    assert (one == other).sum() < 10


def test_name_fraction_depends_on_every_character():
    fractions = [name_fraction(f"a/{index}.png") for index in range(4000)]
    assert 0.08 < np.mean(np.array(fractions) < 0.1) < 0.12
