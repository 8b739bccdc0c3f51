"""Runtime settings and helpers: device, processes, precision, timing, memory, evaluation mode."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from wplus.core.distributed import from_torchrun
from wplus.errors import UserError, check_choice, check_number

M = TypeVar("M", bound=nn.Module)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def resolve_device(name: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N` or `mps` -> a device that exists, else UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device must be auto, cpu, cuda, cuda:N or mps, got '{name}'.") from None
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    num = here.get(device.type, 0)
    if (device.index or 0) >= num:
        raise UserError(f"device={name} needs more than this machine has, {num} device(s) of type {device.type}; "
                        "use device=cpu or device=auto.")  # fmt: skip
    return device


def usable_cores() -> int:
    """Number of cores this process may use (on a shared machine, fewer than exist)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def now(device: torch.device) -> float:
    """Time in seconds, after waiting for all pending work of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


@contextlib.contextmanager
def eval_mode(network: M) -> Iterator[M]:
    """Put the network in evaluation mode within the block; the mode of each module is restored afterwards."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield network
    finally:
        for module, training in before:
            module.training = training


@contextlib.contextmanager
def float32_convolutions(*, tf32: bool = False, benchmark: bool = False) -> Iterator[None]:
    """Set how a GPU computes convolutions and matrix products of float32 tensors within the block.

    Exactly, or with `tf32` from inputs rounded to 11 bits, which is torch's default for convolutions. With TF32, images
    a ten-thousandth of a path apart differ mainly by rounding: a perceptual path length of 52 becomes 2400. Metrics,
    inversion, interpolation and editing are therefore exact, and training has the choice.

    With `benchmark`, cuDNN tries each algorithm once per shape and uses the fastest from then on: for training steps,
    whose shapes stay the same for hours.
    """
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = cudnn, torch.backends.cuda.matmul
    before, benchmarked = [backend.allow_tf32 for backend in backends], cudnn.benchmark
    try:
        for backend in backends:
            backend.allow_tf32 = tf32
        cudnn.benchmark = benchmark
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
        cudnn.benchmark = benchmarked


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensor instead of returning it to the system at once.

    A training step frees and allocates the same large tensors over and over; mapping them again page by page costs
    about a seventh of a step on a CPU. Has no effect without glibc.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 64 * 2**20)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device, processes and precision of a training run."""

    device: torch.device
    devices: int = 1
    """Processes (and GPUs) per node."""
    num_nodes: int = 1
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 in the four highest resolutions on a GPU, float32 elsewhere."""
    tf32: bool = False
    """Round the inputs of float32 convolutions to 11 bits in training steps on a GPU, which is faster."""
    images: Literal["auto", "host", "device"] = "auto"
    """Location of training images: on the GPU, or in host memory that it reads; auto: on the GPU if they fit."""
    compile: Literal["off", "auto"] = "off"
    """auto: training phases run compiled if they compile and agree with the plain ones."""
    cuda_graphs: bool = False
    """Record training phases as CUDA graphs and replay them."""
    kernels: Literal["auto", "off"] = "auto"
    """auto: training steps on a GPU use the Triton kernels if these agree with plain operations."""

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes"):
            check_number(name, getattr(self, name), lowest=1, whole=True)
        check_choice("precision", self.precision, ("auto", "bf16", "float32"))
        check_choice("tf32", self.tf32, (False, True))
        check_choice("images", self.images, ("auto", "host", "device"))
        check_choice("compile", self.compile, ("off", "auto"))
        check_choice("cuda_graphs", self.cuda_graphs, (False, True))
        check_choice("kernels", self.kernels, ("auto", "off"))
        if self.cuda_graphs and self.device.type != "cuda":
            raise UserError(f"cuda_graphs=true needs device=cuda, got {self.device.type}; leave it out.")
        for name, is_asked in (("compile=auto", self.compile == "auto"), ("cuda_graphs=true", self.cuda_graphs)):
            if is_asked and self.world_size > 1:
                raise UserError(f"{name} works in one process, got {self.world_size} processes; leave it out.")
        if self.precision == "bf16" and self.device.type == "cpu":
            raise UserError("precision=bf16 is many times slower than float32 on a CPU; use precision=float32 there.")

    @classmethod
    def prepare(cls, device: str, *, threads: int | None = None, **kwargs: Any) -> Runtime:
        """Check that the device exists and make it CUDA's current one, for streams, graphs and kernels; set the CPU
        threads (None: torch's choice), keep freed memory."""
        keep_freed_memory()
        if threads is not None:
            check_number("threads", threads, lowest=1, highest=1024, whole=True)
            torch.set_num_threads(threads)
        found = resolve_device(device)
        if found.type == "cuda":
            own = from_torchrun("LOCAL_RANK", 0) % torch.cuda.device_count()
            torch.cuda.set_device(own if found.index is None else found.index)
        return cls(device=found, **kwargs)

    @property
    def world_size(self) -> int:
        """Total number of processes."""
        return self.devices * self.num_nodes

    @property
    def rank(self) -> int:
        """Index of this process, read from the environment, so known before the process group is initialised."""
        if self.world_size == 1:
            return 0
        for name in ("RANK", "SLURM_PROCID"):
            if name in os.environ:
                return from_torchrun(name, 0)
        return from_torchrun("NODE_RANK", 0) * self.devices + from_torchrun("LOCAL_RANK", 0)
