"""The specification of a sweep: stages of commands, the values that vary, and the resulting jobs."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from wplus.errors import UserError, check_choice, check_number
from wplus.sweeps.labels import SEED, Point, labels, value_text
from wplus.sweeps.search import Search

# In an override, {invert} is the run folder of one job of an earlier stage, {invert.all} those of all its jobs,
# {invert.labels} their labels.
OF_STAGE = re.compile(r"(?<!\$)\{(\w+)(\.all|\.labels)?\}")  # ${key} refers to another value of the configuration
_OF_TRAINING = ("val", "probe", "health", "progress")  # prefixes of metrics that trainings record besides their own
Number = Callable[[str, Point, int], int]
"""(stage, point, number of earlier jobs in the stage) -> the job's number in the stage."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command with all its variations.

    Args:
        verb: train, invert, interpolate, evaluate, ...
        name: name for references from later stages; default: the verb.
        overrides: KEY=VALUE of every job. `{name}` is the run folder of a job in the earlier stage of that name,
            with a job here for every job there. `{name.all}` stands for the list of the folders of all its jobs,
            `{name.labels}` for their labels: such a stage waits for all of them.
        axes: key -> values; all combinations are run.
        points: combinations that do not form a grid, each a mapping of key -> value; all axes are run at each.
        seeds: number of seeds, 0, 1, ..., or a list of them; None: the command's own.
        where: key -> values: only read from jobs of earlier stages with one of these values.
    """

    verb: str
    name: str = ""
    overrides: Sequence[str] = ()
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    points: Sequence[Point] = ({},)
    seeds: int | Sequence[int] | None = None
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.verb)
        if isinstance(self.seeds, int):
            check_number("seeds", self.seeds, lowest=1, whole=True)
        for kind in ("axes", "where"):
            for key, values in getattr(self, kind).items():
                if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                    raise UserError(f"{kind}.{key} must be a list of values, got {values!r}.")

    @property
    def earlier(self) -> list[str]:
        """The stages from which each job reads one folder."""
        return list(dict.fromkeys(name for each in self.overrides for name, of in OF_STAGE.findall(each) if not of))

    @property
    def gathered(self) -> list[str]:
        """The stages from which each job reads all folders."""
        return list(dict.fromkeys(name for each in self.overrides for name, of in OF_STAGE.findall(each) if of))

    @property
    def reading(self) -> list[str]:
        """The keys whose values are folders of earlier stages."""
        return [each.partition("=")[0].lstrip("+") for each in self.overrides if OF_STAGE.search(each)]

    def reads(self, jobs: Sequence["Job"]) -> bool:
        """Whether this stage reads from these jobs of earlier stages."""
        asked = {key: value_text(value) for job in jobs for key, value in job.point.items()}
        return all(key in asked and asked[key] in map(value_text, values) for key, values in self.where.items())

    def variations(self, trials: Sequence[Point] = ({},)) -> Iterator[Point]:
        """Yield the point of each job; `trials` are the points requested by a search."""
        seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
        axes = {**self.axes, **({} if seeds is None else {SEED: list(seeds)})}
        for trial, point in itertools.product(trials, self.points or ({},)):
            for values in itertools.product(*axes.values()):
                yield {**point, **trial, **dict(zip(axes, values, strict=True))}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep.

    Attributes:
        id: id within the sweep, `<stage>-<number>`.
        point: what varies, including in the jobs whose folders it reads.
        own: the part of `point` that is passed to this command.
        label: what varies among the stage's jobs, for display.
        parents: stage -> id of the job whose folder it reads.
        gathers: stage -> id -> label, for stages of which it reads all jobs.
    """

    id: str
    stage: Stage
    point: Point
    own: Point
    label: str
    parents: Mapping[str, str] = field(default_factory=dict)
    gathers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def needs(self) -> list[str]:
        """The ids of all jobs whose folders it reads."""
        return [*self.parents.values(), *(each for jobs in self.gathers.values() for each in jobs)]

    def overrides(self, folders: Mapping[str, Path]) -> list[str]:
        """The command's arguments; `folders` are the run folders of the jobs it needs, by id."""

        def filled(found: re.Match[str]) -> str:
            name, of = found.groups()
            if not of:
                return str(folders[self.parents[name]])
            jobs = self.gathers[name]
            words = jobs.values() if of == ".labels" else (str(folders[job_id]) for job_id in jobs)
            return "[{}]".format(",".join("'{}'".format(word.replace("'", r"\'")) for word in words))

        fixed = [OF_STAGE.sub(filled, override) for override in self.stage.overrides]
        return [*fixed, *(f"{key}={value_text(value)}" for key, value in self.own.items())]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A sweep.

    Args:
        name: name of the sweep and its folder.
        question: the question to answer, a sentence.
        stages: the stages, run one after the other.
        objective: the metric to optimize, by its full name: `invert/psnr_db`, `val/fd_effnet_lite0`, ...; several for a
            multi-objective search.
        direction: whether lower or higher values of the objective are better, for W&B's sweeps, which need it before
            any run has recorded it; everything else uses what the runs record.
        baseline: values of the varying keys that define the method to compare with.
        margin: differences of the objective up to it count as equivalent, which is also tested; or metric -> margin.
        across: keys that distinguish data sets or resolutions: each has its own baseline, and they are not averaged.
        search: values to search for; the first stage is run at each trial.
        sizes: smaller versions of the sweep by name, each with the fields of `wplus.sweeps.sizes.Size`.
    """

    name: str
    stages: Sequence[Stage]
    question: str = ""
    objective: str | Sequence[str] | None = None
    direction: Literal["lower", "higher"] | None = None
    baseline: Point = field(default_factory=dict)
    margin: float | Mapping[str, float] | None = None
    across: Sequence[str] = ()
    search: Search | None = None
    sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.name):
            raise UserError(f"A sweep's name must be letters, digits, '.', '_', '+' and '-', got '{self.name}'.")
        known: list[str] = []
        for stage in self.stages:
            for name in [*stage.earlier, *stage.gathered]:
                check_choice(f"{{{name}}} in the overrides of {stage.name}", name, known)
            if stage.name in known:
                raise UserError(f"Two stages are called '{stage.name}': give each a name of its own.")
            known.append(stage.name)
        if not known:
            raise UserError("A sweep must have at least one stage, with a verb.")
        check_choice("direction", self.direction, ("lower", "higher", None))
        for objective in self.objectives:
            check_choice(f"The section of objective={objective}", objective.partition("/")[0], self._sections())
        self._check_margin()
        if isinstance(self.across, str):
            raise UserError(f"across must be a list of keys, got '{self.across}'.")
        if self.search is not None:
            self._check_search(self.search)

    @property
    def objectives(self) -> list[str]:
        """The objectives, as a list."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective or ())

    def stage_of(self, number: str) -> Stage:
        """The last stage whose runs record this metric."""
        section = number.partition("/")[0]
        verb = "train" if section in _OF_TRAINING else section
        return next((stage for stage in reversed(self.stages) if stage.verb == verb), self.stages[-1])

    def jobs(self, number: Number = lambda stage, point, count: count) -> list[Job]:
        """All jobs, dependencies first; `number` assigns each its number within its stage."""
        made: dict[str, list[Job]] = {}
        searched = () if self.search is None else tuple(self.search.space)
        for stage in self.stages:
            trials = self.search.points if self.search is not None and stage is self.stages[0] else ({},)
            parents = _agreeing(list(itertools.product(*(made[name] for name in stage.earlier))))
            parents = [jobs for jobs in parents if stage.reads(jobs)]
            if not parents:
                raise UserError(f"where of {stage.name} leaves none of the jobs that it reads: {dict(stage.where)}.")
            pairs = list(itertools.product(parents, stage.variations(trials)))
            points = [{**{key: value for job in those for key, value in job.point.items()}, **own}
                      for those, own in pairs]  # fmt: skip
            names = labels(points, [*searched, *(key for point in stage.points for key in point)])
            gathers = {name: {job.id: job.label for job in made[name]} for name in stage.gathered}
            made[stage.name] = [
                Job(
                    id=f"{stage.name}-{number(stage.name, point, count):03d}", stage=stage, own=own, point=point,
                    label=label or stage.name, parents={job.stage.name: job.id for job in those}, gathers=gathers,
                )
                for count, ((those, own), point, label) in enumerate(zip(pairs, points, names, strict=True))
            ]  # fmt: skip
        return [job for jobs in made.values() for job in jobs]

    def as_dict(self) -> dict[str, Any]:
        """As plain values for JSON; `Spec.of` restores the sweep, except sizes, which belong to the file."""
        stages = [{**vars(stage), "axes": dict(stage.axes), "points": list(map(dict, stage.points)),
                   "where": dict(stage.where)} for stage in self.stages]  # fmt: skip
        search = None if self.search is None else self.search.as_dict()
        fields = {name: value for name, value in vars(self).items() if name != "sizes"}
        return {**fields, "stages": stages, "baseline": dict(self.baseline), "search": search}

    @staticmethod
    def of(content: Mapping[str, Any], *, name: str) -> "Spec":
        """From the mapping in a file: the fields above, with the fields of a single stage optionally inlined."""
        fields = dict(content)
        own = {key: fields.pop(key) for key in list(fields) if key in Stage.__annotations__ and key != "name"}
        stages = fields.pop("stages", [own] if own else [])
        try:
            search = fields.pop("search", None)
            return Spec(**{"name": name, **fields}, stages=[Stage(**stage) for stage in stages],
                        search=None if search is None else Search(**search))  # fmt: skip
        except TypeError as error:
            raise UserError(f"The sweep '{name}' cannot be read: {error}; see configs/sweep for examples.") from error

    def _sections(self) -> list[str]:
        verbs = dict.fromkeys(stage.verb for stage in self.stages)
        return [*verbs, *(_OF_TRAINING if "train" in verbs else ())]

    def _check_margin(self) -> None:
        if isinstance(self.margin, Mapping):
            for name, margin in self.margin.items():
                check_number(f"margin.{name}", margin, lowest=0)
        elif self.margin is not None:
            check_number("margin", self.margin, lowest=0)
            if not self.objectives:
                raise UserError("A margin without a number is the objective's, and there is none: margin: {NUMBER: X}.")

    def _check_search(self, search: Search) -> None:
        if not self.objectives:
            raise UserError("A search needs objective=NUMBER, the recorded number to optimize.")
        if any(stage.gathered for stage in self.stages):
            raise UserError("A search runs trial by trial: its stages cannot gather all jobs of an earlier one.")
        num_jobs = len(list(self.stages[0].variations()))
        if search.pruner != "none" and (len(self.objectives) > 1 or len(self.stages) > 1 or num_jobs > 1):
            raise UserError(
                f"search.pruner={search.pruner} needs one objective and one job a trial; use search.pruner=none."
            )


def ancestors(job: Job, jobs: Mapping[str, Job]) -> list[str]:
    """The ids of the jobs of earlier stages that a job is based on, first stage first."""
    found: dict[str, None] = {}
    for parent in job.parents.values():
        found |= dict.fromkeys([*ancestors(jobs[parent], jobs), parent])
    return list(found)


def read_spec(path: Path) -> Spec:
    """Read a sweep from a file; UserError if it is not one."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"The sweep '{path}' cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"The sweep '{path}' must be a mapping with verb and axes, or stages.")
    return Spec.of(content, name=path.stem)


def _agreeing(combinations: Sequence[tuple[Job, ...]]) -> list[tuple[Job, ...]]:
    """Combinations of jobs without conflicting values: an encoder of seed 1 never meets a generator of seed 2."""
    return [jobs for jobs in combinations
            if all(len({value_text(job.point[key]) for job in jobs if key in job.point}) == 1
                   for key in {key for job in jobs for key in job.point})]  # fmt: skip
