"""The question of a sweep: stages of commands, the values that vary, and the jobs that follow from them."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wplus.errors import UserError, check_choice, check_number

SEED = "seed"
_OF_STAGE = re.compile(r"\{(\w+)\}")  # in an override: the run folder of the job of an earlier stage
Point = Mapping[str, Any]
"""Key -> value of what a job has that others have otherwise."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command with all its variations.

    Args:
        verb: train, invert, interpolate, evaluate, ...
        name: for later stages to refer to; default: the verb.
        overrides: KEY=VALUE of every job. `{name}` stands for the run folder of the earlier stage of that name, and
            every job of that stage gives jobs of its own here.
        axes: key -> values; all combinations are run.
        points: combinations that no grid makes, each a mapping of key -> value; all axes are run at each.
        seeds: so many seeds, 0, 1, ..., or a list of them; None: the command's own.
    """

    verb: str
    name: str = ""
    overrides: Sequence[str] = ()
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    points: Sequence[Point] = ({},)
    seeds: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.verb)
        if isinstance(self.seeds, int):
            check_number("seeds", self.seeds, lowest=1, whole=True)
        for key, values in self.axes.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise UserError(f"axes.{key} must be a list of values, got {values!r}.")

    @property
    def earlier(self) -> list[str]:
        """The stages whose folders this one reads."""
        return list(dict.fromkeys(name for override in self.overrides for name in _OF_STAGE.findall(override)))

    def variations(self) -> Iterator[Point]:
        """What varies from job to job."""
        seeds = range(self.seeds) if isinstance(self.seeds, int) else self.seeds
        axes = {**self.axes, **({} if seeds is None else {SEED: list(seeds)})}
        for point in self.points or ({},):
            for values in itertools.product(*axes.values()):
                yield {**point, **dict(zip(axes, values, strict=True))}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a sweep.

    Attributes:
        id: of the sweep, `<stage>-<number>`.
        point: what varies, that of the jobs whose folders it reads included.
        own: the part of `point` that this command is given.
        parents: stage -> id of the job whose folder it reads.
    """

    id: str
    stage: Stage
    point: Point
    own: Point
    parents: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What varies, for people: "space=w+ seed=1"."""
        return " ".join(f"{key}={value_text(value)}" for key, value in self.point.items()) or self.stage.name

    def overrides(self, folders: Mapping[str, Path]) -> list[str]:
        """The command's arguments; `folders` are the run folders of `parents`, by id."""
        by_stage = {name: str(folders[parent]) for name, parent in self.parents.items()}
        fixed = [_OF_STAGE.sub(lambda found: by_stage[found[1]], override) for override in self.stage.overrides]
        return [*fixed, *(f"{key}={value_text(value)}" for key, value in self.own.items())]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A sweep.

    Args:
        name: of its folder.
        question: what it is to answer, a sentence.
        stages: one after the other.
        objective: the number that decides, as a result is called: `invert/psnr_db`, `val/fd_effnet_lite0`, ...
        baseline: what of the varying keys is the method that others are compared with.
    """

    name: str
    stages: Sequence[Stage]
    question: str = ""
    objective: str | None = None
    baseline: Point = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.name):
            raise UserError(f"A sweep's name must be letters, digits, '.', '_', '+' and '-', got '{self.name}'.")
        known: list[str] = []
        for stage in self.stages:
            for name in stage.earlier:
                check_choice(f"{{{name}}} in the overrides of {stage.name}", name, known)
            if stage.name in known:
                raise UserError(f"Two stages are called '{stage.name}': give each a name of its own.")
            known.append(stage.name)
        if not known:
            raise UserError("A sweep must have at least one stage, with a verb.")

    def jobs(self) -> list[Job]:
        """All of them, those that others read first."""
        made: dict[str, list[Job]] = {}
        for stage in self.stages:
            parents = list(itertools.product(*(made[name] for name in stage.earlier)))
            made[stage.name] = [
                Job(
                    id=f"{stage.name}-{number:03d}", stage=stage, own=own,
                    point={**{key: value for job in those for key, value in job.point.items()}, **own},
                    parents={job.stage.name: job.id for job in those},
                )
                for number, (those, own) in enumerate(itertools.product(_agreeing(parents), stage.variations()))
            ]  # fmt: skip
        return [job for jobs in made.values() for job in jobs]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `Spec.read` of it gives the same."""
        stages = [{**vars(stage), "axes": dict(stage.axes), "points": list(map(dict, stage.points))}
                  for stage in self.stages]  # fmt: skip
        return {**vars(self), "stages": stages, "baseline": dict(self.baseline)}

    @staticmethod
    def of(content: Mapping[str, Any], *, name: str) -> "Spec":
        """From a mapping as a file has it: the fields above, or those of its only stage beside them."""
        fields = dict(content)
        own = {key: fields.pop(key) for key in list(fields) if key in Stage.__annotations__ and key != "name"}
        stages = fields.pop("stages", [own] if own else [])
        try:
            return Spec(**{"name": name, **fields}, stages=[Stage(**stage) for stage in stages])
        except TypeError as error:
            raise UserError(f"The sweep '{name}' cannot be read: {error}; see configs/sweep for examples.") from error


def read_spec(path: Path) -> Spec:
    """UserError for a file that is no sweep."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"The sweep '{path}' cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict):
        raise UserError(f"The sweep '{path}' must be a mapping with verb and axes, or stages.")
    return Spec.of(content, name=path.stem)


def value_text(value: Any) -> str:
    """A value as an override has it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if value is None or isinstance(
        value, bool) else str(value)  # fmt: skip


def _agreeing(combinations: Sequence[tuple[Job, ...]]) -> list[tuple[Job, ...]]:
    """Those whose jobs have no key with two values: an encoder of seed 1 is not paired with a generator of seed 2."""
    return [jobs for jobs in combinations
            if all(len({value_text(job.point[key]) for job in jobs if key in job.point}) == 1
                   for key in {key for job in jobs for key in job.point})]  # fmt: skip
