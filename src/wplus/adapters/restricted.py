"""Read pickles and torch files of other projects without importing or executing anything they name or contain.

A pickle is a program. This reader knows a short list of the functions it may call, each replaced by one of our own
(`safe_globals`) that rebuilds numbers, tensors, arrays and plain containers. Any other name is refused, and its call
with it. Memory is limited to a few times the size of the file plus a hundred megabytes (`guards`): compressed zip
records are refused, and no storage may have more numbers than the file.
"""

import io
import os
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.adapters.guards import File, Refused, check_opcodes, memory_limit, printable, refusals, spend
from wplus.adapters.safe_globals import ALLOWED, DTYPES, Leaf, Persistent, SafeFunction

Storages = Callable[[Any], Leaf]
"""Persistent id -> storage, as a vector."""


def read_restricted(path: str | Path) -> Any:
    """Content of a pickle, or of a file written by `torch.save`.

    Plain containers, numbers, strings, tensors on the CPU, numpy arrays and `Persistent` records. UserError if the file
    is neither, or names a class or function that such content does not need; the message includes the name.
    """
    with refusals(path), open(path, "rb") as file, memory_limit(os.fstat(file.fileno()).st_size):
        start = file.read(32)
        file.seek(0)
        return _unwrapped(_read_torch(file) if _is_torch(start) else _load(file), {})


