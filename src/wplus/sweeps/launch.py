"""Bring a sweep to its end: what is done is passed over, what was begun goes on, failed runs wait for `retry`."""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wplus.core.sweep import sharing
from wplus.errors import Interrupted, UserError
from wplus.sweeps.spec import Job, Spec
from wplus.sweeps.state import JobState, SweepFolder, counted

Question = Callable[[str, Sequence[str]], tuple[str, Path]]
"""Verb and overrides -> the digest of what is asked, and the run's folder."""
Command = Callable[[Sequence[str]], int]
"""Arguments of `wplus` -> exit status, in this process."""


T = TypeVar("T")


@dataclass(frozen=True)
class Slot:
    """Where a job runs: the environment of its process."""

    name: str
    environment: Mapping[str, str]


def slots_of(text: str) -> list[Slot]:
    """`cpu:2`: two processes that divide the cores; `gpu:0-3`, `gpu:0,2`: a job each; `1`: none, in this process."""
    kind, _, which = text.partition(":")
    try:
        if kind == "cpu" and int(which) > 0:
            threads = str(max(1, len(os.sched_getaffinity(0)) // int(which)))
            return [Slot(f"cpu:{index}", {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads})
                    for index in range(int(which))]  # fmt: skip
        if kind == "gpu":
            ranges = [part.partition("-") for part in which.split(",")]
            numbers = [n for low, dash, high in ranges for n in range(int(low), int(high if dash else low) + 1)]
            if numbers:
                return [Slot(f"gpu:{index}", {"CUDA_VISIBLE_DEVICES": str(index)}) for index in numbers]
    except ValueError:
        pass
    if text == "1":
        return []
    raise UserError(f"slots must be 1, cpu:N or gpu:A-B, got '{text}'.")


class Launch:
    """One go at a sweep.

    Args:
        folder: of the sweep.
        spec: what it asks.
        question: who is asked for a job's digest and folder.
        slots: as many jobs at a time, each in a process of its own; none: one after the other in this process.
        command: runs a job in this process.
        retry: run failed jobs again.
        max_failures: stop after so many; None: go on with the others.
    """

    def __init__(
        self, folder: SweepFolder, spec: Spec, question: Question, *, slots: Sequence[Slot], command: Command,
        retry: bool = False, max_failures: int | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.question, self.slots, self.command = folder, question, slots, command
        self.retry, self.max_failures = retry, max_failures
        self.jobs = {job.id: job for job in spec.jobs()}
        self.states = {job_id: folder.load(job).look() for job_id, job in self.jobs.items()}
        self._failures, self._received = 0, list[int]()
        self._processes: set[subprocess.Popen[bytes]] = set()

    def resolve(self, job: Job) -> bool:
        """Find out digest and folder of a job whose parents are done; False where they are not yet."""
        state = self.states[job.id]
        if any(self.states[parent].state != "done" for parent in job.parents.values()):
            return False
        folders = {parent: Path(self.states[parent].run_dir) for parent in job.parents.values()}
        overrides = job.overrides(folders)
        if not state.run_dir or state.overrides != overrides:
            state.overrides = overrides
            state.digest, run_dir = self.question(job.stage.verb, overrides)
            state.run_dir = str(run_dir)
            state.look()
        self.folder.save(state)
        return True

    def plan(self) -> str:
        """What would be run, with an estimate from the jobs that are done."""
        for job in self.jobs.values():
            self.resolve(job)
        rows = [f"  {state.id}  {state.state:<11}  {state.label}  {state.run_dir}" for state in self.states.values()]
        return "\n".join([*rows, f"{counted(self.states)}{self._estimate()}"])

    def run(self) -> int:
        """Run what is to be run; 0 when all jobs are done, else 1. `Interrupted` passes when all is saved."""
        waiting = dict(self.jobs)
        running: dict[Future[None], str] = {}
        free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in self.slots:
            free.put(slot)
        try:
            places = ThreadPoolExecutor(len(self.slots)) if self.slots else Here()
            with places as pool, self._passing_signals_on(), sharing(self.folder.path):
                while True:
                    for job in self._ready(waiting, running.values()):
                        del waiting[job.id]
                        running[pool.submit(self._run_in_slot, job, free)] = job.id
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        del running[future]
                        future.result()
            if self._received:
                raise Interrupted(self._received[0])
        finally:
            print(self.summary(), flush=True)
        return 0 if all(state.state == "done" for state in self.states.values()) else 1

    def _ready(self, waiting: dict[str, Job], running: Collection[str]) -> list[Job]:
        """Jobs that can start now, one for each free slot; those that need none are taken off the list."""
        ready: list[Job] = []
        busy = {self.states[job_id].digest for job_id in running}
        for job in list(waiting.values()):
            is_enough = self.max_failures is not None and self._failures >= self.max_failures
            if len(running) + len(ready) >= max(1, len(self.slots)) or is_enough or self._received:
                break
            if not self.resolve(job):
                continue
            state = self.states[job.id].look()
            if state.state == "done" or (state.state == "failed" and not self.retry):
                del waiting[job.id]
            elif state.digest not in busy and state.state != "running":  # equal questions are one run
                busy.add(state.digest)
                ready.append(job)
        return ready

    def _run_in_slot(self, job: Job, free: queue.SimpleQueue[Slot]) -> None:
        state = self.states[job.id]
        state.state, state.exit_status, state.error = "running", None, ""
        self.folder.save(state)
        began = time.monotonic()
        arguments = [job.stage.verb, *state.overrides, f"run_dir={state.run_dir}"]
        log = self.folder.path / "jobs" / f"{state.id}.log"
        status, memory = self._here(arguments) if not self.slots else self._in_process(arguments, log, free)
        state.look()
        state.exit_status, state.peak_memory_mib = status, memory
        if status in (130, 143):
            state.state = "interrupted"
        elif status == 0:
            state.state = "done"  # also of a command without a record of its own
        elif status < 0:
            state.state = "killed"
        else:
            state.state, state.error = "failed", state.error or _last_line(log)
        self.folder.save(state)
        self._say(state, time.monotonic() - began)

    def _here(self, arguments: Sequence[str]) -> tuple[int, float]:
        """In this process, which heeds signals itself: an interrupted job ends the sweep."""
        status = self.command(arguments)
        if status in (130, 143):
            self._received.append(status - 128)
        return status, _mib(resource.getrusage(resource.RUSAGE_SELF))

    def _in_process(self, arguments: Sequence[str], log: Path, free: queue.SimpleQueue[Slot]) -> tuple[int, float]:
        """Exit status and peak memory in MiB of a process of its own, whose words go into `log`."""
        slot = free.get()
        try:
            with open(log, "wb") as file:
                process = subprocess.Popen([sys.executable, "-m", "wplus", *arguments], stdout=file,
                                           stderr=subprocess.STDOUT, start_new_session=True,
                                           env={**os.environ, **slot.environment})  # fmt: skip
                self._processes.add(process)
                _, code, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(code)
                self._processes.discard(process)
            return process.returncode, _mib(usage)
        finally:
            free.put(slot)

    @contextlib.contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the running processes, which save what they have; nothing further starts."""

        def leave(number: int, _: object) -> None:
            self._received.append(number)
            for process in list(self._processes):
                process.send_signal(signal.SIGINT)

        is_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if is_main and self.slots else ()
        before = {number: signal.signal(number, leave) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _say(self, state: JobState, seconds: float) -> None:
        num_done = sum(each.state == "done" for each in self.states.values())
        text = f"[{num_done}/{len(self.states)}] {state.id} {state.label}: {state.state} after {seconds:.0f} s"
        if state.state == "failed":
            self._failures += 1
            where = state.traceback or str(self.folder.path / "jobs" / f"{state.id}.log")
            text += f": {state.error} ({where})"
        print(text + (self._estimate() if state.state == "done" else ""), flush=True)

    def _estimate(self) -> str:
        seconds = [state.seconds for state in self.states.values() if state.state == "done" and state.seconds]
        num_left = sum(state.state not in ("done", "failed") for state in self.states.values())
        if not seconds or not num_left:
            return ""
        minutes = sum(seconds) / len(seconds) * num_left / max(1, len(self.slots)) / 60
        return f"; about {minutes:.0f} min left" if minutes >= 1 else "; less than a minute left"

    def summary(self) -> str:
        """What is done, what failed and why, what is missing."""
        lines = [f"{self.folder.path}: {counted(self.states)}"]
        for state in self.states.values():
            if state.state == "failed":
                lines.append(f"  failed: {state.id} {state.label}: {state.error} ({state.traceback or state.run_dir})")
        missing = [state.id for state in self.states.values() if state.state not in ("done", "failed")]
        return "\n".join([*lines, *([f"  missing: {shlex.join(missing)}"] if missing else [])])


class Here(Executor):
    """Runs what is submitted at once, in this thread."""

    def submit(self, task: Callable[..., T], /, *values: Any, **options: Any) -> Future[T]:
        """A future that has its result."""
        done: Future[T] = Future()
        done.set_result(task(*values, **options))
        return done


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else "no word of why"


def _mib(usage: resource.struct_rusage) -> float:
    return round(usage.ru_maxrss / 1024, 1)  # kilobytes on Linux
