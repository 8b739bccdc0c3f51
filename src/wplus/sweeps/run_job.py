"""Runs one job of a sweep, in this process or in its own: exit status, error message, and termination."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from typing import Protocol

from wplus.core.memory import peak_memory, peak_mib
from wplus.core.surroundings import environment
from wplus.core.sweep import PRUNED
from wplus.sweeps.slots import Slot, without_tasks

Command = Callable[[Sequence[str]], tuple[int, str]]
"""Runs `wplus` in this process: arguments -> (exit status, last message)."""
_POLL = 0.2  # seconds
ASKING = signal.SIGTERM  # asks a job to end: processes started by a shell in the background ignore SIGINT
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # negative if a signal arrives before Python handles it


class Watch(Protocol):
    """Monitors the record of a job."""

    def __call__(self) -> bool:
        """Called periodically; returns whether the job should end early."""

    def flush(self) -> bool:
        """Called when the job has ended."""


@dataclass(frozen=True)
class Ended:
    """How a job ended: exit status as in a shell; negative: the signal that killed it."""

    status: int
    words: str
    memory_mib: float | None
    was_pruned: bool = False


def run_here(command: Command, arguments: Sequence[str], variables: Mapping[str, str], watch: Watch | None) -> Ended:
    """Run a job in this process, with the environment and `sys.argv` set as if it had been started separately."""
    with _command_line(["wplus", *arguments], variables), peak_memory() as memory, _Watcher(watch) as watcher:
        try:
            status, words = command(arguments)
        except KeyboardInterrupt:
            if not watcher.has_asked:
                raise
            status, words = 130, ""  # the interrupt came after the command had ended
    most = None if memory.most is None else round(memory.most, 1)
    return Ended(status, words, most, watcher.has_asked and status in STOPPED)


class Processes:
    """The processes of jobs; `interrupt` ends them."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ends = False

    def run(self, arguments: Sequence[str], variables: Mapping[str, str], slot: Slot, log: Path, watch: Watch | None
            ) -> Ended:  # fmt: skip
        """Run a job in its own process in this slot, with output to `log`."""
        if self._ends:
            return Ended(130, "", 0.0)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "wplus", *arguments], stdout=file, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
                env={**without_tasks(os.environ), **variables, **slot.environment},
            )  # fmt: skip
        self._running.add(process)
        if self._may_have_ended():
            process.send_signal(ASKING)
        usage, was_pruned = _wait(process, watch)
        self._running.discard(process)
        return Ended(process.returncode, _last_line(log), peak_mib(usage), was_pruned)

    def _may_have_ended(self) -> bool:
        return self._ends  # possibly set by a signal meanwhile

    def interrupt(self, number: int = ASKING) -> None:
        """Ask all processes to save and end; no further ones are started."""
        self._ends = True
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


class _Watcher:
    """A thread that interrupts this process's job when `watch` returns true."""

    def __init__(self, watch: Watch | None) -> None:
        self.has_asked = False
        self._watch, self._ended, self._lock = watch, threading.Event(), threading.Lock()

    def __enter__(self) -> _Watcher:
        if self._watch is not None:
            threading.Thread(target=self._run, args=(self._watch,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._ended.set()

    def _run(self, watch: Watch) -> None:
        while not self._ended.wait(_POLL):
            if watch():
                with self._lock:
                    if not self._ended.is_set():
                        self.has_asked = True
                        os.environ[PRUNED] = "1"
                        os.kill(os.getpid(), ASKING)
                return


def _wait(process: subprocess.Popen[bytes], watch: Watch | None) -> tuple[struct_rusage, bool]:
    """Wait for a process to end; returns its resource usage, and whether `watch` ended it."""
    was_asked = False
    while True:
        pid, code, usage = os.wait4(process.pid, 0 if watch is None else os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(code)
            return usage, was_asked and process.returncode in STOPPED
        if watch is not None and not was_asked and watch():
            was_asked = True
            process.send_signal(ASKING)
        time.sleep(_POLL)


@contextlib.contextmanager
def _command_line(argv: Sequence[str], variables: Mapping[str, str]) -> Iterator[None]:
    """Set the arguments and environment variables of a command run in this process."""
    before, sys.argv = sys.argv, list(argv)
    try:
        with environment(variables):
            yield
    finally:
        sys.argv = before
        os.environ.pop(PRUNED, None)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else "no reason given"
