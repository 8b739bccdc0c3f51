"""The folder of a sweep: sweep.json has its specification, jobs/<id>.json the state of each job.

A job's run has its own folder, which may be shared with other sweeps that ask the same; only its path is stored here.
Whether a run is finished is determined by its own record, and whether it is alive by its lock.
"""

import json
import os
import shlex
import socket
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from wplus.core.files import ensure_folder, write_json
from wplus.core.lock import FolderLock, is_held
from wplus.errors import UserError
from wplus.sweeps.labels import Point, value_text
from wplus.sweeps.spec import Job, Spec
from wplus.tracking.environment import git_state, versions
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import CLAIM, TRACEBACK, read_json

SWEEP, JOBS = "sweep.json", "jobs"
STATES = ("done", "pruned", "running", "queued", "interrupted", "killed", "failed")
ENDED = ("done", "pruned", "failed")
_OF_RUNS = {"finished": "done"}  # status of a run -> state of its job
_LOCK, _TIME = ".sweep.lock", "%Y-%m-%dT%H:%M:%S%z"
_PATIENCE = 60.0  # seconds to wait for another process that is recording a trial


class Taken(UserError):
    """Raised if another launch is running the job."""


@dataclass
class JobState:
    """The known state of a job; `state` is one of `STATES`."""

    id: str
    state: str = "queued"
    sweep: str = ""
    """The folder of the sweep."""
    label: str = ""
    point: dict[str, Any] = field(default_factory=dict)
    """What varies."""
    digest: str = ""
    """Digest of the question that its run answers; empty until the jobs it reads from are done."""
    claim: str = ""
    """The digest that its run writes into the folder that it claims."""
    run_dir: str = ""
    overrides: list[str] = field(default_factory=list)
    allocation: str = ""
    """The allocation it was submitted to while it has not started: "slurm 4711_0"."""
    has_record: bool = True
    """False for commands without a record, such as report: only this state tells that it was done."""
    process: str = ""
    """Host and process id of the launch that is running it, or last ran it."""
    started: str = ""
    exit_status: int | None = None
    error: str = ""
    """First line of the error."""
    traceback: str = ""
    """File with the complete error."""
    seconds: float | None = None
    peak_memory_mib: float | None = None
    """Peak of the process while the job ran; for a job without its own process this includes what earlier jobs left."""
    wandb_id: str = ""

    def look(self, *, is_mine: bool = False) -> "JobState":
        """Update it from the run's own record and from its lock, which is not another launch's if it `is_mine`."""
        folder = Path(self.run_dir)
        result = read_result(folder) if self.run_dir and self._is_own(folder) else {}
        if not is_mine and is_held(*self._lock):
            self.state = "running"
        elif "status" in result:
            self._take_over(folder, result)
        elif self.state == "running" and not is_mine:
            self.state = "killed"  # killed before it had a record
        elif self.state == "done" and self.has_record:
            self.state = "queued"  # its folder was deleted
        return self

    def begin(self) -> None:
        """Mark it as started now, by this process or a child."""
        self.state, self.exit_status, self.error, self.traceback, self.allocation = "running", None, "", "", ""
        self.started, self.process = time.strftime(_TIME), f"{socket.gethostname()} {os.getpid()}"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Reserve the run for this process during the block; raises `Taken` if another process has it."""
        place, name = self._lock
        lock = FolderLock(ensure_folder(place), name)
        try:
            lock.acquire()
        except UserError as error:
            raise Taken(str(error)) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def _lock(self) -> tuple[Path, str]:
        """Location of the lock: beside the run's folder, which sweeps may share, or else beside this state."""
        if not self.run_dir:
            return Path(self.sweep) / JOBS, f".{self.id}.launched"
        folder = Path(self.run_dir)
        return folder.parent, f".{folder.name}.launched"

    def _is_own(self, folder: Path) -> bool:
        """Whether the folder belongs to this run, or does not say."""
        return read_json(folder / CLAIM).get("digest", self.claim) == self.claim or not self.claim

    def _take_over(self, folder: Path, result: Mapping[str, Any]) -> None:
        status = result["status"]
        if not (self.state == "pruned" and status == "interrupted"):  # pruning interrupts a run
            self.state = _OF_RUNS.get(status, status)
        self.seconds = result.get("seconds")
        self.error = result.get("error", "") if self.state == "failed" else ""
        self.traceback = str(folder / TRACEBACK) if (folder / TRACEBACK).exists() else ""
        run_id = folder / "wandb" / "run-id.txt"
        self.wandb_id = run_id.read_text().strip() if run_id.is_file() else ""


