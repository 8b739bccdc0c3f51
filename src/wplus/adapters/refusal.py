"""What a foreign file is refused for, by name: found without doing anything that the file says."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import torch

ZIP_MAGIC = b"PK\x03\x04"
TORCH_PROTOCOL = 2  # of pickle, which torch's weights-only reader takes
UNKNOWN = "something that torch's weights-only reader refuses"
TORCH_NAMES = frozenset(
    [
        *("collections.OrderedDict", "torch.Size", "torch.device", "torch.serialization._get_layout", "_codecs.encode"),
        *("torch.storage.TypedStorage", "torch.storage.UntypedStorage", "builtins.set", "__builtin__.set"),
        *(f"torch._utils.{name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
        *(f"torch.{name}" for name, value in vars(torch).items() if isinstance(value, torch.dtype)),
        *(f"torch.{name}" for name in vars(torch) if name.endswith("Storage")),
    ]
)  # what torch.save writes of tensors and plain content


class Refused(Exception):
    """Something that a restricted file must not hold; the message names it."""


def printable(text: str, limit: int = 200) -> str:
    """At most `limit` characters without control characters: a file must not write to the terminal either."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


def require_small_memo(file: BinaryIO | io.BytesIO) -> None:
    """Python's unpickler fills memory up to the largest number that a value is remembered by."""
    for num, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > num:
            raise Refused(f"a memo of {argument} entries after {num} instructions")
    file.seek(0)


# --- torch files ----------------------------------------------------------------------------------------------------


def offender(message: str, file: BinaryIO | io.BytesIO, *, known: Iterable[str]) -> str:
    """What torch's reader takes offence at: the name in its message, which is many lines long, or in the file.

    `known` are names that it was told to allow. It stops before any name where a pickle has instructions that it does
    not have, so that the file is looked through for one.
    """
    found = re.search(r"GLOBAL (\S+)", message)
    if found:
        return printable(found.group(1))
    protocol = 0
    try:
        for content in _pickles(file):
            protocol = max(protocol, content[1] if content[:1] == pickle.PROTO else 0)
            require_small_memo(io.BytesIO(content))
            _Names(io.BytesIO(content), known).load()
    except Refused as refused:
        return str(refused)
    except Exception:  # a damaged file can fail in any way
        return UNKNOWN
    if protocol > TORCH_PROTOCOL:
        return f"a pickle of protocol {protocol} (torch's reader takes {TORCH_PROTOCOL}, the default of torch.save)"
    return UNKNOWN


def _pickles(file: BinaryIO | io.BytesIO) -> Iterator[bytes]:
    """The pickles in a torch file: data.pkl of a zip; before version 1.6 four in a row, and the storages follow."""
    file.seek(0)
    if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
        with zipfile.ZipFile(file) as archive:
            yield from (archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))
        return
    file.seek(0)
    for _ in range(4):
        start = file.tell()
        for _ in pickletools.genops(file):
            pass
        size = file.tell() - start
        file.seek(start)
        yield file.read(size)


class _Nothing:
    """What a name in a torch file is taken for when only names are of interest: it can be called, filled, changed."""

    __slots__ = ()

    def __new__(cls, *args: object, **kwargs: object) -> _Nothing:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def extend(self, items: Iterable[object]) -> None:
        pass


class _Names(pickle.Unpickler):
    """Runs a pickle without doing what it says, and refuses the first name that no honest torch file has."""

    def __init__(self, file: io.BytesIO, known: Iterable[str]) -> None:
        super().__init__(file, encoding="latin1")
        self._known = TORCH_NAMES.union(known)

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self._known:
            raise Refused(printable(f"{module}.{name}"))
        return _Nothing

    def persistent_load(self, key: object) -> Any:
        return _Nothing()
