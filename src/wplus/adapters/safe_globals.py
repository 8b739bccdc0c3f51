"""Stand-ins for the classes and functions that a foreign pickle names: our own replacements, which only rebuild data.

Everything a pickle can access refuses BUILD instructions (`__setstate__`), which could otherwise set attributes, so
that a file cannot modify anything that outlives its reading. Allocations are counted (`guards.spend`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from wplus.adapters.guards import ENTRY, Refused, printable, spend

DTYPE_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])


class _Unchangeable:
    """An object that BUILD instructions of a file cannot change; subclasses set `kind`."""

    __slots__ = ()
    kind: ClassVar[str]

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"a changed {self.kind}")


@dataclass(frozen=True, eq=False)
class Persistent(_Unchangeable):
    """NVlabs' persistent object as data: its class name and attributes, without its source code."""

    kind = "persistent object"
    class_name: str
    state: dict[str, Any]


class SafeFunction(_Unchangeable):
    """One of our functions, in place of one named by a file."""

    __slots__ = ("_function",)
    kind = "function"

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call our function with the file's arguments."""
        return self._function(*args)


class Leaf(_Unchangeable):
    """A rebuilt tensor or array, wrapped while reading: both have a `__setstate__` that files must not reach."""

    __slots__ = ("value",)
    kind = "tensor"

    def __init__(self, value: Any = None) -> None:
        self.value = value


# --- plain content --------------------------------------------------------------------------------------------------


class _Dict(dict[Any, Any]):
    """A dict of any kind, without extra attributes (a state dict's `_metadata` is dropped)."""

    __slots__ = ()

    def __init__(self, items: Any = ()) -> None:
        spend(ENTRY * len(items))
        super().__init__(items)

    def __setstate__(self, state: object) -> None:
        pass


class _Namespace(dict[str, Any]):
    """`argparse.Namespace`, in which some projects store their options, as a dict."""

    __slots__ = ()

    def __setstate__(self, state: dict[str, Any]) -> None:
        spend(ENTRY * len(state))
        self.update(state)


def _persistent(meta: Any) -> Persistent:
    if not (isinstance(meta, dict) and isinstance(meta.get("class_name"), str) and isinstance(meta.get("state"), dict)):
        raise Refused("a forged persistent object without class name and state")
    return Persistent(meta["class_name"], meta["state"])


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"the codec {printable(encoding)}")
    spend(len(text))
    return text.encode("latin1")


def _set(items: Any = ()) -> set[Any]:
    spend(ENTRY * len(items))
    return set(items)


def _size(items: Any = ()) -> tuple[int, ...]:
    spend(ENTRY * len(items))
    if not all(isinstance(item, int) for item in items):
        raise Refused("a torch.Size that is not of integers")
    return tuple(items)


def _device(kind: str, index: int | None = None) -> str:
    name = kind[:20] if index is None else f"{kind[:20]}:{index:d}"
    spend(len(name))
    return name


# --- numpy ----------------------------------------------------------------------------------------------------------


class _Array(Leaf):
    """A numpy array between the two instructions that create it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C").value


class _Dtype:
    """`numpy.dtype` of a plain number. numpy's own could be made to interpret bytes as pointers."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *_: object) -> None:
        if code not in DTYPE_CODES:
            raise Refused(f"the numpy dtype {printable(str(code))}")
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1] if state[1] in ("<", ">", "=") else "="

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self._order + self._code)


def _scalar(dtype: _Dtype, raw: bytes) -> int | float | bool:
    return np.frombuffer(raw, dtype.numpy(), count=1)[0].item()


def _array(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: str = "C") -> Leaf:
    if not isinstance(raw, (bytes, bytearray)):
        raise Refused("a numpy array of objects")
    spend(len(raw))
    return Leaf(np.frombuffer(raw, dtype.numpy()).reshape(shape, order="F" if order == "F" else "C").copy())


# --- torch ----------------------------------------------------------------------------------------------------------

# Storage types and dtypes, by their names in files.
STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16, "CharStorage": torch.int8},
    **{"ByteStorage": torch.uint8, "BoolStorage": torch.bool, "BFloat16Storage": torch.bfloat16},
    **{"ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64},
    "UntypedStorage": torch.uint8,
}
NEW_DTYPES = (torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
DTYPES = {str(dtype): dtype for dtype in (*STORAGES.values(), *NEW_DTYPES)}


def _tensor(storage: Leaf, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object) -> Leaf:
    """A view of a storage; counted as a copy, which it becomes as part of a network.

    `rest` are requires_grad, hooks and what torch calls metadata.
    """
    if any(rest[2:]):
        raise Refused("a tensor that is conjugated or negated when it is used")
    values, num = storage.value, math.prod(size)
    if num > values.numel():  # as_strided checks bounds, but could repeat elements without limit
        raise Refused(f"a tensor of {num} elements in a storage of {values.numel()}")
    spend(num * values.element_size())
    return Leaf(values.as_strided(size, stride, values.storage_offset() + offset))


def _tensor_v3(storage: Leaf, offset: int, size: Any, stride: Any, *rest: Any) -> Leaf:
    """A tensor of a dtype without its own storage type: the storage holds bytes."""
    requires_grad, hooks, dtype, *metadata = rest
    return _tensor(Leaf(storage.value.view(DTYPES[dtype])), offset, size, stride, requires_grad, hooks, *metadata)


def _with_attributes(rebuild: SafeFunction, kind: object, arguments: tuple[Any, ...], *_: object) -> Any:
    """A tensor that had extra attributes, which are dropped."""
    if not isinstance(rebuild, SafeFunction):
        raise Refused("a tensor that is rebuilt by something else")
    return rebuild(*arguments)


# --- all names ------------------------------------------------------------------------------------------------------


# (module, name) in files -> replacement; torch types are strings.
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("collections", "Counter"): _Dict,
    ("dnnlib.util", "EasyDict"): _Dict,
    ("argparse", "Namespace"): _Namespace,
    ("builtins", "set"): SafeFunction(_set),
    ("__builtin__", "set"): SafeFunction(_set),
    ("_codecs", "encode"): SafeFunction(_encode),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): SafeFunction(_persistent),
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): SafeFunction(_array),
    ("torch", "Size"): SafeFunction(_size),
    ("torch", "device"): SafeFunction(_device),
    ("torch", "Tensor"): "torch.Tensor",
    ("torch._tensor", "_rebuild_from_type_v2"): SafeFunction(_with_attributes),
    ("torch._utils", "_rebuild_tensor"): SafeFunction(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): SafeFunction(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): SafeFunction(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): SafeFunction(lambda data, *_: data),
    ("torch._utils", "_rebuild_parameter_with_state"): SafeFunction(lambda data, *_: data),
    ("torch.storage", "UntypedStorage"): str(torch.uint8),
}
for core in ("numpy.core", "numpy._core"):  # renamed in numpy 2
    ALLOWED[f"{core}.multiarray", "scalar"] = SafeFunction(_scalar)
    ALLOWED[f"{core}.multiarray", "_reconstruct"] = SafeFunction(lambda *_: _Array())
    ALLOWED[f"{core}.numeric", "_frombuffer"] = SafeFunction(_array)
ALLOWED |= {("torch", name): str(dtype) for name, dtype in STORAGES.items()}
ALLOWED |= {("torch", name.partition(".")[2]): name for name in DTYPES}
