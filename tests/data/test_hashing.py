from __future__ import annotations

import numpy as np

from wplus.data.hashing import hashes, name_fraction, permutation, uniforms

MASK = (1 << 64) - 1


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


def test_hashes_are_the_published_mix() -> None:
    positions = np.array([0, 1, 7, 2**40])
    for key in ((), (3,), (3, 5), (-1, 2**63)):
        assert hashes(positions, *key).tolist() == [slow_hash(int(position), *key) for position in positions]


def test_uniforms_are_uniform_and_independent_between_keys() -> None:
    one, other = uniforms(np.arange(20000), 1, 2), uniforms(np.arange(20000), 1, 3)
    assert one.min() >= 0
    assert one.max() < 1
    counts = np.histogram(one, bins=20, range=(0, 1))[0]
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.03


def test_a_position_is_the_same_in_any_company() -> None:
    assert uniforms(np.array([5, 3]), 9)[1] == uniforms(np.arange(10), 9)[3]


def test_permutations_are_complete_and_differ_by_key() -> None:
    one, other = permutation(1000, 0, 1), permutation(1000, 0, 2)
    assert sorted(one) == list(range(1000))
    assert (one == other).sum() < 10


def test_name_fraction_depends_on_every_character() -> None:
    fractions = [name_fraction(f"a/{index}.png") for index in range(4000)]
    assert name_fraction("a/1.png") == fractions[1]
    assert 0.08 < np.mean(np.array(fractions) < 0.1) < 0.12