class SweepFolder:
    """`path`/sweep.json and the states of the jobs. UserError if the folder has another sweep's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, spec: Spec) -> None:
        """Raise UserError if the folder has another sweep; only reads."""
        first = read_json(self.path / SWEEP).get("spec")
        changed = "" if first is None else _difference(first, spec.as_dict())
        if changed:
            raise UserError(f"'{self.path}' is another sweep: {changed}; give this one a name of its own, sweep=NAME.")

    def claim(self, spec: Spec, command: str) -> None:
        """Write the specification; a relaunched sweep keeps its original one and may have additional jobs."""
        self.check(spec)
        ensure_folder(self.path)
        with _waiting_for(FolderLock(self.path, _LOCK)):
            known = read_json(self.path / SWEEP)
            made = {"created": known.get("created", time.strftime(_TIME)), "question": spec.question}
            asked = spec.as_dict()
            if spec.search is not None and "spec" in known:  # keep the points already tried
                asked["search"]["points"] = known["spec"]["search"]["points"]
            content = {**made, "command": command, "spec": asked, "git": git_state(), "versions": versions()}
            if "spec" in known and known["spec"] != json.loads(json.dumps(asked)):  # keep the previous one readable
                before = {"command": known["command"], "spec": known["spec"]}
                content["earlier"] = [*known.get("earlier", []), before]
            if {**known, **content} != known:
                write_json(self.path / SWEEP, {**known, **content})

    @property
    def spec(self) -> Spec:
        """Read the specification; UserError if there is no sweep."""
        known = read_json(self.path / SWEEP)
        if "spec" not in known:
            raise UserError(f"'{self.path}' is not the folder of a sweep: it has no {SWEEP}.")
        return Spec.of(known["spec"], name=self.path.name)

    def jobs(self, spec: Spec | None = None) -> list[Job]:
        """The jobs of the sweep, or of a new `spec` for it: jobs keep the numbers that they had before."""
        return (spec or self.spec).jobs(_Numbers(read_json(path) for path in (self.path / JOBS).glob("*.json")))

    @contextmanager
    def adding(self) -> Iterator[list[Point]]:
        """Exclusive access to the points of a search; points added in the block are saved."""
        with _waiting_for(FolderLock(self.path, _LOCK)):
            known = read_json(self.path / SWEEP)
            points = known["spec"]["search"]["points"]
            num = len(points)
            yield points
            if len(points) > num:
                write_json(self.path / SWEEP, known)

    def with_trials(self, spec: Spec) -> Spec:
        """The specification with the points that its search has requested so far."""
        known = (read_json(self.path / SWEEP).get("spec") or {}).get("search") or {}
        points = known.get("points", [])
        return spec if spec.search is None else replace(spec, search=replace(spec.search, points=points))

    def load(self, job: Job) -> JobState:
        """The state last saved, or a new one for a new job."""
        known = read_json(self._file(job.id))
        fields = {key: value for key, value in known.items() if key in JobState.__annotations__}
        about = {"sweep": str(self.path), "label": job.label, "point": dict(job.point)}
        return JobState(**{"id": job.id, **fields, **about})

    def save(self, state: JobState) -> None:
        """Save the state if it has changed. A power failure may undo it: the run's own record is authoritative."""
        if read_json(self._file(state.id)) != (content := json.loads(json.dumps(asdict(state)))):
            write_json(self._file(state.id), content, is_durable=False)

    def states(self) -> dict[str, JobState]:
        """Current states of all jobs of the sweep, by id."""
        return {job.id: self.load(job).look() for job in self.jobs()}

    def left_out(self, asked: Collection[str]) -> str:
        """A line naming jobs of earlier launches that are not among the last launch's; empty if there are none."""
        known = sorted(path.stem for path in (self.path / JOBS).glob("*.json") if path.stem not in asked)
        return f"  no longer asked: {shlex.join(known)}" if known else ""

    def log(self, job_id: str) -> Path:
        """The log file of a job's process."""
        return self.path / JOBS / f"{job_id}.log"

    def _file(self, job_id: str) -> Path:
        return self.path / JOBS / f"{job_id}.json"


