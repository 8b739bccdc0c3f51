"""What is drawn depends on the clock alone."""

from __future__ import annotations

import torch

from wplus.training.randomness import step_seed


def test_seeds_are_stable_and_far_apart():
    assert step_seed(0, 0, 64, "generator") == 811146355220238767  # another value would change every run
    seeds = [step_seed(s, rank, nimg, name) for s in (0, 1) for rank in (0, 1) for nimg in (0, 4, 8) for name in "gd"]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(1, 23) != step_seed(12, 3)
    torch.manual_seed(seeds[0])
