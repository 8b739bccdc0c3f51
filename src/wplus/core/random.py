"""Randomness as a function of a seed and a purpose, independent of batch, order, process and resumption.

    rng            the generator of an image (by name) or of a purpose
    sample_rng     the generator of number `index` of a stream of samples
    step_seed      the seed of torch's global state for one phase of a training step
    seed_torch     sets torch's global seed
    hashes, ...    arrays of numbers by position, for data sets of any length

Each derives its seed in its own way; files and published numbers depend on it, so none may change.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_BLOCK_STEPS = 32  # steps drawn at once: one call per image and block instead of one per image and step
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def rng(seed: int, *words: str) -> torch.Generator:
    """A generator on the CPU whose numbers depend only on the seed and the words."""
    text = "\0".join([str(seed), *words])
    return torch.Generator().manual_seed(int.from_bytes(_digest(text)[:8], "little") % 2**63)


def sample_rng(seed: int, stream: int, index: int) -> torch.Generator:
    """The generator of sample `index` in a numbered stream; streams are disjoint."""
    state = np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def step_seed(*parts: int | str) -> int:
    """A 63-bit seed from integers and names: (seed, rank, images seen, phase), so that a run can resume."""
    return int.from_bytes(_digest(repr(parts))[:8], "little") >> 1


def seed_torch(seed: int) -> None:
    """torch.manual_seed, but without a GPU only for the CPU: otherwise torch formats the whole stack for a deferred
    CUDA initialisation, which takes longer than a step of many small networks."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def name_fraction(name: str) -> float:
    """A number in [0, 1) that depends only on the characters of `name`."""
    return int.from_bytes(_digest(name)[:7], "big") / 2.0**56


def normal(seed: int, names: Sequence[str], purpose: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """Standard normal numbers (len(names), *shape), each row from its own generator."""
    return torch.stack([torch.randn(*shape, generator=rng(seed, name, purpose)) for name in names]).to(device)


class NormalStream:
    """Fresh standard normal numbers (N, *shape) at every call of `next`, each image from its own generator."""

    def __init__(
        self, seed: int, names: Sequence[str], purpose: str, shape: Sequence[int], device: torch.device
    ) -> None:
        self._rngs = [rng(seed, name, purpose) for name in names]
        self._shape, self._device = tuple(shape), device
        self._block: list[Tensor] = []

    def next(self) -> Tensor:
        """The next draw, (N, *shape)."""
        if not self._block:
            draws = [torch.randn(_BLOCK_STEPS, *self._shape, generator=generator) for generator in self._rngs]
            self._block = list(torch.stack(draws, dim=1).to(self._device).unbind())[::-1]
        return self._block.pop()


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
    """A permutation of range(num), int64, that depends only on `key` (and not on the version of NumPy)."""
    return np.argsort(hashes(np.arange(num), *key), kind="stable")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _mix(state: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
