"""Run a sweep to completion: finished jobs are skipped, started ones resumed, failed ones left to `retry`."""

from __future__ import annotations

import contextlib
import queue
import shlex
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from wplus.core.sweep import HERE, LABEL
from wplus.errors import Interrupted, UserError, check_choice
from wplus.sweeps.run_job import ASKING, STOPPED, Command, Ended, Processes, run_here
from wplus.sweeps.slots import Slot
from wplus.sweeps.spec import Job, Spec
from wplus.sweeps.state import ENDED, JobState, SweepFolder, Taken, counted
from wplus.sweeps.summary import num_jobs, summary, time_left
from wplus.sweeps.trials import Trials, direction
from wplus.tracking.local import read_result

T = TypeVar("T")
_LOOK = 2.0  # seconds between checks of other launches


class Asked(NamedTuple):
    """The resolved identity of a job: the digest of its question, the run's folder, and the digest written there."""

    digest: str
    run_dir: Path | str
    claim: str = ""


Question = Callable[[str, Sequence[str]], tuple[Any, ...]]
"""Verb and overrides -> the fields of `Asked`."""


class Launch:
    """One launch of a sweep; concurrent launches, even on several machines, share its jobs.

    Args:
        folder: the sweep's folder.
        spec: the sweep.
        question: resolves a job to its `Asked`.
        slots: one concurrent job per slot, each in its own process; if empty, jobs run sequentially in this process.
        command: runs a job in this process.
        retry: run failed jobs again.
        max_failures: stop after this many failures; None: continue with the other jobs.
        only: the ids of the jobs to run; None: all.
        is_coming: whether another launch is running a job; jobs that depend on it wait.
    """

    def __init__(
        self, folder: SweepFolder, spec: Spec, question: Question, *, slots: Sequence[Slot], command: Command,
        retry: bool = False, max_failures: int | None = None, only: Collection[str] | None = None,
        is_coming: Callable[[JobState], bool] = lambda state: state.state == "running",
    ) -> None:  # fmt: skip
        self.folder, self.question, self.slots, self.command = folder, question, slots, command
        self.spec = folder.with_trials(spec)
        self.retry, self.max_failures, self.only, self.is_coming = retry, max_failures, only, is_coming
        self.jobs: dict[str, Job] = {}
        self.states: dict[str, JobState] = {}
        self.processes = Processes()
        self._failures, self._received, self._has_objective = 0, list[int](), False
        self._owners: dict[str, JobState] = {}
        self._resolved: set[str] = set()
        self._trials: Trials | None = None
        self._add(self.spec)
        for job_id in only or ():
            check_choice("--only", job_id, self.jobs)

    def _add(self, spec: Spec) -> list[Job]:
        """Add new jobs with their states, and return them."""
        new = [job for job in self.folder.jobs(spec) if job.id not in self.jobs]
        self.jobs |= {job.id: job for job in new}
        self.states |= {job.id: self.folder.load(job).look() for job in new}
        return new

    def resolve(self, job: Job) -> bool:
        """Determine the digest and folder of a job whose parents are done; False if they are not done yet."""
        state = self.states[job.id]
        if any(self.states[parent].state != "done" for parent in job.needs):
            return False
        if state.id in self._resolved:
            return True
        state.overrides = job.overrides({parent: Path(self.states[parent].run_dir) for parent in job.needs})
        asked = Asked(*self.question(job.stage.verb, state.overrides))
        is_known = (asked.digest, str(asked.run_dir), asked.claim) == (state.digest, state.run_dir, state.claim)
        if asked.digest != state.digest:
            state.state = "queued"  # the state belongs to another question
        state.digest, state.run_dir, state.claim = asked.digest, str(asked.run_dir), asked.claim
        owner = self._owners.setdefault(state.run_dir, state)
        if owner.digest != state.digest and state.run_dir:
            raise UserError(
                f"{owner.id} ({owner.label}) and {state.id} ({state.label}) would both write to '{state.run_dir}': "
                "leave run_dir out, or let it differ as in run_dir=out/${seed}."
            )
        if not is_known:
            state.look()
        self._resolved.add(state.id)
        return True

    def resolve_all(self) -> None:
        """Resolve all jobs whose parents are done; UserError for others that could not be composed even then."""
        for job in self.jobs.values():
            if not self.resolve(job):
                folders = {parent: Path(f"runs/{parent}") for parent in job.needs}
                self.question(job.stage.verb, job.overrides(folders))

    def plan(self) -> str:
        """List what would run, with a time estimate from finished jobs or from earlier runs of the same command."""
        self.resolve_all()
        rows = [f"  {state.id}  {state.state:<11}  {state.label}  {state.run_dir}" for state in self.states.values()
                if self.only is None or state.id in self.only]  # fmt: skip
        search = self.spec.search
        num_left = 0 if search is None else max(0, search.trials - len(search.points))
        trials = [f"  and up to {num_left} trials of a search"] if num_left else []
        left = time_left(self.spec, self.jobs, self.states, num_slots=len(self.slots), with_earlier=True)
        return "\n".join([*rows, *trials, f"{counted(self.states)}{left}"])

    def run(self) -> int:
        """Run all pending jobs; returns 0 if all jobs are done, else 1. Re-raises `Interrupted` once all is saved."""
        self.resolve_all()  # errors are reported before anything runs
        for job_id, state in self.states.items():
            if self.folder.load(self.jobs[job_id]).digest != state.digest:  # otherwise others may have noted more since
                self.folder.save(state)
        if self.spec.search is not None:
            self._trials = Trials(self.folder, self.spec)
        running: dict[Future[bool], Job] = {}
        free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for slot in self.slots:
            free.put(slot)
        try:
            with ThreadPoolExecutor(len(self.slots)) if self.slots else Here() as pool, self._passing_signals_on():
                try:
                    self._loop(pool, running, free)
                except UserError:  # the other jobs need not continue
                    self.processes.interrupt()
                    raise
            if self._received:
                raise Interrupted(self._received[0])
        finally:
            print(summary(self.folder, self.spec, self.jobs, self.states), flush=True)
        return 0 if all(self._is_fine(state) for state in self.states.values()) else 1

    def _loop(self, pool: Executor, running: dict[Future[bool], Job], free: queue.SimpleQueue[Slot]) -> None:
        waiting = {job_id: job for job_id, job in self.jobs.items() if self.only is None or job_id in self.only}
        has_said = False
        while True:
            self._tell()
            for job in self._ready(waiting, [self.states[each.id].digest for each in running.values()]):
                del waiting[job.id]
                running[pool.submit(self._run_in_slot, job, free)] = job
            if not running:
                others = [] if self._ends else self._others(waiting)
                if not others:
                    break
                if not has_said:
                    print(f"Waiting for what others run: {shlex.join(others)}", flush=True)
                has_said = True
                time.sleep(_LOOK)
            for future in wait(running, timeout=_LOOK, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if not future.result():
                    waiting[job.id] = job
                self._check_objectives(job)

    @property
    def _ends(self) -> bool:
        """Whether no further jobs should start."""
        return bool(self._received) or (self.max_failures is not None and self._failures >= self.max_failures)

    def _ready(self, waiting: dict[str, Job], running: Collection[str]) -> list[Job]:
        """Jobs that can start now, one for each free slot; jobs that need not run are removed from `waiting`."""
        ready: list[Job] = []
        busy, room = set(running), max(1, len(self.slots)) - len(running)
        for job in list(waiting.values()):
            if room <= len(ready) or self._ends:
                return ready
            try:
                if not self.resolve(job):
                    continue
            except UserError as error:
                del waiting[job.id]
                self._refuse(job, error)
                continue
            state = self.states[job.id].look()
            if state.state in ("done", "pruned") or (state.state == "failed" and not self.retry):
                del waiting[job.id]
                self.folder.save(state)
                self._check_objectives(job)
            elif state.digest not in busy and state.state != "running":  # equal questions share a run
                busy.add(state.digest)
                ready.append(job)
        if self._trials is not None and len(ready) < room and not self._ends and self._trials.ask():
            self.spec = self._trials.spec
            waiting |= {job.id: job for job in self._add(self.spec)}
            return [*ready, *self._ready({**waiting}, [*busy])]
        return ready

    def _refuse(self, job: Job, error: UserError) -> None:
        """Mark a job as failed before it starts."""
        state, log = self.states[job.id], self.folder.log(job.id)
        state.state, state.error, state.traceback = "failed", str(error), str(log)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{error}\n")
        self.folder.save(state)
        self._say(state, 0.0)

    def _others(self, waiting: dict[str, Job]) -> list[str]:
        """The jobs run by other launches that this one waits for."""
        wanted = {each for job in waiting.values() for each in (job.id, *job.needs)}
        own = self.only is None
        found = [each for each in wanted if (own or each not in waiting) and self.is_coming(self._again(each))]
        return sorted(found or [each for each in waiting if self._again(each).state == "running"])

    def _again(self, job_id: str) -> JobState:
        """Reload a state, which others may have changed."""
        state = self.folder.load(self.jobs[job_id]).look()
        if state.digest == self.states[job_id].digest or not self.states[job_id].digest:
            self.states[job_id] = state
        return state

    def _run_in_slot(self, job: Job, free: queue.SimpleQueue[Slot]) -> bool:
        """Run the job; False if another launch is about to run it."""
        state = self.states[job.id]
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(state.taken())
            except Taken:
                return False
            noted = self.folder.load(job).look(is_mine=True)
            if state.look(is_mine=True).state == "done" or (noted.state in ENDED and state.state not in ENDED):
                self.states[job.id] = noted if noted.digest == state.digest else state
                return True
            self._run(job, state, free)
        return True

    def _run(self, job: Job, state: JobState, free: queue.SimpleQueue[Slot]) -> None:
        state.begin()
        self.folder.save(state)
        began = time.monotonic()
        where = [f"run_dir={state.run_dir}"] if state.run_dir else []
        arguments, environment = [job.stage.verb, *state.overrides, *where], {LABEL: state.label}
        watch = None if self._trials is None else self._trials.watch(job, self.jobs, Path(state.run_dir))
        log = self.folder.log(state.id)
        if self.slots:
            slot = free.get()
            try:
                ended = self.processes.run(arguments, environment, slot, log, watch)
            finally:
                free.put(slot)
        else:
            ended = run_here(self.command, arguments, {**environment, HERE: "1"}, watch)
            if ended.status in (130, 143) and not ended.was_pruned:
                self._received.append(ended.status - 128)  # jobs here take the signals: end the sweep
        if watch is not None:
            watch.flush()
        self._note(state, ended, log, time.monotonic() - began)
        self._say(state, time.monotonic() - began)

    def _note(self, state: JobState, ended: Ended, log: Path, seconds: float) -> None:
        state.look(is_mine=True)
        state.exit_status, state.peak_memory_mib = ended.status, ended.memory_mib
        state.seconds = state.seconds or round(seconds, 1)
        state.has_record = bool(state.run_dir) and bool(read_result(state.run_dir))
        if ended.was_pruned:
            state.state = "pruned"
        elif ended.status in STOPPED:
            state.state = "interrupted"
        elif ended.status == 0:
            state.state = "done"  # even without a record of its own
        elif ended.status < 0:
            state.state = "killed"
        else:
            state.state, state.error = "failed", state.error or ended.words
            if not self.slots and not state.traceback:
                with open(log, "a", encoding="utf-8") as file:
                    file.write(f"{ended.words}\n")
            state.traceback = state.traceback or str(log)
        self.folder.save(state)

    @contextlib.contextmanager
    def _passing_signals_on(self) -> Iterator[None]:
        """On Ctrl-C and SIGTERM, ask the running processes to save and exit, and start nothing further.

        A second signal kills them.
        """

        def leave(number: int, _: object) -> None:
            self.processes.interrupt(signal.SIGKILL if self._received else ASKING)
            self._received.append(number)

        is_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if is_main and self.slots else ()
        before = {number: signal.signal(number, leave) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self) -> None:
        if self._trials is not None:
            self._trials.tell(self.jobs, self.states)

    def _check_objectives(self, job: Job) -> None:
        """Raise UserError after the first finished job if an objective is not among its metrics."""
        state, stage = self.states[job.id], job.stage.name
        own = [name for name in self.spec.objectives if self.spec.stage_of(name).name == stage]
        if state.state == "done" and own and not self._has_objective:
            self._has_objective = all(direction(Path(state.run_dir), name) for name in own)

    def _say(self, state: JobState, seconds: float) -> None:
        done = f"{sum(self._is_fine(each) for each in self.states.values())}/{num_jobs(self.spec, self.states)}"
        text = f"[{done}] {state.id} {state.label}: {state.state} after {seconds:.0f} s"
        if state.state == "failed":
            self._failures += 1
            text += f": {state.error} ({state.traceback})"
        if self._is_fine(state):
            text += time_left(self.spec, self.jobs, self.states, num_slots=len(self.slots))
        print(text, flush=True)

    @staticmethod
    def _is_fine(state: JobState) -> bool:
        return state.state in ("done", "pruned")


class Here(Executor):
    """An executor that runs tasks immediately in this thread."""

    def submit(self, task: Callable[..., T], /, *values: Any, **options: Any) -> Future[T]:
        """Run the task; returns a completed future."""
        done: Future[T] = Future()
        done.set_result(task(*values, **options))
        return done
