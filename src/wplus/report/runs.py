"""The runs of a page, in parts by the command (or the stage of a sweep) that made them, and the jobs that were lost."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from wplus.errors import UserError
from wplus.sweeps.labels import SEED
from wplus.sweeps.members import Member, names_of, read_member, varying
from wplus.sweeps.spec import Job, Spec
from wplus.sweeps.state import SWEEP, JobState, SweepFolder
from wplus.tracking.local import MESSAGE, read_records, read_result
from wplus.tracking.run_folder import TRACEBACK, read_json
from wplus.tracking.tracker import KIMG

# The order in which things are done; other commands follow, and a sweep's last stage, which answers, goes first.
STORY = ("train", "encoder", "classifier", "invert", "compare", "directions", "edit", "interpolate", "evaluate")
_TRACEBACK_LINES = 40
_LOST = ("failed", "killed", "interrupted")


@dataclass(frozen=True)
class PageRun:
    """One run as the page tells it."""

    member: Member
    label: str
    """What tells it from the others of its part, the seed included."""
    group: str
    """The same without the seed: the row of the table that it belongs to."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.member.folder

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of result.json."""
        return read_result(self.folder)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of records.jsonl."""
        return list(read_records(self.folder))

    @property
    def inputs(self) -> str:
        """What it was made from."""
        found = self.result.get("inputs", {}).items()
        return ", ".join(f"{entry.get('kind', '')} {Path(entry.get('file', '')).name or name}" for name, entry in found)

    @property
    def messages(self) -> list[dict[str, str]]:
        """What was said of the run, in order: when, the sentence, how serious it is."""
        said = [(row[MESSAGE], row.get(KIMG)) for row in self.rows if isinstance(row.get(MESSAGE), Mapping)]
        return [{**message, "at": "" if kimg is None else f"{float(kimg):g} kimg"} for message, kimg in said]


@dataclass(frozen=True)
class Part:
    """Runs of one command."""

    name: str
    """The command, or the stage of a sweep."""
    runs: Sequence[PageRun]
    sweeps: Mapping[Path, Spec] = field(default_factory=dict)
    """Folder -> sweep, of the sweeps that these runs answer."""

    @property
    def specs(self) -> list[Spec]:
        """Of its sweeps."""
        return list(self.sweeps.values())

    @property
    def objective(self) -> str | None:
        """The number that decides, where a sweep says so."""
        return next((name for spec in self.specs for name in spec.objectives), None)

    @property
    def log_keys(self) -> set[str]:
        """The keys that a search looks through by factors."""
        spaces = [spec.search.space for spec in self.specs if spec.search is not None]
        return {key for space in spaces for key, values in space.items()
                if isinstance(values, Mapping) and values.get("log")}  # fmt: skip

    @property
    def table_members(self) -> list[Member]:
        """The finished runs; of a part that has none yet, what there is."""
        members = [run.member for run in self.runs]
        return [each for each in members if each.status == "finished"] or members


@dataclass(frozen=True)
class Lost:
    """A job that came to no end."""

    label: str
    state: str
    folder: str
    error: str
    traceback: str
    """The last lines."""


@dataclass(frozen=True)
class Subject:
    """All that a page is about."""

    parts: Sequence[Part]
    lost: Sequence[Lost]
    sweeps: Mapping[Path, SweepFolder]
    """By their folders."""
    states: Mapping[Path, Mapping[str, JobState]]

    @property
    def commands(self) -> list[str]:
        """That launched the sweeps."""
        return [command for path in self.sweeps if (command := read_json(path / SWEEP).get("command"))]

    @property
    def runs(self) -> list[PageRun]:
        """Of all parts."""
        return [run for part in self.parts for run in part.runs]


