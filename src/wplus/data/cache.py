"""Disk cache for arrays that are slow to compute: one file each, written atomically and verified when read."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wplus.core.files import at_home, atomic_write, ensure_folder
from wplus.errors import UserError

_DIGEST_BYTES = 32


def cache_folder(cache_dir: str | None = None) -> Path:
    """`cache_dir` if given, else the environment variable WPLUS_CACHE, else ~/.cache/wplus. Nothing is created."""
    return at_home(cache_dir or os.environ.get("WPLUS_CACHE") or Path.home() / ".cache" / "wplus")


def cached_array(
    name: str,
    key: Mapping[str, Any],
    build: Callable[[], np.ndarray],
    *,
    shape: tuple[int, ...],
    cache_dir: str | None = None,
) -> np.ndarray:
    """Return the uint8 array of `shape` that `build()` computes, from the cache if it holds an intact copy.

    `key` must contain everything the array depends on. A file that does not match the SHA-256 at its end is rebuilt.
    """
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder(cache_dir) / f"{name}-{digest}.bin"
    if path.exists():
        kept = _read(path, shape)
        if kept is not None:
            return kept
        warnings.warn(f"The cache file '{path}' is damaged and is made again.", stacklevel=2)
    try:
        ensure_folder(path.parent)
    except UserError as error:
        raise UserError(f"{error} It is for the cache; set WPLUS_CACHE or data.cache_dir to another one.") from error
    content = np.ascontiguousarray(build(), dtype=np.uint8)
    assert content.shape == shape, f"{name}: built {content.shape}, announced {shape}"
    closing = hashlib.sha256(content.data).digest()
    atomic_write(path, lambda file: file.writelines([content.reshape(-1).data, closing]))
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
