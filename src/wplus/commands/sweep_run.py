"""The actions run, retry and status of `wplus sweep`, and code shared with `-m`."""

import argparse
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wplus.commands.compose import Composer, shared_composer
from wplus.commands.overrides import SPACE_KEYS, with_block
from wplus.commands.record import command_line
from wplus.config import CONFIG_FOLDER
from wplus.core.sweep import sweep
from wplus.errors import UserError, check_choice, check_number
from wplus.sweeps.labels import SEED, value_text

if TYPE_CHECKING:
    from wplus.sweeps.run_job import Command
    from wplus.sweeps.spec import Spec, Stage

ROOT = Path("runs/sweeps")
_SECTIONS = ("slurm", "search")
_OF_STAGE = re.compile(r"(\w+):(?=[\w.@/+]+=)")  # prefix of an override
_OVERRIDES = (
    "for all jobs, STAGE:KEY=VALUE for those of one stage; or of the sweep: size=smoke, sweep=NAME, "
    "slots=cpu:2|gpu:0-3|slurm, slurm.KEY=..., retry=true, max_failures=N, objective=NUMBER, search.KEY=..."
)


@dataclass(frozen=True, kw_only=True)
class SweepKeys:
    """Settings of a sweep as a whole, given as KEY=VALUE among the overrides of its jobs.

    Args:
        sweep: name of the sweep and its folder.
        size: one of the sizes of a named sweep; full: as in its file.
        slots: where jobs run: 1, cpu:N, gpu:A-B or slurm.
        retry: run failed jobs again.
        max_failures: start no further jobs after this many failures; None: no limit.
        objective: the recorded metric to optimize, or several.
        question: the question that the sweep answers.
        slurm: slurm.KEY=VALUE, the options of allocations (`wplus.sweeps.slots.SlurmOptions`).
        search: search.KEY=VALUE: trials, sampler, pruner, seed (`wplus.sweeps.search.Search`).
    """

    sweep: str | None = None
    size: str = "full"
    slots: str = "1"
    retry: bool = False
    max_failures: int | None = None
    objective: str | Sequence[str] | None = None
    question: str = ""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("retry", self.retry, (True, False))
        if self.max_failures is not None:
            check_number("max_failures", self.max_failures, lowest=1, whole=True)
        for key in self.search:
            check_choice("search.KEY", key, ("trials", "sampler", "pruner", "seed"))

    @classmethod
    def of(cls, arguments: Sequence[str]) -> tuple["SweepKeys", list[str]]:
        """Split arguments into these settings and the rest."""
        found: dict[str, Any] = {name: {} for name in _SECTIONS}
        rest = []
        for argument in arguments:
            key, equals, text = argument.partition("=")
            section, _, name = key.partition(".")
            if equals and section in _SECTIONS and name:
                found[section][name] = _value(text)
            elif equals and key in cls.__annotations__ and key not in _SECTIONS:
                found[key] = text if key in ("slots", "size", "sweep", "question") else _value(text)
            else:
                rest.append(argument)
        return cls(**found), rest


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the actions to the parser."""
    for name, text in (("run", "run or resume a sweep"), ("retry", "the same, and run failed jobs again")):
        run = actions.add_parser(name, help=text)
        run.add_argument("spec", help="a name in configs/sweep, a YAML file, or the folder of a sweep")
        run.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help=_OVERRIDES)
        run.add_argument("--slots", help="the same as slots=")
        run.add_argument("--max-failures", help="the same as max_failures=")
        run.add_argument("--folder", type=Path, help=f"of the sweep (default: {ROOT}/NAME)")
        run.add_argument("--dry", action="store_true", help="show what would run, and how long it takes")
        run.add_argument("--only", nargs="+", metavar="ID", help="only these jobs; used by cluster allocations")
        run.set_defaults(action=_run, retry=name == "retry")
    status = actions.add_parser("status", help="the state of every job")
    status.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    status.set_defaults(action=_status)


def _run(options: argparse.Namespace) -> int:
    from wplus.__main__ import main
    from wplus.sweeps.sizes import sized

    flags = [f"{key}={value}" for key in ("slots", "max_failures") if (value := getattr(options, key)) is not None]
    keys, overrides = SweepKeys.of([*options.overrides, *flags])
    spec, of_size = sized(named_spec(options.spec), keys.size)
    spec = with_overrides(spec, [*of_size, *overrides])
    spec = replace(spec, objective=keys.objective or spec.objective, question=keys.question or spec.question)
    if keys.search:
        if spec.search is None:
            raise UserError("search.KEY=VALUE changes the search of a sweep, and this one has none.")
        spec = replace(spec, search=replace(spec.search, **keys.search))
    folder = options.folder or (Path(options.spec) if is_folder(options.spec) and keys.sweep is None else None)
    return launched(spec, keys, lambda given: called(main, given), folder=folder, is_dry=options.dry,
                    retry=options.retry, only=options.only)  # fmt: skip


def with_overrides(spec: "Spec", overrides: Sequence[str]) -> "Spec":
    """Apply KEY=VALUE to all stages, STAGE:KEY=VALUE to one."""
    names = [stage.name for stage in spec.stages]
    split = [(found[1], each[found.end() :]) if (found := _OF_STAGE.match(each)) else (None, each)
             for each in overrides]  # fmt: skip
    for name, rest in split:
        if name is not None and name not in names:
            raise UserError(f"{name}:{rest} names a stage, which must be one of {', '.join(names)}, got '{name}'.")
    given = {stage.name: [text for name, text in split if name in (None, stage.name)] for stage in spec.stages}
    searched = () if spec.search is None else tuple(spec.search.space)
    for stage in spec.stages:
        _refuse_swept(stage, given[stage.name], searched if stage is spec.stages[0] else ())
    return replace(spec, stages=[
        _with_blocks(replace(stage, overrides=[*stage.overrides, *given[stage.name]])) for stage in spec.stages
    ])  # fmt: skip


def _refuse_swept(stage: "Stage", overrides: Sequence[str], searched: Sequence[str]) -> None:
    """Raise UserError for a key that varies: the sweep's values would override it."""
    seeds = [SEED] if stage.seeds is not None else []
    swept = {*searched, *stage.axes, *seeds, *(key for point in stage.points for key in point)}
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        if key in swept:
            raise UserError(f"{override} has no effect: {key} varies in {stage.name}, and the sweep sets its values.")


