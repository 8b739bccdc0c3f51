"""Reading other projects' files without importing or running anything that they name or contain.

A pickle is a program. Of the functions it may call, this reader knows a short list, each replaced by an inert one of
our own (`inert`) that rebuilds numbers, tensors, arrays and plain containers. Any other name is refused, and its call
with it. What these calls make is counted (`budget`), and so are the instructions, before any is run (`instructions`):
a file fills no more memory than a few times its own size, and a hundred megabytes.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.adapters import torch_file
from wplus.adapters.memory_limit import budget_for, spend
from wplus.adapters.opcode_check import require_harmless
from wplus.adapters.refusal import Refused, printable, refusals
from wplus.adapters.safe_globals import Inert, Leaf, Persistent, known_globals


def read_pickle(path: str | Path) -> Any:
    """Content of a pickle as plain containers, numbers, strings, tensors, numpy arrays and `Persistent` records.

    UserError when the file cannot be read, is no pickle, or names a class or function other than the ones that such
    content needs; the message holds the name.
    """
    with refusals(path), open(path, "rb") as file, budget_for(os.fstat(file.fileno()).st_size):
        return _unwrapped(_load(file), {})


def read_torch(path: str | Path) -> Any:
    """Content of a file that `torch.save` wrote, in the same form, tensors on the CPU.

    UserError when the file is damaged or names anything but tensors, plain containers, options and numbers.
    """
    with refusals(path), open(path, "rb") as file, budget_for(os.fstat(file.fileno()).st_size):
        return _unwrapped(torch_file.read(file, _load), {})


def as_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """The entries of `content` that are tensors or numeric arrays, as tensors."""
    return {name: torch.as_tensor(value) for name, value in content.items() if isinstance(value, (Tensor, np.ndarray))}


# --- pickles --------------------------------------------------------------------------------------------------------


class _Reader(pickle.Unpickler):
    """Python's unpickler, which resolves every name by `find_class`; ours knows `_KNOWN` and nothing else."""

    def __init__(self, file: torch_file.File, storages: torch_file.Storages | None) -> None:
        super().__init__(file, encoding="latin1")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise Refused(printable(f"{module}.{name}")) from None

    def persistent_load(self, key: object) -> Any:
        if self._storages is None:
            raise Refused("a persistent id")
        return self._storages(key)


def _load(file: torch_file.File, storages: torch_file.Storages | None = None) -> Any:
    """The pickle at the file's position; `storages` are those that its persistent ids stand for."""
    require_harmless(file)
    return _Reader(file, storages).load()


def _storage(payload: bytes) -> Leaf:
    """A storage within a pickle is a torch file of its own."""
    spend(len(payload))
    if not torch_file.is_torch(payload[:32]):
        raise Refused(f"a storage of its own making ({_offence(payload)})")
    storage = torch_file.read(io.BytesIO(payload), _load)
    if not (isinstance(storage, Leaf) and isinstance(storage.value, Tensor) and storage.value.ndim == 1):
        raise Refused(f"a storage that holds a {type(storage).__name__}")
    return storage


def _offence(payload: bytes) -> str:
    """What another pickle in the place of a storage would have called, for the refusal."""
    try:
        return f"a {type(_load(io.BytesIO(payload))).__name__}"
    except Refused as refused:
        return str(refused)
    except Exception:
        return "no torch file"


_KNOWN = known_globals() | {("torch.storage", "_load_from_bytes"): Inert(_storage)}


def _unwrapped(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    """Replace leaves by what they hold, in place where possible; `done` guards against cycles and shared parts."""
    if isinstance(value, Leaf):
        return value.value
    if not isinstance(value, (dict, list, tuple, Persistent)):
        return value
    if id(value) in done:
        return done[id(value)][1]
    done[id(value)] = (value, value)  # keeps the value alive, or its id could be given away
    if isinstance(value, dict):
        value.update({key: _unwrapped(item, done) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = [_unwrapped(item, done) for item in value]
    elif isinstance(value, Persistent):
        _unwrapped(value.state, done)
    else:
        done[id(value)] = (value, tuple(_unwrapped(item, done) for item in value))
    return done[id(value)][1]
