"""Several processes at one task: which of them this is, and how what they computed comes together.

`torchrun --nproc_per_node=2 command.py` starts them; alone, every function here does nothing. Gradients are averaged
in one flat exchange after a phase of a step: a step runs up to four backward passes, some of them through gradients,
and DistributedDataParallel's hooks were made for one.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
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
    """A variable that torchrun sets; UserError where it is no whole number."""
    text = os.environ.get(name, str(default))
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{name} must be a whole number, as torchrun sets it, got '{text}'.")
    return int(text)


def backend_of(device: torch.device) -> str:
    """What carries tensors between processes, from where they are: those of the CPU gloo, those of a GPU nccl."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that torchrun started, for the time of the block; alone, `device` is all that comes out.

    Yields this process's device: on CUDA each process of a machine has a GPU of its own.
    """
    if from_torchrun("WORLD_SIZE", 1) == 1 or dist.is_initialized():
        yield device
        return
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        if name not in os.environ:
            raise UserError(
                f"WORLD_SIZE={os.environ['WORLD_SIZE']} speaks of several processes, and {name} is not set: start them "
                "by torchrun, or unset WORLD_SIZE."
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
    """For the time of the block, what other processes than the first print is lost, progress bars included."""
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
    """Whether every process says so."""
    return int(total(torch.tensor(int(flag)))) == rank_and_world()[1]


@torch.no_grad()
def average_gradients(gradients: list[Tensor]) -> None:
    """Replace each gradient by its mean over the processes, in place, in one exchange."""
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
    """Rows (N_rank, ...) of all processes, the same on all of them.

    Without `indices` every process has equally many, which come in the order of the ranks. `indices` (N_rank,) give
    the order instead; each belongs to one process, and processes may have different numbers of rows, also none.
    """
    world = rank_and_world()[1]
    if indices is None:
        return rows if world == 1 else torch.cat(_all(rows))
    if world > 1:
        counts = [int(count) for count in _all(torch.tensor([len(rows)]))]
        rows, indices = (_all_rows(part, counts) for part in (rows, indices.to(rows.device)))
    return rows[indices.argsort()]


def _all(part: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(part) for _ in range(rank_and_world()[1])]
    dist.all_gather(parts, part.contiguous())
    return parts


def _all_rows(part: Tensor, counts: list[int]) -> Tensor:
    """Processes exchange equal shapes only: rows of zeros come after the rows, and go again."""
    filled = torch.cat([part, part.new_zeros(max(counts) - len(part), *part.shape[1:])])
    return torch.cat([each[:count] for each, count in zip(_all(filled), counts, strict=True)])