class _Numbers:
    """Assigns each job its number within its stage: as in an earlier launch; for a new job its place, on which launches
    at the same time agree, or the next free number if that is taken."""

    def __init__(self, known: Iterator[Mapping[str, Any]]) -> None:
        self._known: dict[tuple[str, str, int], int] = {}
        self._next: Counter[str] = Counter()
        self._seen: Counter[tuple[str, str]] = Counter()
        numbered = [(*each["id"].rpartition("-")[::2], each) for each in known if "point" in each and "id" in each]
        for stage, text, each in sorted(numbered, key=lambda item: (item[0], int(item[1]))):
            self._known[self._key(stage, each["point"])] = int(text)
            self._next[stage] = int(text) + 1
        self._seen.clear()

    def __call__(self, stage: str, point: Point, place: int) -> int:
        key = self._key(stage, point)
        if key not in self._known:
            is_taken = any(number == place for (other, *_), number in self._known.items() if other == stage)
            self._known[key] = self._next[stage] if is_taken else place
            self._next[stage] = max(self._next[stage], self._known[key] + 1)
        return self._known[key]

    def _key(self, stage: str, point: Point) -> tuple[str, str, int]:
        """A key for a job; equal points are distinguished by their count."""
        text = " ".join(f"{key}={value_text(point[key])}" for key in sorted(point))
        self._seen[stage, text] += 1
        return stage, text, self._seen[stage, text]


def counted(states: Mapping[str, JobState]) -> str:
    """`20 done, 1 failed of 24`."""
    counts = Counter(state.state for state in states.values())
    words = ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
    return f"{words or 'nothing'} of {len(states)}"


@contextmanager
def _waiting_for(lock: FolderLock) -> Iterator[None]:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            lock.acquire()
            break
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe how two sweeps differ; empty if only values were added or removed."""
    names = [[f"{stage['name']} ({stage['verb']})" for stage in each["stages"]] for each in (before, now)]
    if names[0] != names[1]:
        return f"its stages were {', '.join(names[0])} and are now {', '.join(names[1])}"
    pairs = list(zip(before["stages"], now["stages"], strict=True))
    searched = [sorted((each.get("search") or {}).get("space", {})) for each in (before, now)]
    return "; ".join(
        f"{what} of {stage['name']} had {', '.join(gone) or 'nothing else'} and now {', '.join(new) or 'nothing else'}"
        for stage, what, gone, new in [
            *((old, "the overrides", *_apart(old["overrides"], new["overrides"])) for old, new in pairs),
            *((old, "what varies", *_apart(_keys(old), _keys(new))) for old, new in pairs),
            (pairs[0][0], "the search", *_apart(*searched)),
        ]
        if gone or new
    )


def _apart(before: Sequence[str], now: Sequence[str]) -> tuple[list[str], list[str]]:
    """Items only in the first, and items only in the second."""
    return [each for each in before if each not in now], [each for each in now if each not in before]


def _keys(stage: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*stage["axes"], *(key for point in stage["points"] for key in point)]))