def as_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries of `content` that are tensors or numeric arrays, as tensors."""
    return {name: torch.as_tensor(value) for name, value in content.items() if isinstance(value, (Tensor, np.ndarray))}


def _unwrapped(value: object, done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace leaves by their values, in place where possible; `done` handles cycles and shared parts."""
    if isinstance(value, Leaf):
        return value.value
    if not isinstance(value, (dict, list, tuple, Persistent)):
        return value
    if id(value) in done:
        return done[id(value)][1]
    done[id(value)] = (value, value)  # keeps the value alive, or its id could be reused
    if isinstance(value, dict):
        value.update({key: _unwrapped(item, done) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = [_unwrapped(item, done) for item in value]
    elif isinstance(value, Persistent):
        _unwrapped(value.state, done)
    else:
        done[id(value)] = (value, tuple(_unwrapped(item, done) for item in value))
    return done[id(value)][1]


# --- pickles ----------------------------------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Python's unpickler, which resolves every name with `find_class`; this one only knows `GLOBALS`."""

    def __init__(self, file: File, storages: Storages | None) -> None:
        super().__init__(file, encoding="latin1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in GLOBALS:
            raise Refused(printable(f"{module}.{name}"))
        return GLOBALS[module, name]

    def persistent_load(self, key: object) -> Any:
        if self._storages is None:
            raise Refused("a persistent id")
        return self._storages(key)


def _load(file: File, storages: Storages | None = None) -> Any:
    """Load the pickle at the file's position; `storages` resolves its persistent ids."""
    check_opcodes(file)
    return _Unpickler(file, storages).load()


def _storage_within(payload: bytes) -> Leaf:
    """Read a storage embedded in a pickle, which is a torch file itself."""
    spend(len(payload))
    if not _is_torch(payload[:32]):
        raise Refused(f"a storage of its own making ({_offence(payload)})")
    storage = _read_torch(io.BytesIO(payload))
    if not (isinstance(storage, Leaf) and isinstance(storage.value, Tensor) and storage.value.ndim == 1):
        raise Refused(f"a storage that holds a {type(storage).__name__}")
    return storage


def _offence(payload: bytes) -> str:
    """What a pickle in place of a storage would have called, for the error message."""
    try:
        return f"a {type(_load(io.BytesIO(payload))).__name__}"
    except Refused as refused:
        return str(refused)
    except Exception:
        return "no torch file"


GLOBALS = ALLOWED | {("torch.storage", "_load_from_bytes"): SafeFunction(_storage_within)}

# --- torch files: a zip, or, before version 1.6, pickles and numbers in a row -----------------------------------------

ZIP_MAGIC = b"PK\x03\x04"
ROW_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number
FRAME = re.compile(rb"\x95.{8}", re.DOTALL)  # start of frames in pickle protocols from 4 on
LOCAL_HEADER, NAME_LENGTHS = 30, slice(26, 30)  # bytes of a zip record's local header, and of its length fields


def _is_torch(start: bytes) -> bool:
    """Whether a file that starts with these bytes (32 or more) was written by `torch.save`."""
    content = start[2:]
    frame = FRAME.match(content)
    return start.startswith(ZIP_MAGIC) or content[frame.end() if frame else 0 :].startswith(ROW_MAGIC)


def _read_torch(file: File) -> Any:
    """Content of a torch file, as returned by `_load`; tensors are leaves."""
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    file.seek(0)
    if is_zip:
        records = _Zip(file)
        return _load(io.BytesIO(records.record("data.pkl")), records)
    for _ in ("magic number", "version", "system"):
        _load(file)
    storages = _Row(file)
    content = _load(file, storages)
    storages.fill(_load(file))
    return content


def _described(key: object) -> tuple[str, torch.dtype, int]:
    """Name, dtype and number of elements of the storage of a persistent id."""
    if not (isinstance(key, tuple) and len(key) >= 5 and key[0] == "storage" and key[1] in DTYPES):
        raise Refused("a persistent id that is not of a storage")
    _, dtype, name, _, num, *_ = key
    if not (isinstance(name, str) and isinstance(num, int) and num >= 0):
        raise Refused("a storage without name or number of elements")
    return name, DTYPES[dtype], num


def _filled(file: File, raw: Tensor) -> Tensor:
    """Fill `raw`, a tensor of bytes, with the next bytes of the file."""
    numbers: Any = raw.numpy()
    if file.readinto(memoryview(numbers)) != len(raw):
        raise ValueError(f"{len(raw)} bytes of a storage are not there")
    return raw


class _Zip:
    """The storages of a zip, each in its own record, read on first use."""

    def __init__(self, file: File) -> None:
        self._file, self._read = file, dict[str, Tensor]()
        size = file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
        total = sum(record.file_size for record in records)
        if total > size or any(record.compress_type != zipfile.ZIP_STORED for record in records):
            raise Refused(f"compressed records, {total} bytes in a file of {size}")
        self._records = {record.filename: record for record in records}
        names = [name for name in self._records if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(names) != 1 or any(record.header_offset < 0 for record in records):
            raise ValueError("a zip without the data.pkl of torch, or without its beginning")
        self._folder = names[0].partition("/")[0]
        order = self.record("byteorder") if f"{self._folder}/byteorder" in self._records else b""
        self._is_swapped = order.decode() not in ("", sys.byteorder)

    def __call__(self, key: object) -> Leaf:
        """The storage of a persistent id."""
        name, dtype, num = _described(key)
        if name not in self._read:
            self._read[name] = _filled(self._file, torch.empty(self._seek(f"data/{name}"), dtype=torch.uint8))
            width = dtype.itemsize // (2 if dtype.is_complex else 1)
            if self._is_swapped and width > 1:
                self._read[name].numpy().view(f"u{width}").byteswap(inplace=True)
        raw = self._read[name]
        if len(raw) != num * dtype.itemsize:
            raise Refused(f"a storage of {num} elements of {dtype} in a record of {len(raw)} bytes")
        return Leaf(raw.view(dtype))

    def record(self, name: str) -> bytes:
        """The content of a record; "data.pkl" is the pickle that refers to the storages."""
        return self._file.read(self._seek(name))

    def _seek(self, name: str) -> int:
        """Seek to the start of a record's data, after its local header; returns its size in bytes."""
        record = self._records[f"{self._folder}/{name}"]
        self._file.seek(record.header_offset)
        header = self._file.read(LOCAL_HEADER)
        self._file.seek(sum(struct.unpack("<HH", header[NAME_LENGTHS])), io.SEEK_CUR)
        return record.file_size


class _Row:
    """The storages that follow the pickles in sequence: initially empty, filled once their order is known."""

    def __init__(self, file: File) -> None:
        start = file.tell()
        self._file, self._left = file, file.seek(0, io.SEEK_END) - start
        self._storages: dict[str, tuple[Tensor, int]] = {}
        file.seek(start)

    def __call__(self, key: Any) -> Leaf:
        """The storage of a persistent id, or the part of it given by a sixth entry (torch before 0.4)."""
        name, dtype, num = _described(key)
        if name not in self._storages:
            self._left -= num * dtype.itemsize
            if self._left < 0:
                raise Refused(f"a storage of {num} elements of {dtype}, for which the file is too short")
            self._storages[name] = torch.empty(num * dtype.itemsize, dtype=torch.uint8), num
        vector = self._storages[name][0].view(dtype)
        part = key[5] if len(key) > 5 else None
        return Leaf(vector if part is None else vector[part[1] : part[1] + part[2]])

    def fill(self, names: list[str]) -> None:
        """Read the storages in this order, each preceded by its number of elements; ValueError if one is missing."""
        for name in names:
            raw, num = self._storages.pop(name)
            if self._file.read(8) != num.to_bytes(8, "little"):
                raise ValueError(f"the storage '{printable(name, 20)}' is not where it should be")
            _filled(self._file, raw)
        if self._storages:
            raise ValueError(f"{len(self._storages)} storages are not there")
