"""Reading other projects' files without importing or running anything that they name or contain.

A pickle is a program. Of the functions it may call, this reader knows a short list, each replaced by an inert one of
our own that rebuilds numbers, tensors, arrays and plain containers. Any other name is refused, and its call with it.
What these calls make is counted: a file cannot fill more memory than a few times its own size.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from wplus.adapters.refusal import ZIP_MAGIC, Refused, offender, printable, require_small_memo
from wplus.errors import UserError

TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number at the head of torch files before version 1.6
DTYPE_CODES = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
FRAME = re.compile(rb"\x95.{8}", re.DOTALL)  # what pickle's protocols from 4 on begin with
MAX_GROWTH = 4  # bytes that are made from a file, in multiples of its size; an honest one needs 2
SMALL = 2**20  # bytes, which a file of any size may need
ENTRY = 100  # bytes of an entry in a set or dict


def is_torch(start: bytes) -> bool:
    """Whether a file that begins with these bytes (32 or more) is one that `torch.save` wrote."""
    content = start[2:]
    frame = FRAME.match(content)
    return start.startswith(ZIP_MAGIC) or content[frame.end() if frame else 0 :].startswith(TORCH_MAGIC)


# --- memory ---------------------------------------------------------------------------------------------------------


class _Budget:
    """Bytes that may still be made from a file."""

    def __init__(self, size: int) -> None:
        self.size, self.left = size, MAX_GROWTH * size + SMALL


_budget: ContextVar[_Budget] = ContextVar("budget")


@contextmanager
def _budget_for(size: int) -> Iterator[None]:
    """Inside, all that is made counts for one file of `size` bytes."""
    token = _budget.set(_Budget(size))
    try:
        yield
    finally:
        _budget.reset(token)


def _spend(num_bytes: int) -> None:
    budget = _budget.get()
    budget.left -= num_bytes
    if budget.left < 0:
        raise Refused(f"more than {MAX_GROWTH} times what a file of {budget.size} bytes can say")


# --- inert stand-ins ------------------------------------------------------------------------------------------------
# Everything that a pickle can put its hands on refuses a BUILD instruction (`__setstate__`), which could otherwise set
# attributes, so that a file can change nothing that outlives its reading.


@dataclass(frozen=True, eq=False)
class Persistent:
    """NVlabs' persistent object as data: the name of its class and the attributes it had, without its source text."""

    class_name: str
    state: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        raise Refused("a changed persistent object")


class _Inert:
    """A function of ours that stands for one that a file names."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise Refused("a changed function")


class _Leaf:
    """A rebuilt tensor or array, wrapped while the file is read: both have a `__setstate__` that is not for files."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __setstate__(self, state: object) -> None:
        raise Refused("a changed tensor")


class _Array(_Leaf):
    """A numpy array between the two instructions that make it."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C").value


class _OrderedDict(dict[Any, Any]):
    """OrderedDict without attributes of its own (a state dict's `_metadata` is dropped)."""

    __slots__ = ()

    def __init__(self, items: Any = ()) -> None:
        _spend(ENTRY * len(items))
        super().__init__(items)

    def __setstate__(self, state: object) -> None:
        pass


class _Namespace(dict[str, Any]):
    """`argparse.Namespace`, in which some projects store their options, as a dict."""

    __slots__ = ()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class _Dtype:
    """`numpy.dtype` of a plain number. numpy's own could be told to read bytes as pointers."""

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


def _array(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: str = "C") -> _Leaf:
    if not isinstance(raw, (bytes, bytearray)):
        raise Refused("a numpy array of objects")
    _spend(len(raw))
    return _Leaf(np.frombuffer(raw, dtype.numpy()).reshape(shape, order="F" if order == "F" else "C").copy())


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise Refused(f"the codec {printable(encoding)}")
    _spend(len(text))
    return text.encode("latin1")


def _set(items: Any = ()) -> set[Any]:
    _spend(ENTRY * len(items))
    return set(items)


def _size(items: Any = ()) -> tuple[Any, ...]:
    _spend(ENTRY * len(items))
    return tuple(items)


def _persistent(meta: Any) -> Persistent:
    if not (isinstance(meta, dict) and isinstance(meta.get("class_name"), str) and isinstance(meta.get("state"), dict)):
        raise Refused("a forged persistent object without class name and state")
    return Persistent(meta["class_name"], meta["state"])


def _storage(payload: bytes) -> _Leaf:
    """A storage is a torch file within the pickle; torch's own weights-only reader takes it apart."""
    if not is_torch(payload):
        raise Refused(f"a storage of its own making ({_offence(payload)})")
    _spend(len(payload))
    storage = _torch_load(io.BytesIO(payload))
    if not isinstance(storage, torch.storage.TypedStorage):
        raise Refused(f"a storage that holds a {type(storage).__name__}")
    return _Leaf(torch.empty(0, dtype=storage.dtype).set_(storage))


def _offence(payload: bytes) -> str:
    """What another pickle in the place of a storage would have called, for the refusal."""
    try:
        return f"a {type(_load_pickle(io.BytesIO(payload))).__name__}"
    except Refused as refused:
        return str(refused)
    except Exception:
        return "no torch file"


def _tensor(storage: _Leaf, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> _Leaf:
    if math.prod(size) > storage.value.numel():  # as_strided checks the bounds, but would repeat elements without end
        raise Refused(f"a tensor of {math.prod(size)} elements in a storage of {storage.value.numel()}")
    _spend(math.prod(size) * storage.value.element_size())
    return _Leaf(torch.as_strided(storage.value, size, stride, offset).clone(memory_format=torch.contiguous_format))


def _parameter(data: _Leaf, *_: object) -> _Leaf:
    return data


def _known_globals() -> dict[tuple[str, str], Any]:
    known: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): _OrderedDict,
        ("dnnlib.util", "EasyDict"): _OrderedDict,
        ("builtins", "set"): _Inert(_set),
        ("__builtin__", "set"): _Inert(_set),
        ("torch", "Size"): _Inert(_size),
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _Inert(_array),
        ("_codecs", "encode"): _Inert(_encode),
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Inert(_persistent),
        ("torch.storage", "_load_from_bytes"): _Inert(_storage),
        ("torch._utils", "_rebuild_tensor"): _Inert(_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): _Inert(_tensor),
        ("torch._utils", "_rebuild_parameter"): _Inert(_parameter),
    }
    for core in ("numpy.core", "numpy._core"):  # renamed in numpy 2
        known[f"{core}.multiarray", "scalar"] = _Inert(_scalar)
        known[f"{core}.multiarray", "_reconstruct"] = _Inert(lambda *_: _Array())
        known[f"{core}.numeric", "_frombuffer"] = _Inert(_array)
    return known