def _with_blocks(stage: "Stage") -> "Stage":
    """Merge the axes `space` and `space.block` into one, `space: [w, f8/w+, f16/w+]`."""
    varied = {key: values for key, values in stage.axes.items() if key in SPACE_KEYS}
    fixed = [each for each in stage.overrides if each.partition("=")[0].lstrip("+") in SPACE_KEYS]
    given = [*(f"{key}={','.join(map(value_text, values))}" for key, values in varied.items()), *fixed]
    if not varied or len(given) < 2 or not any(each.startswith(SPACE_KEYS[1]) for each in given):
        return stage
    (space,) = with_block(given)
    values = space.partition("=")[2].split(",")
    axes = dict(item for key, other in stage.axes.items()
                for item in ([("space", values)] if key in varied else [(key, other)]))  # fmt: skip
    return replace(stage, axes=axes, overrides=[each for each in stage.overrides if each not in fixed])


def launched(
    spec: "Spec", keys: SweepKeys, command: "Command", *, folder: Path | None = None, is_dry: bool = False,
    retry: bool = False, only: Sequence[str] | None = None,
) -> int:  # fmt: skip
    """Run a sweep, submit it, or show what would run; returns the exit status."""
    from wplus.sweeps.launch import Launch
    from wplus.sweeps.slots import SlurmOptions, slots_of
    from wplus.sweeps.slurm import is_coming, submit
    from wplus.sweeps.state import SweepFolder

    slurm = SlurmOptions.of(keys.slurm)
    slots = [] if keys.slots == "slurm" else slots_of(keys.slots)
    place = SweepFolder(folder or ROOT / (keys.sweep or spec.name))
    with sweep(place.path, _varying(spec)), shared_composer() as composer:
        launch = Launch(
            place, spec, composer.asked, slots=slots, command=command, retry=retry or keys.retry,
            max_failures=keys.max_failures, only=only, is_coming=is_coming,
        )  # fmt: skip
        place.check(spec)
        launch.resolve_all()  # errors are reported before anything is written
        _try_search(spec, composer)
        if is_dry:
            print(launch.plan())
            return 0
        if not keys.slots.startswith("allocation"):
            place.claim(spec, command_line())
        if keys.slots == "slurm":
            return submit(launch, slurm)
        return launch.run()


def _varying(spec: "Spec") -> list[str]:
    keys = list({} if spec.search is None else spec.search.space)
    for stage in spec.stages:
        keys += [*(key for point in stage.points for key in point), *stage.axes]
        keys += [] if stage.seeds is None else [SEED]
    return list(dict.fromkeys(keys))


def _try_search(spec: "Spec", composer: Composer) -> None:
    """Raise UserError if the first values of a search cannot be composed."""
    if spec.search is not None:
        tried = replace(spec, search=replace(spec.search, points=[spec.search.first()]))
        composer.asked(spec.stages[0].verb, tried.jobs()[0].overrides({}))


def is_folder(text: str) -> bool:
    """Whether a text is the folder of a sweep."""
    return (Path(text) / "sweep.json").is_file()


def named_spec(text: str) -> "Spec":
    """Load a sweep by name, by file, or from an existing sweep's folder."""
    from wplus.sweeps.spec import read_spec
    from wplus.sweeps.state import SweepFolder

    if is_folder(text):
        return SweepFolder(Path(text)).spec
    named = CONFIG_FOLDER / "sweep" / f"{text}.yaml"
    if named.is_file() or Path(text).is_file():
        return with_overrides(read_spec(named if named.is_file() else Path(text)), [])
    known = ", ".join(sorted(path.stem for path in (CONFIG_FOLDER / "sweep").glob("*.yaml")))
    raise UserError(f"A sweep must be one of {known}, a YAML file, or the folder of a sweep; got '{text}'.")


def called(command: Callable[[Sequence[str]], Any], arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command in this process; returns its exit status and, if it failed, its error message."""
    try:
        return int(command(arguments) or 0), ""
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1, end.code
        return end.code if isinstance(end.code, int) else int(end.code is not None), ""
    except Exception as error:
        traceback.print_exc()
        return 1, f"{type(error).__name__}: {error}".splitlines()[0]


def _status(options: argparse.Namespace) -> None:
    from wplus.sweeps.state import SweepFolder, counted

    for path in options.folders:
        sweep_folder = SweepFolder(path)
        states = sweep_folder.states()
        for state in states.values():
            words = f": {state.error} ({state.traceback})" if state.error else ""
            words += f", since {state.started} in {state.process}" if state.state == "running" else ""
            words += f", submitted as {state.allocation}" if state.allocation and state.state == "queued" else ""
            print(f"{state.id}  {state.state:<11}  {state.label}  {state.run_dir}{words}")
        print("\n".join([f"{path}: {counted(states)}", *filter(None, [sweep_folder.left_out(states)])]))


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
