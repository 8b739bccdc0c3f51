"""Randomness at a step is a pure function of (seed, rank, images seen, phase), so a run can resume."""

from __future__ import annotations

import hashlib


def step_seed(*parts: int | str) -> int:
    """A 63-bit seed from any tuple of integers and names, well mixed (SHA-256)."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
