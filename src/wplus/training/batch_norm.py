"""Batch normalisation over a whole step: every process has the same running statistics, and none that is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wplus.core.distributed import mean_over_ranks


def running_statistics(networks: Iterable[nn.Module]) -> list[Tensor]:
    """Running means and variances (channels,) of the networks."""
    norms = [module for network in networks for module in network.modules() if isinstance(module, _BatchNorm)]
    return [buffer for norm in norms if norm.track_running_stats for buffer in (norm.running_mean, norm.running_var)]


@contextmanager
def shared_statistics(buffers: Sequence[Tensor]) -> Iterator[None]:
    """A step: batches are normalised within each process; what is kept for later is the mean over the processes.

    Where that is not finite it is what was there before: running statistics would never recover from one that is lost.
    """
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, last in zip(buffers, before, strict=True):
        mean = mean_over_ranks(buffer)
        buffer.copy_(torch.where(mean.isfinite(), mean, last))
