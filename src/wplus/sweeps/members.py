"""Reads folders of runs as members of a table: their settings, their results, and what varies between them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wplus.core.claim import question
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.sweeps.labels import SEED, Point, plain_text, short_keys, short_texts, value_text
from wplus.sweeps.spec import Job, ancestors
from wplus.sweeps.state import SWEEP, JobState, SweepFolder
from wplus.tracking.local import numbers_in, read_result
from wplus.tracking.run_folder import read_json, true_status

ALONE = "all runs"  # the name if all runs have the same configuration


@dataclass(frozen=True)
class Member:
    """One run."""

    folder: Path
    command: str
    """train, invert, ...; empty if not recorded."""
    status: str
    asked: Mapping[str, Any]
    """Dotted key -> value of its configuration, without bookkeeping keys."""
    values: Mapping[str, Mapping[str, Any]]
    """Name -> entry, as `MetricResult.entry()`."""
    seconds: float | None = None
    job: Job | None = None
    """Its job in the sweep that it was read from."""
    earlier: Sequence[Path] = ()
    """The runs of earlier stages that it is based on, whose metrics it inherits."""
    inherited: frozenset[str] = frozenset()
    """Names of the inherited values."""

    @property
    def seed(self) -> int:
        """The seed; 0 if the command has none."""
        seed = self.asked.get(SEED, 0)
        return seed if isinstance(seed, int) else 0

    def numbers(self) -> dict[str, float]:
        """The numeric values, without those derived from settings."""
        return {name: float(entry["value"]) for name, entry in self.values.items()
                if isinstance(entry.get("value"), int | float) and not name.startswith("derived/")}  # fmt: skip

    @cached_property
    def items(self) -> dict[str, dict[str, float]]:
        """Per-item (e.g. per-image) measurements: item -> full name of the metric -> value."""
        found: dict[str, dict[str, float]] = {}
        full = {name.rpartition("/")[2]: name for name in self.numbers()}
        for folder in (*self.earlier, self.folder):
            content = read_json(folder / "table.json")
            told = {column for column, each in content.get("info", {}).items() if each.get("per_item", True)} or full
            rows = content.get("rows", {})
            for item, row in rows.items() if isinstance(rows, dict) else ():
                found.setdefault(item, {}).update({
                    full[column]: float(value) for column, value in row.items()
                    if column in full and column in told and isinstance(value, int | float)
                })  # fmt: skip
        return found


def read_members(folders: Iterable[Path]) -> list[Member]:
    """Read the members in folders of runs, sweeps, or containing runs, each once. UserError if there are none.

    For a sweep with several stages, the members are the runs of the last stage that records the objective.
    """
    found = members_in(folders)
    if not found:
        raise UserError(f"There are no runs in {', '.join(map(str, folders))}: give folders of runs or of sweeps.")
    return found


def members_in(folders: Iterable[Path]) -> list[Member]:
    """Like `read_members`, but returns an empty list if there are none."""
    found: dict[Path, Member] = {}
    for folder in folders:
        for path, job, earlier in _runs(folder):
            member = read_member(path, job, earlier)
            if member is not None:
                found.setdefault(path.resolve(), member)
    return list(found.values())


def read_member(folder: Path, job: Job | None = None, earlier: Sequence[Path] = ()) -> Member | None:
    """Read one member; None for a folder without a run. It inherits metrics of `earlier` runs that it lacks.

    For a sweep's `job` the settings are its point, which has the settings of the jobs it reads from instead of their
    folders: inversions by encoders with several seeds are one configuration.
    """
    result = read_result(folder)
    if not result:
        return None
    claim = read_json(folder / "run.json")
    asked = claim.get("question") or question(result.get("config", {}))
    if job is not None:
        read = job.stage.reading
        own = {key: value for key, value in asked.items() if not any(_is_below(key, each) for each in read)}
        asked = own | dict(job.point)
    status = true_status(folder, result.get("status")) or "unknown"
    command = claim.get("kind") or result.get("job_type", "")
    theirs: dict[str, Any] = {}
    for one in earlier:
        theirs |= numbers_in(read_result(one))
    own = numbers_in(result)
    return Member(folder, command, status, asked, theirs | own, result.get("seconds"), job, earlier,
                  frozenset(theirs.keys() - own.keys()))  # fmt: skip


def _is_below(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.")


def varying(members: Sequence[Member]) -> list[str]:
    """The keys that differ between members, the seed last.

    For one sweep these are its own keys; otherwise all settings, with a class counted without its options.
    """
    jobs = [member.job for member in members if member.job is not None]
    is_sweep = len(jobs) == len(members) and len({job.id for job in jobs}) == len(jobs)
    asked = [job.point for job in jobs] if is_sweep else [member.asked for member in members]
    keys = sorted({key for each in asked for key in each})
    differ = [key for key in keys if len({value_text(member.asked.get(key)) for member in members}) > 1]
    roots = {key.rpartition(".")[0] for key in differ if key.endswith("_target_")}
    told = [key for key in differ if key.endswith("_target_") or not any(key.startswith(f"{root}.") for root in roots)]
    return sorted((key for key in told if not key.endswith("_partial_")), key=lambda key: key == SEED)


def names_of(members: Sequence[Member], keys: Sequence[str]) -> list[str]:
    """A name for each member, from these keys without the seed: "space=w+ perceptual=0.1"; members that differ only in
    their seed share a name. Keys are shortened to their last part, and long numbers to four digits, if they remain
    distinct."""
    words = short_keys([key.removesuffix("._target_") for key in keys if key != SEED])
    texts = {key: short_texts((member.asked.get(key) for member in members), key) for key in keys}
    alone = members[0].folder.name if len(members) == 1 else ALONE

    def shown(member: Member, key: str) -> str:
        value = member.asked.get(key)
        return texts[key][value_text(value)] if isinstance(value, float) else short_value(value)

    return [
        " ".join(f"{word}={shown(member, key)}"
                 for key in keys if key != SEED and (word := words[key.removesuffix("._target_")])) or alone
        for member in members
    ]  # fmt: skip


def matches(member: Member, point: Point) -> bool:
    """Whether a member has these values; 1 equals 1.0."""
    pairs = [(member.asked.get(key), value) for key, value in point.items()]
    return all(own == value or value_text(own) == value_text(value) for own, value in pairs)


def short_key(key: str) -> str:
    """The last word of a dotted key: `perceptual` of `inverter.loss_weights.perceptual`."""
    return key.removesuffix("._target_").rpartition(".")[2]


def short_value(value: object) -> str:
    """A value as shown in a table; classes of this package by their name."""
    text = plain_text(value)
    return text.rpartition(".")[2] if text.startswith("wplus.") else text


def infos(members: Iterable[Member]) -> dict[str, MetricInfo]:
    """The meanings of metrics, as recorded by the members."""
    entries = itertools.chain.from_iterable(member.values.items() for member in members)
    return {name: MetricInfo(meaning=entry["meaning"], unit=entry.get("unit", ""),
                             direction=entry.get("direction", "neither"))
            for name, entry in entries if entry.get("meaning")}  # fmt: skip


def _runs(folder: Path) -> list[tuple[Path, Job | None, Sequence[Path]]]:
    """(folder, job of a sweep, folders of the jobs it is based on, first stage first) of each run."""
    if (folder / SWEEP).is_file():
        sweep = SweepFolder(folder)
        spec, states, jobs = sweep.spec, sweep.states(), {job.id: job for job in sweep.jobs()}
        stage = spec.stage_of(spec.objectives[0]).name if spec.objectives else spec.stages[-1].name
        return [(Path(states[job.id].run_dir), job, _folders(ancestors(job, jobs), states))
                for job in jobs.values() if job.stage.name == stage and states[job.id].run_dir]  # fmt: skip
    if (folder / "result.json").is_file():
        return [(folder, None, ())]
    return [(path.parent, None, ()) for path in sorted(folder.glob("**/result.json"))]


def _folders(job_ids: Iterable[str], states: Mapping[str, JobState]) -> list[Path]:
    """The run folders of those jobs that have one."""
    return [Path(states[job_id].run_dir) for job_id in job_ids if states[job_id].run_dir]
