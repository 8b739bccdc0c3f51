"""The runs of a page, grouped into parts by command (or stage of a sweep), and the jobs that were lost."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

# The usual order of commands; others follow, and the stage that answers a sweep goes first.
STORY = ("train", "encoder", "classifier", "invert", "compare", "directions", "edit", "interpolate", "evaluate")
_TRACEBACK_LINES = 40
_LOST = ("failed", "killed", "interrupted")


@dataclass(frozen=True)
class PageRun:
    """One run as shown on the page."""

    member: Member
    label: str
    """Label that distinguishes it from the other runs of its part, including the seed."""
    group: str
    """The label without the seed: the row of the table that it belongs to."""

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.member.folder

    @cached_property
    def result(self) -> dict[str, Any]:
        """The content of result.json."""
        return read_result(self.folder)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of records.jsonl."""
        return list(read_records(self.folder))

    def table_rows(self, key: str) -> Iterator[dict[str, Any]]:
        """Rows of the tables that it wrote as the file `key`, by column; none of those that cannot be read."""
        for file in self.result.get("files", {}).get(key, ()):
            content = read_json(self.folder / file)
            for row in content.get("rows", ()) if "columns" in content else ():
                yield dict(zip(content["columns"], row, strict=True))

    @property
    def inputs(self) -> str:
        """The files that it was made from."""
        found = self.result.get("inputs", {}).items()
        return ", ".join(f"{entry.get('kind', '')} {Path(entry.get('file', '')).name or name}" for name, entry in found)

    @property
    def messages(self) -> list[dict[str, str]]:
        """Messages about the run, in order: time, text, level."""
        said = [(row[MESSAGE], row.get(KIMG)) for row in self.rows if isinstance(row.get(MESSAGE), Mapping)]
        return [{**message, "at": "" if kimg is None else f"{float(kimg):g} kimg"} for message, kimg in said]


@dataclass(frozen=True)
class Part:
    """Runs of one command."""

    name: str
    """The command, or the stage of a sweep."""
    runs: Sequence[PageRun]
    sweeps: Mapping[Path, Spec] = field(default_factory=dict)
    """Folder -> sweep, for the sweeps that these runs answer."""

    @property
    def specs(self) -> list[Spec]:
        """The specs of its sweeps."""
        return list(self.sweeps.values())

    @property
    def objective(self) -> str | None:
        """The objective, if a sweep has one."""
        return next((name for spec in self.specs for name in spec.objectives), None)

    @property
    def log_keys(self) -> set[str]:
        """The keys that a search samples logarithmically."""
        spaces = [spec.search.space for spec in self.specs if spec.search is not None]
        return {key for space in spaces for key, values in space.items()
                if isinstance(values, Mapping) and values.get("log")}  # fmt: skip

    @property
    def table_members(self) -> list[Member]:
        """The finished runs, or all runs if none has finished yet."""
        members = [run.member for run in self.runs]
        return [each for each in members if each.status == "finished"] or members


@dataclass(frozen=True)
class Lost:
    """A job that did not finish."""

    label: str
    state: str
    folder: str
    error: str
    traceback: str
    """Last lines of its output."""


@dataclass(frozen=True)
class Subject:
    """The subject of a page."""

    parts: Sequence[Part]
    lost: Sequence[Lost]
    sweeps: Mapping[Path, SweepFolder]
    """The sweeps, by folder."""
    states: Mapping[Path, Mapping[str, JobState]]

    @property
    def commands(self) -> list[str]:
        """The commands that launched the sweeps."""
        return [command for path in self.sweeps if (command := read_json(path / SWEEP).get("command"))]

    @property
    def runs(self) -> list[PageRun]:
        """The runs of all parts."""
        return [run for part in self.parts for run in part.runs]


def read_subject(folders: Iterable[str | Path]) -> Subject:
    """Read runs, sweeps and folders that contain runs, each run once; UserError if there is none."""
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
    """Add each run once to its part, named after the stage or, without one, after the command."""
    known = {path for members in found.values() for path in members}
    for stage, folder, job in runs:
        member = read_member(folder, job)
        if member is not None and folder.resolve() not in known:
            known.add(folder.resolve())
            name = stage or str(read_result(folder).get("job_type") or "run")
            found.setdefault(name, {})[folder.resolve()] = member


def _part(name: str, members: Sequence[Member], specs: Mapping[Path, Spec]) -> Part:
    finished = [member for member in members if member.status == "finished"]
    keys = varying(finished or members)  # as in the table, which contains only finished runs
    counted = finished or members
    names = dict(zip([member.folder for member in counted], names_of(counted, keys), strict=True))
    groups = [names.get(member.folder, name) for member, name in zip(members, names_of(members, keys), strict=True)]
    seeds = [f" s{member.seed}" if SEED in keys else "" for member in members]
    labels = [f"{group}{seed}" for group, seed in zip(groups, seeds, strict=True)]
    if len(set(labels)) < len(labels):  # equal configurations are distinguished by their folders
        labels = [f"{label} ({member.folder.name})" for label, member in zip(labels, members, strict=True)]
    runs = [PageRun(*each) for each in zip(members, labels, groups, strict=True)]
    return Part(name, runs, {path: spec for path, spec in specs.items() if _answering(spec) == name})


def _answering(spec: Spec) -> str:
    """The stage whose runs record the objective."""
    return spec.stage_of(spec.objectives[0]).name if spec.objectives else spec.stages[-1].name


def _place(part: Part) -> tuple[bool, int, str]:
    return not part.sweeps, STORY.index(part.name) if part.name in STORY else len(STORY), part.name


def _lost(parts: Sequence[Part], jobs: Sequence[JobState]) -> list[Lost]:
    """Jobs of sweeps and standalone runs that failed, were killed or interrupted."""
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
