"""The two forms of a file that `torch.save` wrote, a zip, and before version 1.6 pickles and numbers in a row.

Where the pickles are and where the numbers of a storage; what the pickles say is for the reader of pickles alone. No
record is unpacked, and no storage has more numbers than the file.
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

from wplus.adapters.refusal import Refused, printable
from wplus.adapters.safe_globals import DTYPES, Leaf

ZIP_MAGIC = b"PK\x03\x04"
ROW_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickled number
FRAME = re.compile(rb"\x95.{8}", re.DOTALL)  # what pickle's protocols from 4 on begin with
LOCAL_HEADER, NAME_LENGTHS = 30, slice(26, 30)  # bytes before a record in a zip; those with the lengths of what follows

File = BinaryIO | io.BytesIO
Storages = Callable[[Any], Leaf]  # persistent id -> the storage, a vector
Load = Callable[[File, Storages | None], Any]  # reads the one pickle at the file's position


def is_torch(start: bytes) -> bool:
    """Whether a file that begins with these bytes (32 or more) is one that `torch.save` wrote."""
    content = start[2:]
    frame = FRAME.match(content)
    return start.startswith(ZIP_MAGIC) or content[frame.end() if frame else 0 :].startswith(ROW_MAGIC)


def read(file: File, load: Load) -> Any:
    """Content of a torch file, in the form in which `load` returns that of a pickle; tensors are leaves."""
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    file.seek(0)
    if is_zip:
        records = _Zip(file)
        return load(records.pickle(), records)
    for _ in ("magic number", "version", "system"):
        load(file, None)
    storages = _Row(file)
    content = load(file, storages)
    storages.fill(load(file, None))
    return content


def _described(key: Any) -> tuple[str, torch.dtype, int]:
    """Name, dtype and number of elements of the storage that a persistent id stands for."""
    if not (isinstance(key, tuple) and len(key) >= 5 and key[0] == "storage" and key[1] in DTYPES):
        raise Refused("a persistent id that is not of a storage")
    _, dtype, name, _, num, *_ = key
    if not (isinstance(name, str) and isinstance(num, int) and num >= 0):
        raise Refused("a storage without name or number of elements")
    return name, DTYPES[dtype], num


def _filled(file: File, raw: Tensor) -> Tensor:
    """`raw`, bytes, with the file's next ones in it."""
    if file.readinto(memoryview(raw.numpy())) != len(raw):
        raise ValueError(f"{len(raw)} bytes of a storage are not there")
    return raw


class _Zip:
    """The storages of a zip, each a record of its own, read when they are first asked for."""

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
        order = self._bytes("byteorder") if f"{self._folder}/byteorder" in self._records else b""
        self._is_swapped = order.decode() not in ("", sys.byteorder)

    def pickle(self) -> io.BytesIO:
        """The pickle that names the storages."""
        return io.BytesIO(self._bytes("data.pkl"))

    def __call__(self, key: Any) -> Leaf:
        """The storage of a persistent id."""
        name, dtype, num = _described(key)
        if name not in self._read:
            self._read[name] = self._storage(name, dtype)
        raw = self._read[name]
        if len(raw) != num * dtype.itemsize:
            raise Refused(f"a storage of {num} elements of {dtype} in a record of {len(raw)} bytes")
        return Leaf(raw.view(dtype))

    def _storage(self, name: str, dtype: torch.dtype) -> Tensor:
        raw = _filled(self._file, torch.empty(self._seek(f"data/{name}"), dtype=torch.uint8))
        width = dtype.itemsize // (2 if dtype.is_complex else 1)
        if self._is_swapped and width > 1:
            raw.numpy().view(f"u{width}").byteswap(inplace=True)
        return raw

    def _bytes(self, name: str) -> bytes:
        return self._file.read(self._seek(name))

    def _seek(self, name: str) -> int:
        """Go where a record begins, behind the lengths and the texts of its local header; its size in bytes."""
        record = self._records[f"{self._folder}/{name}"]
        self._file.seek(record.header_offset)
        header = self._file.read(LOCAL_HEADER)
        self._file.seek(sum(struct.unpack("<HH", header[NAME_LENGTHS])), io.SEEK_CUR)
        return record.file_size


class _Row:
    """The storages that follow the pickles, one after the other: empty at first, filled when their order is known."""

    def __init__(self, file: File) -> None:
        start = file.tell()
        self._file, self._left = file, file.seek(0, io.SEEK_END) - start
        self._storages: dict[str, tuple[Tensor, int]] = {}
        file.seek(start)

    def __call__(self, key: Any) -> Leaf:
        """The storage of a persistent id, or the part of it that a sixth entry says (torch before 0.4)."""
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
        """Read the storages in this order, each behind its number of elements; ValueError when one is not there."""
        for name in names:
            raw, num = self._storages.pop(name)
            if self._file.read(8) != num.to_bytes(8, "little"):
                raise ValueError(f"the storage '{printable(name, 20)}' is not where it should be")
            _filled(self._file, raw)
        if self._storages:
            raise ValueError(f"{len(self._storages)} storages are not there")
