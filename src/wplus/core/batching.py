"""An image has the same bits whatever it shares a batch with (on a CPU; CUDA's kernels promise less).

Kernels choose their order of summation by the size of the batch. Two ways keep that out of the results:

    a least size  From some size on, all sizes round alike: smaller batches are filled up, to `MIN_SHOWN` for networks
                  that look at images, to `MIN_MADE` for generators, whose maps are larger. Enough for a single pass.
    a fixed size  Hundreds of steps of a search amplify any difference: all its batches have `chunk_size` images.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from wplus.errors import UserError

Item = TypeVar("Item")
MIN_SHOWN = 16
"""Images that a network sees at once, or more."""
MIN_MADE = 8
"""Images that a generator makes at once, or more; also the most that a search on a CPU holds, which needs their
gradients."""
MAX_SEARCHED = 64
"""Images that a search on a GPU holds at once, at most."""


def at_least(num: int, rows: Tensor) -> Tensor:
    """Rows (N, ...), the last one repeated until there are `num`."""
    return rows if len(rows) >= num else torch.cat([rows, rows[-1:].expand(num - len(rows), *rows.shape[1:])])


def whole_batches(items: Sequence[Item], batch_size: int) -> list[Sequence[Item]]:
    """Items in batches of `batch_size`, `MIN_SHOWN` or more, the last one repeated until all have `MIN_SHOWN`: what is
    computed of them is to be cut to the number of items."""
    filled = [*items, *[items[-1]] * (-len(items) % MIN_SHOWN)]
    size = -(-max(batch_size, MIN_SHOWN) // MIN_SHOWN) * MIN_SHOWN
    return [filled[first : first + size] for first in range(0, len(filled), size)]


def in_batches(function: Callable[[Tensor], list[Tensor]], rows: Tensor, batch_size: int) -> list[Tensor]:
    """The tensors (N, ...) that `function` makes of rows (N, ...), in batches of `batch_size`, `MIN_SHOWN` or more."""
    batches = rows.split(max(batch_size, MIN_SHOWN))
    parts = [[found[: len(batch)] for found in function(at_least(MIN_SHOWN, batch))] for batch in batches]
    return [torch.cat(maps) for maps in zip(*parts, strict=True)]


def resolve_chunk_size(chunk_size: int | None, resolution: int, device: torch.device) -> int:
    """`chunk_size` of a search; None: as many images as it takes to fill the machine at this resolution, no more.

    On a CPU 128 px in a row; on a GPU, which waits for the host below that, as many pixels as 32 images of 256 px.
    """
    if chunk_size is None and device.type == "cpu":
        return min(MIN_MADE, max(1, 128 // resolution))
    if chunk_size is None:
        return min(MAX_SEARCHED, max(1, 32 * 256**2 // resolution**2))
    if chunk_size < 1:
        raise UserError(f"chunk_size must be 1 or more, or null, got {chunk_size}.")
    return chunk_size


def chunk_rows(num: int, chunk_size: int, device: torch.device) -> list[Tensor]:
    """Row numbers of each chunk, exactly `chunk_size` of them: the last row is repeated where there are no more."""
    firsts = range(0, num, chunk_size)
    return [torch.arange(first, first + chunk_size, device=device).clamp_max(num - 1) for first in firsts]
