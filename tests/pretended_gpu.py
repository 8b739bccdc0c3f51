"""Pretend a GPU: tensors that claim to be on cuda:0, hold CPU data, and cannot be mixed with CPU tensors.

    with pretended_gpu() as gpu:
        generator.to("cuda")        # and whole commands with device=cuda:0
    gpu.waits, gpu.uploads          # what made the host wait, and what it sent, by line of the package

The CPU's kernels do the computing, so results can be compared with the CPU's bit for bit. This cannot
show: kernels, cuDNN's choices, rounding, memory, streams, races and NCCL.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import torch
import torch.utils._device
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

GPU = torch.device("cuda", 0)
PACKAGE = "/src/wplus/"
GATHERS = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
# Operations that CUDA offers for tensors of two devices; all others mix only with numbers (tensors of no dimension).
CROSSING = {"aten::copy_", "aten::_to_copy", "aten::set_", *GATHERS}
# The size of the result, or whether there is one, depends on numbers: the host waits for the device.
WAITING = {
    "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive", "aten::equal", "aten::is_nonzero", "aten::repeat_interleave", "aten::bincount",
    "aten::_linalg_eigh", "aten::_linalg_svd", "aten::linalg_eig", "aten::_linalg_eigvals", "aten::linalg_qr",
    "aten::_linalg_check_errors", "aten::_assert_async",
}  # fmt: skip


class OnGpu(Tensor):
    """A tensor that claims to be on the GPU; `numbers` has its data."""

    numbers: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: Tensor, requires_grad: bool = False) -> OnGpu:
        made = Tensor._make_wrapper_subclass(
            cls, numbers.size(), strides=numbers.stride(), storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype, layout=numbers.layout, device="meta", requires_grad=requires_grad,
        )  # fmt: skip
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def get_device(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"OnGpu({self.numbers})"

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGpu:
        copied = type(self)(self.numbers.detach().clone(), self.requires_grad)
        if getattr(self, "_is_param", False):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:  # a file is read with map_location="cpu"
        return self.numbers.detach().__reduce_ex__(protocol)

    # What torch does in C++, where it would see the meta device.

    def to(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **{k: v for k, v in kwargs.items() if k != "copy"})
        stays = device is None or device.type != "cpu"
        same = dtype in (None, self.dtype) and (layout is None or self.is_contiguous(memory_format=layout))
        if stays and same and not kwargs.get("copy"):
            return self
        wanted = {"dtype": dtype, "device": device, "memory_format": layout}
        return torch.ops.aten._to_copy.default(self, **{k: v for k, v in wanted.items() if v is not None})

    def cpu(self, *_: Any, **__: Any) -> Tensor:
        return self.to("cpu")

    def cuda(self, *_: Any, **__: Any) -> OnGpu:
        return self

    def tolist(self) -> Any:
        note("waits", "tolist")
        return self.numbers.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def pin_memory(self, *_: Any) -> Tensor:
        raise RuntimeError("cannot pin a tensor of CUDA")

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or GPU, requires_grad=requires_grad)

    def __getitem__(self, index: Any) -> Any:
        return Tensor.__getitem__(self, sent(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        Tensor.__setitem__(self, sent(index), value)


def sent(index: Any) -> Any:
    """Return an index whose lists have been moved to the device."""
    if isinstance(index, tuple):
        return tuple(map(sent, index))
    if not isinstance(index, list):
        return index
    note_copy(True, "index by a list", is_blocking=True)
    return OnGpu(torch.tensor(index))


# --- what happens on it ---------------------------------------------------------------------------------------------


class Gpu(TorchDispatchMode):
    """Sees every operation while the device exists; counts waits, uploads and operations."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.uploads: Counter[tuple[str, str]] = Counter()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})

    def forget(self) -> None:
        """Reset the counts."""
        for counts in (self.waits, self.uploads, self.operations):
            counts.clear()


_gpu: list[Gpu] = []


