"""Distributed execution: ranks, process groups, and collective operations.

Processes are started by `torchrun --nproc_per_node=2 command.py`; in a single process, every function here is a no-op.
Gradients are averaged in one flat all-reduce after each phase of a step: a step runs up to four backward passes, some
of them through gradients, while DistributedDataParallel's hooks are designed for one.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from wplus.errors import UserError

T = TypeVar("T")


def rank_and_world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when nothing is distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def is_first() -> bool:
    """Whether this is the process that prints, writes and tracks."""
    return rank_and_world()[0] == 0


def from_torchrun(name: str, default: int) -> int:
    """Read a variable set by torchrun; UserError if it is not a whole number."""
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{name} must be a whole number, as torchrun sets it, got '{text}'.")
    return int(text)


def backend_of(device: torch.device) -> str:
    """The communication backend for tensors on a device: gloo for the CPU, nccl for a GPU."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Initialise the process group of torchrun's processes within the block; a no-op for a single process.

    Yields this process's device: on CUDA each process of a machine has its own GPU.
    """
    if from_torchrun("WORLD_SIZE", 1) == 1 or dist.is_initialized():
        yield device
        return
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UserError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} means several processes, but {name} is not set: start them "
                "with torchrun, or unset WORLD_SIZE."
            )
    if device.type == "cuda":
        device = torch.device("cuda", from_torchrun("LOCAL_RANK", 0) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    dist.init_process_group(backend_of(device))
    try:
        yield device
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def only_first_speaks() -> Iterator[None]:
    """Within the block, suppress all output of processes other than the first, including progress bars."""
    with contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of `items`: those numbered rank, rank + world, ..."""
    rank, world = rank_and_world()
    return items[rank::world]


@torch.no_grad()
def total(value: Tensor) -> Tensor:
    """The sum of a tensor over the processes, on all of them."""
    if rank_and_world()[1] == 1:
        return value
    value = value.detach().clone()
    dist.all_reduce(value)
    return value


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a detached tensor over the processes, on all of them."""
    world = rank_and_world()[1]
    return value if world == 1 else total(value) / world


def all_agree(flag: bool) -> bool:
    """Whether `flag` is set in every process."""
    return int(total(torch.tensor(int(flag)))) == rank_and_world()[1]


@torch.no_grad()
def average_gradients(gradients: list[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, in place, in a single all-reduce."""
    world = rank_and_world()[1]
    if world == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def gathered(rows: Tensor, indices: Tensor | None = None) -> Tensor:
    """Gather rows (N_rank, ...) of all processes on all of them.

    Without `indices`, all processes must have equally many rows, which are returned in order of rank. Otherwise
    `indices` (N_rank,), unique across processes, define the order, and numbers of rows may differ or be zero.
    """
    world = rank_and_world()[1]
    if indices is None:
        return rows if world == 1 else torch.cat(_all(rows))
    if world > 1:
        counts = [int(count) for count in _all(torch.tensor([len(rows)]))]
        rows, indices = (_all_rows(part, counts) for part in (rows, indices.to(rows.device)))
    return rows[indices.argsort()]


def in_shares(
    batches: Sequence[Sequence[int]], make: Callable[[Sequence[int]], Tensor], none: Tensor, *,
    progress: Callable[[Sequence[Sequence[int]]], Iterable[Sequence[int]]] = iter,
) -> Tensor:  # fmt: skip
    """Rows made for the numbers in all batches, in order of the numbers: each process makes those of its own batches.

    none      zero rows of what `make` returns, for a process without a batch
    progress  wraps this process's batches
    """
    ours = share(batches)
    rows = torch.cat([none, *(make(batch) for batch in progress(ours))])
    return gathered(rows, torch.tensor([number for batch in ours for number in batch], dtype=torch.int64))


def _all(part: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(part) for _ in range(rank_and_world()[1])]
    dist.all_gather(parts, part.contiguous())
    return parts


def _all_rows(part: Tensor, counts: list[int]) -> Tensor:
    """Collectives need equal shapes: pad with rows of zeros, and remove them again."""
    filled = torch.cat([part, part.new_zeros(max(counts) - len(part), *part.shape[1:])])
    return torch.cat([each[:count] for each, count in zip(_all(filled), counts, strict=True)])
