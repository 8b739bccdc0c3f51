"""Batches of any size: what comes out is what went in, by kernels for sixteen or more."""

from __future__ import annotations

import pytest
import torch

from wplus.core.batching import FEWEST_SHOWN, at_least, in_batches


def test_the_last_row_fills_up():
    rows = torch.arange(6.0).view(3, 2)
    assert at_least(3, rows) is rows
    assert at_least(5, rows).tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]


@pytest.mark.parametrize(
    ("num", "batch_size", "seen"),
    [(3, 64, [16]), (33, 64, [33]), (33, 16, [16, 16, 16]), (40, 7, [16, 16, 16])],
)
def test_no_batch_is_small_and_nothing_is_added(num, batch_size, seen):
    sizes = []

    def function(batch: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(len(batch))
        return [batch * 2, batch[:, 0] + 1]

    rows = torch.randn(num, 2)
    doubled, first = in_batches(function, rows, batch_size)
    assert torch.equal(doubled, rows * 2)
    assert torch.equal(first, rows[:, 0] + 1)
    assert sizes == seen
    assert min(sizes) >= FEWEST_SHOWN