_KNOWN = _known_globals()


# --- pickles --------------------------------------------------------------------------------------------------------


class _Reader(pickle.Unpickler):
    """Python's unpickler, which resolves every name by `find_class`; ours knows `_KNOWN` and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise Refused(printable(f"{module}.{name}")) from None

    def persistent_load(self, key: object) -> Any:
        raise Refused("a persistent id")


def _load_pickle(file: BinaryIO | io.BytesIO) -> Any:
    require_small_memo(file)
    return _Reader(file, encoding="latin1").load()


def read_pickle(path: str | Path) -> Any:
    """Content of a pickle as plain containers, numbers, strings, tensors, numpy arrays and `Persistent` records.

    UserError when the file cannot be read, is no pickle, or names a class or function other than the ones that such
    content needs; the message holds the name.
    """
    return _read(path, lambda file: _unwrapped(_load_pickle(file), {}))


def _unwrapped(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace leaves by what they hold, in place where possible; `done` guards against cycles and shared parts."""
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _Leaf):
        return value.value
    done[id(value)] = (value, value)  # keeps the value alive, or its id could be given away
    if isinstance(value, dict):
        value.update({key: _unwrapped(item, done) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = [_unwrapped(item, done) for item in value]
    elif isinstance(value, Persistent):
        _unwrapped(value.state, done)
    elif isinstance(value, tuple):
        done[id(value)] = (value, tuple(_unwrapped(item, done) for item in value))
    return done[id(value)][1]


# --- torch files ----------------------------------------------------------------------------------------------------

# What checkpoints of this field hold beside tensors: options and scores. Rebuilt by the inert functions above.
_TORCH_EXTRAS: list[Any] = [
    (_Namespace, "argparse.Namespace"),
    (_Dtype, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]


def read_torch(path: str | Path) -> Any:
    """Content of a file that `torch.save` wrote, tensors on the CPU, read with `weights_only=True`.

    UserError when the file is damaged or names anything but tensors, plain containers, options and numbers.
    """
    return _read(path, _torch_content)


def _torch_content(file: BinaryIO) -> Any:
    content = _torch_load(file)
    _require_ordinary_tensors(content)
    return content


def _torch_load(file: BinaryIO | io.BytesIO) -> Any:
    _require_stored_records(file)
    with torch.serialization.safe_globals(_TORCH_EXTRAS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader's doubts about unusual pickle protocols
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise Refused(offender(str(error), file, known=[name for _, name in _TORCH_EXTRAS])) from error


def _require_stored_records(file: BinaryIO | io.BytesIO) -> None:
    """A zip of a few bytes can unpack to more than there is memory; torch writes its records as they are."""
    start, size = file.read(len(ZIP_MAGIC)), file.seek(0, io.SEEK_END)
    file.seek(0)
    if start != ZIP_MAGIC:
        return
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    if sum(record.file_size for record in records) > size:
        raise Refused(f"compressed records, {sum(record.file_size for record in records)} bytes in a file of {size}")
    file.seek(0)


def _require_ordinary_tensors(content: Any) -> None:
    """Tensors whose numbers are in the file, one by one: not repeated by strides, sparse, or without any memory."""
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_meta or value.is_quantized:
                raise Refused(
                    f"a tensor of a kind that is not read ({value.layout}, {value.device.type}, {value.dtype})"
                )
            if value.nbytes > value.untyped_storage().nbytes():
                raise Refused(f"a tensor of {value.nbytes} bytes in a storage of {value.untyped_storage().nbytes()}")
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)


# --- the border -----------------------------------------------------------------------------------------------------


def _read(path: str | Path, read: Callable[[BinaryIO], Any]) -> Any:
    try:
        with open(path, "rb") as file, _budget_for(os.fstat(file.fileno()).st_size):
            return read(file)
    except Refused as refused:
        raise UserError(
            f"'{path}' is refused: it holds {refused}, and from foreign files only tensors, numbers, strings and "
            "plain containers are read."
        ) from refused
    except OSError as error:
        raise UserError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except Exception as error:  # a damaged file can fail in any way
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise UserError(f"Cannot read '{path}': the file is truncated, damaged or no checkpoint ({reason}).") from error


def as_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """The entries of `content` that are tensors or numeric arrays, as tensors."""
    return {name: torch.as_tensor(value) for name, value in content.items() if isinstance(value, (Tensor, np.ndarray))}
