"""Any folders of runs as members of one table: what each was asked, what it found, what varies between them."""

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

ALONE = "all runs"  # the name of the only configuration of several runs


@dataclass(frozen=True)
class Member:
    """One run."""

    folder: Path
    command: str
    """train, invert, ...; empty where its record does not say."""
    status: str
    asked: Mapping[str, Any]
    """Dotted key -> value of its configuration, without bookkeeping."""
    values: Mapping[str, Mapping[str, Any]]
    """Name -> entry, as `MetricResult.entry()`."""
    seconds: float | None = None
    job: Job | None = None
    """Of the sweep that it was read from."""
    earlier: Sequence[Path] = ()
    """The runs of earlier stages that it comes from, whose numbers are its numbers, too."""
    inherited: frozenset[str] = frozenset()
    """Names of the values that are theirs."""

    @property
    def seed(self) -> int:
        """0 where the command has none."""
        seed = self.asked.get(SEED, 0)
        return seed if isinstance(seed, int) else 0

    def numbers(self) -> dict[str, float]:
        """The values that are numbers; what was derived from settings is none."""
        return {name: float(entry["value"]) for name, entry in self.values.items()
                if isinstance(entry.get("value"), int | float) and not name.startswith("derived/")}  # fmt: skip

    @cached_property
    def items(self) -> dict[str, dict[str, float]]:
        """What was measured item by item (image by image): item -> the number's full name -> value."""
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
    """Of runs, of sweeps, and of folders that hold runs, each once. UserError where there is none.

    Of a sweep of several stages the runs of the last one that records the objective are members.
    """
    found = members_in(folders)
    if not found:
        raise UserError(f"There are no runs in {', '.join(map(str, folders))}: give folders of runs or of sweeps.")
    return found


def members_in(folders: Iterable[Path]) -> list[Member]:
    """As `read_members`, of whatever there is."""
    found: dict[Path, Member] = {}
    for folder in folders:
        for path, job, earlier in _runs(folder):
            member = read_member(path, job, earlier)
            if member is not None:
                found.setdefault(path.resolve(), member)
    return list(found.values())


def read_member(folder: Path, job: Job | None = None, earlier: Sequence[Path] = ()) -> Member | None:
    """None for a folder that no run has written to. Numbers of `earlier` runs are there where it has none of that name.

    Of a sweep's `job` counts its point, which has what the jobs were asked whose folders it reads, and not those
    folders: inversions by encoders of several seeds are one configuration.
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

    Of one sweep these are its own; of other runs all that they were asked, of a class and its options the choice alone.
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
    """A name for each member of these keys but for the seed: "space=w+ perceptual=0.1"; members that differ in their
    seed alone have one name. A key is cut to its last part as long as no other ends alike, a long number to four
    digits as long as no other begins alike."""
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
    """Whether a member has these values; 1 is 1.0."""
    pairs = [(member.asked.get(key), value) for key, value in point.items()]
    return all(own == value or value_text(own) == value_text(value) for own, value in pairs)


def short_key(key: str) -> str:
    """The last word of a dotted key: `perceptual` of `inverter.loss_weights.perceptual`."""
    return key.removesuffix("._target_").rpartition(".")[2]


def short_value(value: object) -> str:
    """A value as a table shows it, of this package's classes the name."""
    text = plain_text(value)
    return text.rpartition(".")[2] if text.startswith("wplus.") else text


def infos(members: Iterable[Member]) -> dict[str, MetricInfo]:
    """What the numbers mean, as the members say."""
    entries = itertools.chain.from_iterable(member.values.items() for member in members)
    return {name: MetricInfo(meaning=entry["meaning"], unit=entry.get("unit", ""),
                             direction=entry.get("direction", "neither"))
            for name, entry in entries if entry.get("meaning")}  # fmt: skip


def _runs(folder: Path) -> list[tuple[Path, Job | None, Sequence[Path]]]:
    """Folder, job of a sweep, and the folders of the jobs that this one comes from, the first stage first."""
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
    """Of the jobs that have one."""
    return [Path(states[job_id].run_dir) for job_id in job_ids if states[job_id].run_dir]
