"""Notes between the jobs of a sweep (-m), whichever process each runs in: files in a folder of the sweep."""

import contextlib
import importlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

FOLDER = "WPLUS_SWEEP"  # the environment's variable with the folder of notes, and who made it
KEYS = "WPLUS_SWEPT"  # the environment's variable with the keys that have several values
SHARED = "WPLUS_SWEEP_DIR"  # the environment's variable with the folder that all jobs of a sweep share
INTERRUPTED = "interrupted"  # by which signal
_SIGNALS = {signal.SIGINT, signal.SIGTERM}
# Processes that workers need: where they are started, the signals are let through again.
_TRACKERS = ("joblib.externals.loky.backend.resource_tracker", "multiprocessing.resource_tracker")


@contextlib.contextmanager
def sweep(keys: Sequence[str], *, in_processes: bool) -> Iterator[None]:
    """A sweep over `keys` for the time of the block.

    Where its jobs run in processes of their own, Ctrl-C and SIGTERM become a note that they heed. Both are then blocked
    here and, by inheritance, in the workers, which would die of a Ctrl-C between two jobs and take the others with
    them; a thread waits for them. A second one ends everything at once.
    """
    with tempfile.TemporaryDirectory(prefix="wplus-sweep-") as folder:
        os.environ |= {FOLDER: f"{os.getpid()}:{folder}", KEYS: ",".join(keys)}
        ended, handlers, mask = threading.Event(), {}, None
        if in_processes and hasattr(signal, "pthread_sigmask"):
            for name in _TRACKERS:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name).ensure_running()
            handlers = {number: signal.signal(number, _heed) for number in _SIGNALS}  # for threads of an earlier time
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            threading.Thread(target=_wait_for_signals, args=(ended,), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            del os.environ[FOLDER], os.environ[KEYS]


@contextlib.contextmanager
def sharing(folder: Path) -> Iterator[None]:
    """Jobs that are started in the block, here or in processes of their own, share `folder`."""
    before = os.environ.get(SHARED)
    os.environ[SHARED] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(SHARED)
        if before is not None:
            os.environ[SHARED] = before


def shared_folder() -> Path | None:
    """What the jobs of this sweep share; None for a command that stands alone."""
    return Path(os.environ[SHARED]) if SHARED in os.environ else None


def _wait_for_signals(ended: threading.Event) -> None:
    while not ended.is_set():
        received = signal.sigtimedwait(_SIGNALS, 0.2)
        if received is not None:
            _heed(received.si_signo)


def _heed(number: int, _: object = None) -> None:
    if noted(INTERRUPTED) is not None:
        os._exit(128 + number)
    note(INTERRUPTED, str(int(number)))


def swept() -> list[str]:
    """The keys that differ between the jobs of the sweep that this process takes part in."""
    return [key for key in os.environ.get(KEYS, "").split(",") if key]


def is_worker() -> bool:
    """Whether this process runs jobs for the one that the sweep was started in."""
    made_by = os.environ.get(FOLDER, "").partition(":")[0]
    return made_by not in ("", str(os.getpid()))


def note(name: str, text: str = "") -> None:
    """Leave a note; without a sweep, or where its folder is out of reach, nothing happens."""
    path = _path(name)
    if path is not None:
        with contextlib.suppress(OSError):
            path.write_text(text)


def noted(name: str) -> str | None:
    """A note's text, None without it."""
    path = _path(name)
    with contextlib.suppress(OSError):
        return None if path is None else path.read_text()
    return None


def _path(name: str) -> Path | None:
    folder = os.environ.get(FOLDER, "").partition(":")[2]
    return Path(folder, name) if folder else None
