"""Arrays that are slow to make and cheap to keep: one file each, written whole or not at all, checked when read."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from wplus.core.files import atomic_write, ensure_folder
from wplus.errors import UserError

_DIGEST_BYTES = 32


def cache_folder(cache_dir: str | None = None) -> Path:
    """`cache_dir` when given, else the environment's WPLUS_CACHE, else ~/.cache/wplus. Nothing is created."""
    return Path(cache_dir or os.environ.get("WPLUS_CACHE") or Path.home() / ".cache" / "wplus").expanduser()


def cached_array(
    name: str,
    key: Mapping[str, Any],
    build: Callable[[], np.ndarray],
    *,
    shape: tuple[int, ...],
    cache_dir: str | None = None,
) -> np.ndarray:
    """The uint8 array of `shape` that `build()` makes, from the cache when a whole copy is there.

    `key` must hold everything that the content depends on. A file that is damaged (its SHA-256 closes it) is made
    anew with a warning.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(cache_dir) / f"{name}-{digest}.bin"
    if path.exists():
        content = _read(path, shape)
        if content is not None:
            return content
        warnings.warn(f"The cache file '{path}' is damaged and is made again.", stacklevel=2)
    _check_writable(path.parent)
    content = np.ascontiguousarray(build(), dtype=np.uint8)
    assert content.shape == shape, f"{name}: built {content.shape}, announced {shape}"
    _write(path, content)
    return content


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError:
        return None
    if raw.size != math.prod(shape) + _DIGEST_BYTES:
        return None
    content, digest = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:].tobytes()
    return content.reshape(shape) if hashlib.sha256(content.data).digest() == digest else None


def _write(path: Path, content: np.ndarray) -> None:
    def write(file: BinaryIO) -> None:
        file.write(content.data.cast("B") if content.size else b"")
        file.write(hashlib.sha256(content.data).digest())

    atomic_write(path, write)


def _check_writable(folder: Path) -> None:
    try:
        ensure_folder(folder)
    except UserError as error:
        raise UserError(
            f"The cache folder '{folder}' cannot be written to; set WPLUS_CACHE or data.cache_dir to one that can."
        ) from error
