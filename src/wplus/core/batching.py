"""Batching that keeps results bitwise independent of batch composition (on CPUs; CUDA kernels guarantee less).

Kernels choose their order of summation by batch size. Two strategies keep that out of the results:

    a minimum size  From some size on, all sizes round identically: smaller batches are padded, to `MIN_SHOWN` for
                    networks that take images, to `MIN_MADE` for generators, whose maps are larger. Enough for one pass.
    a fixed size    Hundreds of steps of a search amplify any difference: all its batches have `chunk_size` images.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from wplus.errors import UserError

Item = TypeVar("Item")
MIN_SHOWN = 16
"""Minimum batch size of networks that take images."""
MIN_MADE = 8
"""Minimum batch size of generators; also the maximum for searches on a CPU, which need gradients."""
MAX_SEARCHED = 64
"""Maximum batch size of searches on a GPU."""


def at_least(num: int, rows: Tensor) -> Tensor:
    """Pad rows (N, ...) to `num` by repeating the last one."""
    return rows if len(rows) >= num else torch.cat([rows, rows[-1:].expand(num - len(rows), *rows.shape[1:])])


def whole_batches(items: Sequence[Item], batch_size: int) -> list[Sequence[Item]]:
    """Split items into batches of `batch_size`, at least `MIN_SHOWN`; the last item is repeated to fill the last batch
    to `MIN_SHOWN`, so results must be truncated to the number of items."""
    filled = [*items, *[items[-1]] * (-len(items) % MIN_SHOWN)]
    size = -(-max(batch_size, MIN_SHOWN) // MIN_SHOWN) * MIN_SHOWN
    return [filled[first : first + size] for first in range(0, len(filled), size)]


def in_batches(function: Callable[[Tensor], list[Tensor]], rows: Tensor, batch_size: int) -> list[Tensor]:
    """The tensors (N, ...) of `function` applied to rows (N, ...) in batches of `batch_size`, at least `MIN_SHOWN`."""
    batches = rows.split(max(batch_size, MIN_SHOWN))
    parts = [[found[: len(batch)] for found in function(at_least(MIN_SHOWN, batch))] for batch in batches]
    return [torch.cat(maps) for maps in zip(*parts, strict=True)]


def resolve_chunk_size(chunk_size: int | None, resolution: int, device: torch.device) -> int:
    """`chunk_size` of a search; None: just enough images to saturate the device at this resolution.

    On a CPU, images of 128 px in total width; on a GPU, which is host-bound below that, as many pixels as 32 images of
    256 px.
    """
    if chunk_size is None and device.type == "cpu":
        return min(MIN_MADE, max(1, 128 // resolution))
    if chunk_size is None:
        return min(MAX_SEARCHED, max(1, 32 * 256**2 // resolution**2))
    if chunk_size < 1:
        raise UserError(f"chunk_size must be 1 or more, or null, got {chunk_size}.")
    return chunk_size


def chunk_rows(num: int, chunk_size: int, device: torch.device) -> list[Tensor]:
    """Row indices of each chunk, exactly `chunk_size` of them; the last row is repeated to fill the last chunk."""
    firsts = range(0, num, chunk_size)
    return [torch.arange(first, first + chunk_size, device=device).clamp_max(num - 1) for first in firsts]
