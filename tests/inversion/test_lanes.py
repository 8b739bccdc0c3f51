"""Batches of one size."""

from __future__ import annotations

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.lanes import chosen_lanes, default_lanes, now, rows_in_lanes

CPU = torch.device("cpu")


@pytest.mark.parametrize(("num", "rows"), [(1, [[0, 0, 0]]), (3, [[0, 1, 2]]), (4, [[0, 1, 2], [3, 3, 3]])])
def test_every_chunk_is_full(num, rows):
    assert [chunk.tolist() for chunk in rows_in_lanes(num, 3, CPU)] == rows


def test_the_default_falls_with_the_resolution():
    assert [default_lanes(size, CPU) for size in (8, 32, 64, 1024)] == [8, 4, 2, 1]
    assert chosen_lanes(None, 32, CPU) == 4
    assert chosen_lanes(3, 32, CPU) == 3
    with pytest.raises(UserError, match="lanes=0"):
        chosen_lanes(0, 32, CPU)


def test_the_clock_goes_forward():
    assert now(CPU) <= now(CPU)
