"""Arrays that are kept on disk for their key: one .npz of plain arrays each, written whole, never unpickled."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from wplus.core.files import atomic_write

_KEY = "key"  # the array that holds the key itself


def load_arrays(folder: str | Path, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays kept for `key`, which is plain values; None when there are none, or the file is damaged."""
    path, description = _path(folder, key)
    try:
        # From memory: numpy leaves a file open that turns out to be no zip.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return arrays if str(arrays.pop(_KEY, None)) == description else None


def save_arrays(folder: str | Path, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Keep `arrays` for `key`."""
    path, description = _path(folder, key)
    return atomic_write(path, lambda file: np.savez(file, **{_KEY: np.array(description)}, **arrays))


def _path(folder: str | Path, key: Mapping[str, Any]) -> tuple[Path, str]:
    description = json.dumps(dict(key), sort_keys=True, default=str)
    name = hashlib.sha256(description.encode()).hexdigest()[:16]
    return Path(folder).expanduser() / f"features-{name}.npz", description
