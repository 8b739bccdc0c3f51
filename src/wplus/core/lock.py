"""Locks that give a folder to one process and end with it, recording its pid, host and heartbeat.

On one machine the kernel's lock on the file `.lock` decides; it ends with the process, however that ends. The entry of
a process on another machine counts as long as its heartbeat, the file's modification time, is recent, because not every
network file system supports locks.
"""

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from wplus.errors import UserError

try:
    import fcntl
except ImportError:  # not POSIX: pid and heartbeat decide
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
BEAT = 10  # seconds between heartbeats
STALE = 60.0  # seconds without a heartbeat after which another machine's process counts as dead
# Locks held by this process, which the kernel would grant again. If other code in it opened and closed the file, the
# lock would be lost: that is how POSIX locks work, but they are not inherited by children that outlive a kill.
_held: dict[Path, dict[str, Any]] = {}


class FolderLock:
    """The lock of an existing folder, or of `name` in it."""

    def __init__(self, folder: Path, name: str = LOCK) -> None:
        self.path = folder.resolve() / name
        self._file = -1
        self._ended = threading.Event()

    def acquire(self) -> None:
        """Take the lock and keep it alive.

        UserError if another process holds it; the folder is then left unchanged.
        """
        for attempt in range(5):
            if attempt:
                time.sleep(0.05)  # a process that checks the lock also holds it for a moment
            holder = self._attempt()
            if holder is None:
                break
        else:
            raise UserError(_in_use(self.path, holder or {}))
        own = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        _held[self.path] = own
        with contextlib.suppress(OSError):  # a full disk: the holder cannot be recorded
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(own).encode(), 0)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Release the lock and delete its file."""
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):  # the folder may be gone
            self.path.unlink()
        os.close(self._file)
        del _held[self.path]

    def _attempt(self) -> dict[str, Any] | None:
        """Try to take the lock; returns None on success, otherwise its holder."""
        if self.path in _held:
            return _held[self.path]
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        holder = _living_holder(self._file, exclusive=True)
        if holder is None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(self._file), os.stat(self.path)):
                    return None
            holder = {}  # its owner deleted it in the meantime
        os.close(self._file)
        return holder

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _in_use(path: Path, holder: dict[str, Any]) -> str:
    """Describe the holder of a lock; for another machine also the age of its heartbeat, and when the lock expires."""
    who = "process {pid} on {host}, since {since}".format_map(holder) if holder else "another process"
    rest = "let it end or stop it, or choose another run_dir"
    if holder and holder["host"] != socket.gethostname():
        with contextlib.suppress(OSError):
            age = max(0.0, time.time() - os.stat(path).st_mtime)
            rest += (
                f"; its last sign of life, one comes every {BEAT} s, is {age:.0f} s old: if that machine has died, the "
                f"same command goes on in {STALE - age:.0f} s"
            )
    return f"'{path.parent}' is in use by {who}: {rest}."


def is_held(folder: Path, name: str = LOCK) -> bool:
    """Whether a living process holds the lock of `folder`, or of `name` in it."""
    path = folder.resolve() / name
    if path in _held:
        return True
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _living_holder(file, exclusive=False) is not None
    finally:
        os.close(file)


def _living_holder(file: int, *, exclusive: bool) -> dict[str, Any] | None:
    """The holder of the lock, as far as known; None if the kernel granted it to us and no other machine holds it."""
    holder = _read(file)
    try:
        if fcntl is not None:
            fcntl.lockf(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        decided = fcntl is not None
    except (BlockingIOError, PermissionError):
        return holder
    except OSError:  # this file system does not support locks
        decided = False
    if not holder:
        return None
    if holder["host"] != socket.gethostname():
        return holder if time.time() - os.fstat(file).st_mtime < STALE else None
    return holder if not decided and lives(holder["pid"]) else None


def _read(file: int) -> dict[str, Any]:
    """The contents of the lock file; empty if unreadable."""
    try:
        found = json.loads(os.pread(file, 4096, 0))
        return found if {"pid", "host", "since"} <= found.keys() else {}
    except (OSError, ValueError, AttributeError):
        return {}


def lives(pid: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