def read_subject(folders: Iterable[str | Path]) -> Subject:
    """Runs, sweeps and folders that hold runs, each run once; UserError where there is none."""
    sweeps: dict[Path, SweepFolder] = {}
    found: dict[str, dict[Path, Member]] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise UserError(f"There is no folder '{folder}' to report on: give folders of runs or of sweeps.")
        if (folder / SWEEP).is_file():
            sweeps[folder] = SweepFolder(folder)
        else:
            _collect(found, ((None, path.parent, None) for path in _results(folder)))
    states = {path: sweep.states() for path, sweep in sweeps.items()}
    for path, known in states.items():
        jobs = {job.id: job for job in sweeps[path].jobs()}
        _collect(found, ((_stage(state), Path(state.run_dir), jobs[state.id])
                         for state in known.values() if state.run_dir))  # fmt: skip
    specs = {path: sweep.spec for path, sweep in sweeps.items()}
    parts = [_part(name, list(members.values()), specs) for name, members in found.items()]
    lost = _lost(parts, [job for jobs in states.values() for job in jobs.values()])
    if not parts and not lost:
        raise UserError(f"There are no runs in {', '.join(map(str, folders))}: give folders of runs or of sweeps.")
    return Subject(sorted(parts, key=_place), lost, sweeps, states)


def _results(folder: Path) -> list[Path]:
    own = folder / "result.json"
    return [own] if own.is_file() else sorted(folder.glob("**/result.json"))


def _stage(job: JobState) -> str:
    return job.id.rpartition("-")[0]


def _collect(found: dict[str, dict[Path, Member]], runs: Iterable[tuple[str | None, Path, Job | None]]) -> None:
    """Put each run, once, into its part; without a stage its command names it."""
    known = {path for members in found.values() for path in members}
    for stage, folder, job in runs:
        member = read_member(folder, job)
        if member is not None and folder.resolve() not in known:
            known.add(folder.resolve())
            name = stage or str(read_result(folder).get("job_type") or "run")
            found.setdefault(name, {})[folder.resolve()] = member


def _part(name: str, members: Sequence[Member], specs: Mapping[Path, Spec]) -> Part:
    finished = [member for member in members if member.status == "finished"]
    keys = varying(finished or members)  # those of the table, which finished runs make
    counted = finished or members
    names = dict(zip([member.folder for member in counted], names_of(counted, keys), strict=True))
    groups = [names.get(member.folder, name) for member, name in zip(members, names_of(members, keys), strict=True)]
    seeds = [f" s{member.seed}" if SEED in keys else "" for member in members]
    labels = [f"{group}{seed}" for group, seed in zip(groups, seeds, strict=True)]
    if len(set(labels)) < len(labels):  # the same was asked twice: the folders tell them apart
        labels = [f"{label} ({member.folder.name})" for label, member in zip(labels, members, strict=True)]
    runs = [PageRun(*each) for each in zip(members, labels, groups, strict=True)]
    return Part(name, runs, {path: spec for path, spec in specs.items() if _answering(spec) == name})


def _answering(spec: Spec) -> str:
    """The stage whose runs have the objective."""
    return spec.stage_of(spec.objectives[0]).name if spec.objectives else spec.stages[-1].name


def _place(part: Part) -> tuple[bool, int, str]:
    return not part.sweeps, STORY.index(part.name) if part.name in STORY else len(STORY), part.name


def _lost(parts: Sequence[Part], jobs: Sequence[JobState]) -> list[Lost]:
    """Jobs of sweeps, and runs that stand for themselves, that failed, were killed or interrupted."""
    of_jobs = {Path(job.run_dir).resolve() for job in jobs if job.run_dir}
    lost = [Lost(job.label or job.id, job.state, job.run_dir, job.error, _tail(Path(job.traceback or job.run_dir)))
            for job in jobs if job.state in _LOST]  # fmt: skip
    alone = itertools.chain.from_iterable(part.runs for part in parts)
    return lost + [
        Lost(run.label, run.member.status, str(run.folder), run.result.get("error", ""), _tail(run.folder / TRACEBACK))
        for run in alone if run.member.status in _LOST and run.folder.resolve() not in of_jobs
    ]  # fmt: skip


def _tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-_TRACEBACK_LINES:])
    except OSError:
        return ""
