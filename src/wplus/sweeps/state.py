"""The folder of a sweep: sweep.json says what was asked, jobs/<id>.json what became of each job.

A job's run has a folder of its own, which it may share with other sweeps that ask the same; here stands only where it
is. Whether a run is finished, the run's own record says, and its lock whether it lives.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wplus.core.files import write_json
from wplus.errors import UserError
from wplus.sweeps.spec import Job, Spec
from wplus.tracking.environment import git_state, versions
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import read_json, true_status

SWEEP, JOBS = "sweep.json", "jobs"
STATES = ("done", "running", "queued", "interrupted", "killed", "failed")
_OF_RUNS = {"finished": "done"}  # what a run calls otherwise


@dataclass
class JobState:
    """What is known of a job; `state` is one of `STATES`."""

    id: str
    state: str = "queued"
    label: str = ""
    digest: str = ""
    """Of the question that its run answers; empty until the jobs that it reads are done."""
    run_dir: str = ""
    overrides: list[str] = field(default_factory=list)
    exit_status: int | None = None
    error: str = ""
    """The first line."""
    traceback: str = ""
    """The file with the whole of it."""
    seconds: float | None = None
    peak_memory_mib: float | None = None
    wandb_id: str = ""

    def look(self) -> "JobState":
        """Bring it up to date with the run's own record."""
        folder = Path(self.run_dir)
        result = read_result(folder) if self.run_dir else {}
        status = true_status(folder, result.get("status")) if result else None
        if status is not None:
            self.state = _OF_RUNS.get(status, status)
            self.seconds = result.get("seconds")
            self.error = result.get("error", "") if self.state == "failed" else ""
            self.traceback = str(folder / "traceback.txt") if (folder / "traceback.txt").exists() else ""
            run_id = folder / "wandb" / "run-id.txt"
            self.wandb_id = run_id.read_text().strip() if run_id.is_file() else ""
        elif self.state in ("done", "running"):  # its folder was deleted, or it died before it had a record
            self.state = "queued" if self.state == "done" else "killed"
        return self


class SweepFolder:
    """`path`/sweep.json and the states of the jobs. UserError where the folder has another sweep's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, spec: Spec, command: str) -> None:
        """Write what is asked; a sweep that is asked for again keeps its beginning, and may have further jobs."""
        known = read_json(self.path / SWEEP)
        first = known.get("spec")
        if first is not None and not _goes_on(first, spec.as_dict()):
            about = _axes_text(first)
            raise UserError(f"'{self.path}' is another sweep, over {about}: give this one a name of its own.")
        made = {"created": known.get("created", time.strftime("%Y-%m-%dT%H:%M:%S%z")), "question": spec.question}
        content = {**made, "command": command, "spec": spec.as_dict(), "git": git_state(), "versions": versions()}
        if {**known, **content} != known:
            write_json(self.path / SWEEP, content)

    @property
    def spec(self) -> Spec:
        """UserError where there is no sweep."""
        known = read_json(self.path / SWEEP)
        if "spec" not in known:
            raise UserError(f"'{self.path}' is not the folder of a sweep: it has no {SWEEP}.")
        return Spec.of(known["spec"], name=self.path.name)

    def load(self, job: Job) -> JobState:
        """As it was noted last, a new one for a new job."""
        known = read_json(self._file(job.id))
        fields = {key: value for key, value in known.items() if key in JobState.__annotations__}
        return JobState(**{"id": job.id, **fields, "label": job.label})

    def save(self, state: JobState) -> None:
        """Note it, where it has changed."""
        if read_json(self._file(state.id)) != (content := json.loads(json.dumps(asdict(state)))):
            write_json(self._file(state.id), content)

    def states(self) -> dict[str, JobState]:
        """All jobs of the sweep as they are now, by id."""
        return {job.id: self.load(job).look() for job in self.spec.jobs()}

    def _file(self, job_id: str) -> Path:
        return self.path / JOBS / f"{job_id}.json"


def counted(states: Mapping[str, JobState]) -> str:
    """`20 done, 1 failed of 24`."""
    counts = Counter(state.state for state in states.values())
    return f"{', '.join(f'{counts[name]} {name}' for name in STATES if counts[name])} of {len(states)}"


def _goes_on(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether `now` asks the same commands over the same keys: values may be added."""
    return [_shape(stage) for stage in before["stages"]] == [_shape(stage) for stage in now["stages"]]


def _shape(stage: Mapping[str, Any]) -> tuple[Any, ...]:
    keys = {*stage["axes"], *(key for point in stage["points"] for key in point)}
    return stage["verb"], stage["name"], sorted(stage["overrides"]), sorted(keys)


def _axes_text(spec: Mapping[str, Any]) -> str:
    keys = dict.fromkeys(key for stage in spec["stages"] for key in [*stage["axes"], *stage["points"][0]])
    return ", ".join(keys) or "nothing"
