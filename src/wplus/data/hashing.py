"""Counter-based randomness: numbers that depend on nothing but a key and a position, in any order, on any machine."""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hashes(positions: np.ndarray, *key: int) -> np.ndarray:
    """One well-mixed uint64 per integer in `positions`, for the integers of `key` (a seed, a stream number, ...)."""
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = _mix(state + _GOLDEN ^ np.array([part & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    return _mix(_mix(state + _GOLDEN + np.asarray(positions).astype(np.uint64)) + _GOLDEN)


def uniforms(positions: np.ndarray, *key: int) -> np.ndarray:
    """One float64 in [0, 1) per integer in `positions`, as `hashes`."""
    return (hashes(positions, *key) >> np.uint64(11)) * 2.0**-53


def permutation(num: int, *key: int) -> np.ndarray:
    """A permutation of range(num), int64, that depends on `key` alone (not on NumPy's version, as its own would)."""
    return np.argsort(hashes(np.arange(num), *key), kind="stable")


def name_fraction(name: str) -> float:
    """A number in [0, 1) that depends on the characters of `name` alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:7], "big") / 2.0**56


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
