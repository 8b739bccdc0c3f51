"""Batches whose size changes no number: kernels for a few images may round otherwise than those for many."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FEWEST_SHOWN = 16  # images to a net at once


def at_least(num: int, rows: Tensor) -> Tensor:
    """Rows (N, ...), the last one repeated until there are `num`: what a batch is computed by does not depend on N."""
    return rows if len(rows) >= num else torch.cat([rows, rows[-1:].expand(num - len(rows), *rows.shape[1:])])


def in_batches(function: Callable[[Tensor], list[Tensor]], rows: Tensor, batch_size: int) -> list[Tensor]:
    """The tensors (N, ...) that `function` makes of rows (N, ...), in batches of `batch_size`, 16 or more at once."""
    parts = []
    for batch in rows.split(max(batch_size, FEWEST_SHOWN)):
        parts.append([found[: len(batch)] for found in function(at_least(FEWEST_SHOWN, batch))])
    return [torch.cat(maps) for maps in zip(*parts, strict=True)]