def note(kind: str, what: str) -> None:
    """Count a wait or an upload by the line of the package that caused it, and the line that called that one."""
    if not _gpu:
        return
    frame, lines = sys._getframe(1), list[str]()
    while frame is not None and len(lines) < 2:
        file = frame.f_code.co_filename
        if PACKAGE in file:
            lines.append(f"{file.rpartition(PACKAGE)[2]}:{frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    getattr(_gpu[-1], kind)[what, " < ".join(lines)] += 1


def note_copy(goes_to_gpu: bool, what: str, *, is_blocking: bool) -> None:
    """Count a copy between the devices: unless asked not to, the host waits for it in both directions."""
    if goes_to_gpu:
        note("uploads", f"{what} cuda")
    if is_blocking or not goes_to_gpu:
        note("waits", f"{what} {'cuda' if goes_to_gpu else 'cpu'}")


def dispatched(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return an operation's result on the device where CUDA would put it; RuntimeError if CUDA would refuse it."""
    name, is_mutable = known(func)
    here, elsewhere = list[Tensor](), list[Tensor]()
    bare_args = tuple(bare(value, here, elsewhere) for value in args)
    bare_kwargs = {key: bare(value, here, elsewhere) for key, value in kwargs.items()}
    refuse_mix(name, here, elsewhere)
    device, goes_to_gpu = kwargs.get("device"), bool(here)
    if device is not None:
        kind = torch.device(device).type  # meta is what C++ takes ours for, but where networks without numbers are made
        goes_to_gpu = kind == "cuda" or (kind == "meta" and torch.utils._device.CURRENT_DEVICE is None)
        bare_kwargs["device"] = torch.device("cpu") if goes_to_gpu else device
    if kwargs.get("pin_memory"):
        bare_kwargs["pin_memory"] = False
    if name in GATHERS:
        goes_to_gpu = gathers(name, args)
    if name in WAITING and here:
        note("waits", name)
    generator = kwargs.get("generator")
    if generator is not None and generator.device.type == "cpu" and (here or goes_to_gpu):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if name == "aten::_to_copy" and bool(here) != goes_to_gpu:
        note_copy(goes_to_gpu, "to", is_blocking=not kwargs.get("non_blocking"))
    if name == "aten::copy_":
        goes_to_gpu = isinstance(args[0], OnGpu)
        if goes_to_gpu != isinstance(args[1], OnGpu):
            note_copy(
                goes_to_gpu, "copy_ to", is_blocking=not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            )
    out = func(*bare_args, **bare_kwargs)
    if not goes_to_gpu:
        return out
    if _gpu:
        _gpu[-1].operations[name] += 1
    if not is_mutable:
        return wrapped(out)
    return None if out is None else return_and_correct_aliasing(func, args, dict(kwargs), wrapped(out))


@functools.cache
def known(func: Any) -> tuple[str, bool]:
    """Name of an operation, and whether it writes to its inputs."""
    return func._schema.name, func._schema.is_mutable


def bare(value: Any, here: list[Tensor], elsewhere: list[Tensor]) -> Any:
    """Return an argument with plain data in place of tensors, and list the tensors by their device."""
    if isinstance(value, OnGpu):
        here.append(value)
        return value.numbers
    if isinstance(value, Tensor):
        elsewhere.append(value)
    elif type(value) in (list, tuple):
        return [bare(each, here, elsewhere) for each in value]
    return value


def wrapped(out: Any) -> Any:
    if isinstance(out, Tensor):
        return out if isinstance(out, OnGpu) else OnGpu(out)
    return type(out)(map(wrapped, out)) if type(out) in (list, tuple) else out


def refuse_mix(name: str, here: list[Tensor], elsewhere: list[Tensor]) -> None:
    """Refuse mixed devices as CUDA does; a 0-dimensional tensor counts as a number, but not in a list of tensors."""
    if not here:
        return
    if any(t.device.type == "meta" for t in elsewhere):
        raise RuntimeError(f"{name} of a tensor without numbers")
    if name in CROSSING:
        return
    alien = [tuple(t.shape) for t in elsewhere if t.dim() or "_foreach_" in name or "_fused_" in name]
    if alien:
        ours = [tuple(t.shape) for t in here]
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {ours} on cuda:0, {alien} on cpu")


def gathers(name: str, args: Any) -> bool:
    """Whether indexing happens on the GPU; records that a mask makes the host wait, and that a CPU index is sent."""
    indices = [t for t in args[1] if t is not None]
    if not isinstance(args[0], OnGpu):
        if any(isinstance(t, OnGpu) for t in indices):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        return False
    if any(t.dtype in (torch.bool, torch.uint8) for t in indices):
        note("waits", "index by a mask")
    if not all(isinstance(t, OnGpu) for t in indices):
        note_copy(True, "index of the cpu", is_blocking=True)
    if name != "aten::index" and not isinstance(args[2], OnGpu) and args[2].dim():
        raise RuntimeError(f"{name} of numbers of the CPU into a tensor of CUDA")
    return True


# --- that there is one ----------------------------------------------------------------------------------------------


class Event:
    """Event of a stream that is always up to date."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def record(self, *_: Any) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        note("waits", "event")

    def elapsed_time(self, other: Event) -> float:
        return 1.0


def from_data(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` and `torch.as_tensor`, which set the device in C++."""

    def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(data, OnGpu):
            return data.to(**({"device": device} if device is not None else {}), **kwargs)
        tensor = make(data, *args, **kwargs)
        if device is None or torch.device(device).type == "cpu":
            return tensor
        note_copy(True, "torch.tensor", is_blocking=True)
        with torch.no_grad():
            return OnGpu(tensor.detach(), tensor.requires_grad)

    return made


CUDA: dict[str, Any] = {
    "_lazy_init": lambda: None, "is_available": lambda: True, "is_initialized": lambda: True,
    "device_count": lambda: 1, "current_device": lambda: 0, "get_device_capability": lambda *_: (9, 0),
    "get_device_name": lambda *_: "none", "set_device": lambda *_: None, "empty_cache": lambda *_: None,
    "max_memory_allocated": lambda *_: 2**28, "memory_allocated": lambda *_: 2**27,
    "reset_peak_memory_stats": lambda *_: None, "mem_get_info": lambda *_: (2**34, 2**35),
    "get_rng_state": lambda *_: torch.get_rng_state(), "set_rng_state": lambda *_: None,
    "get_rng_state_all": lambda: [], "set_rng_state_all": lambda *_: None, "manual_seed_all": lambda *_: None,
    "manual_seed": lambda *_: None, "synchronize": lambda *_: note("waits", "synchronize"), "Event": Event,
}  # fmt: skip


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Gpu]:
    """Provide one GPU, cuda:0, within the block."""
    gpu, lifts = Gpu(), torch._C._only_lift_cpu_tensors()
    with contextlib.ExitStack() as stack:
        for name, value in CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        for name in ("tensor", "as_tensor"):
            stack.enter_context(mock.patch.object(torch, name, from_data(getattr(torch, name))))
        stack.enter_context(mock.patch.object(Tensor, "pin_memory", lambda self, *_: self))
        check = "_accelerator_graph_capture_health_check"
        if hasattr(torch.optim.Optimizer, check):
            stack.enter_context(mock.patch.object(torch.optim.Optimizer, check, return_value=None))
        torch._C._set_only_lift_cpu_tensors(True)
        _gpu.append(gpu)
        try:
            with gpu:
                yield gpu
        finally:
            _gpu.pop()
            torch._C._set_only_lift_cpu_tensors(lifts)


def moved(module: nn.Module) -> nn.Module:
    """The module as after `module.to("cuda")`: each parameter and buffer is new, shared ones stay shared."""
    known: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                made = nn.Parameter(OnGpu(parameter.detach()), requires_grad=parameter.requires_grad)
                part._parameters[name] = known.setdefault(id(parameter), made)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnGpu(buffer.detach())
    if hasattr(module, "_device"):  # Lightning's memory of it
        module._device = GPU
    return module
