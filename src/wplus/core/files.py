"""Atomic file writes: to a temporary name beside the target, flushed to disk, then renamed."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from wplus.errors import UserError


def at_home(path: str | Path) -> Path:
    """Expand a leading `~` or `~user` to the home folder; other names that start with `~` are kept."""
    return Path(os.path.expanduser(path))


def ensure_folder(path: str | Path) -> Path:
    """Create `path` (and its parents) and check that it is writable; UserError if not."""
    folder = at_home(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"w")
    except OSError as error:
        raise UserError(f"Cannot write to the output folder '{folder}': {error.strerror or error}.") from error
    return folder


def atomic_write(path: str | Path, write: Callable[[BinaryIO], object], *, is_durable: bool = True) -> Path:
    """Call `write(file)` on a temporary file, flush it to disk and rename it to `path`.

    Readers see the old content or the new one, never a part, even after a kill or a power cut; without `is_durable`
    writing is faster, but the file may be lost in a power cut. A full or read-only disk raises UserError and leaves the
    old file.
    """
    target = at_home(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
        if is_durable and os.name == "posix":  # makes the rename durable; others cannot open folders
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise UserError(f"Cannot write '{target}': {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):  # already removed, or its folder could not be created
            temporary.unlink()
    return target


def write_json(path: str | Path, content: object, *, is_durable: bool = True) -> Path:
    """Write `content` as indented JSON, atomically. NaN and infinities are refused: JSON has none."""
    text = json.dumps(content, indent=2, allow_nan=False, default=str) + "\n"
    return atomic_write(path, lambda file: file.write(text.encode()), is_durable=is_durable)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
