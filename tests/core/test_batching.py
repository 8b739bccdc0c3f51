"""Batches of any size: the outputs match the inputs, computed in batches of a minimum or fixed size."""

import pytest
import torch

from wplus.core.batching import MIN_SHOWN, at_least, chunk_rows, in_batches, resolve_chunk_size, whole_batches
from wplus.errors import UserError

CPU = torch.device("cpu")


def test_the_last_row_fills_up():
    rows = torch.arange(6.0).view(3, 2)
    assert at_least(3, rows) is rows
    assert at_least(5, rows).tolist() == [[0, 1], [2, 3], [4, 5], [4, 5], [4, 5]]


@pytest.mark.parametrize(
    ("num", "batch_size", "seen"),
    [(3, 64, [16]), (33, 64, [33]), (33, 16, [16, 16, 16]), (40, 7, [16, 16, 16])],
)
def test_no_batch_is_small_and_nothing_is_added(num, batch_size, seen):
    sizes, rows = [], torch.randn(num, 2)

    def function(batch: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(len(batch))
        return [batch * 2, batch[:, 0] + 1]

    doubled, first = in_batches(function, rows, batch_size)
    assert torch.equal(doubled, rows * 2)
    assert torch.equal(first, rows[:, 0] + 1)
    assert sizes == seen
    assert min(sizes) >= MIN_SHOWN


@pytest.mark.parametrize(("num", "rows"), [(1, [[0, 0, 0]]), (3, [[0, 1, 2]]), (4, [[0, 1, 2], [3, 3, 3]])])
def test_every_chunk_is_full(num, rows):
    assert [chunk.tolist() for chunk in chunk_rows(num, 3, CPU)] == rows


def test_the_default_falls_with_the_resolution():
    assert [resolve_chunk_size(None, size, CPU) for size in (8, 32, 64, 1024)] == [8, 4, 2, 1]
    gpu = torch.device("cuda")
    assert [resolve_chunk_size(None, size, gpu) for size in (8, 128, 256, 512, 1024)] == [64, 64, 32, 8, 2]
    assert resolve_chunk_size(3, 32, CPU) == resolve_chunk_size(3, 32, gpu) == 3
    with pytest.raises(UserError, match="chunk_size must be 1 or more, or null, got 0"):
        resolve_chunk_size(0, 32, CPU)


@pytest.mark.parametrize("num", [1, 16, 20, 50])
@pytest.mark.parametrize("batch_size", [1, 16, 20, 64])
def test_whole_batches_hold_all_items_in_order_and_none_is_small(num, batch_size):
    batches = whole_batches(range(num), batch_size)
    assert [item for batch in batches for item in batch][:num] == list(range(num))
    assert {item for batch in batches for item in batch} == set(range(num))
    assert all(len(batch) % MIN_SHOWN == 0 for batch in batches)
    assert sum(map(len, batches)) - num < MIN_SHOWN
