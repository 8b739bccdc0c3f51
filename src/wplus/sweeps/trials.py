"""Search with Optuna's ask-and-tell interface: trials become jobs, their results are reported, bad ones pruned.

The study is stored in the sweep's folder and continued by the next launch. Optuna always minimises: metrics of which
higher values are better are negated.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.errors import UserError
from wplus.sweeps.labels import value_text
from wplus.sweeps.run_job import Watch
from wplus.sweeps.search import PRUNERS, SAMPLERS, Search
from wplus.sweeps.spec import Job, Spec
from wplus.sweeps.state import ENDED, JobState, SweepFolder
from wplus.tracking.local import numbers_in, read_records, read_result
from wplus.tracking.tracker import KIMG

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

JOURNAL = "search.journal"
_LOOK = 1.0  # seconds between checks of a running job's metrics


class Trials:
    """The trials of a sweep's search, on disk.

    Args:
        folder: the sweep's folder, already claimed.
        spec: the sweep, with a search. UserError if Optuna is missing.
    """

    def __init__(self, folder: SweepFolder, spec: Spec) -> None:
        assert spec.search is not None
        self.folder, self.spec, self.search = folder, folder.with_trials(spec), spec.search
        self._size = sum(1 for _ in spec.stages[0].variations())
        self._told, self._lock = set[int](), threading.Lock()
        self._study = _study(folder.path / JOURNAL, self.search, len(spec.objectives), self._num_asked())

    def ask(self) -> bool:
        """Request another trial and add it to `spec`; False if there are enough."""
        with self.folder.adding() as points, self._lock:
            # First retry points that a killed launch requested but could not record.
            trials = self._study.get_trials(deepcopy=False)
            points += [self._point(trial.params) for trial in trials[len(points) :]]
            is_new = len(points) < self.search.trials
            if is_new:
                points.append(self._point(self._study.ask(_distributions(self.search)).params))
        before, self.spec = self._num_asked(), self.folder.with_trials(self.spec)
        return self._num_asked() > before

    def tell(self, jobs: Mapping[str, Job], states: Mapping[str, JobState]) -> None:
        """Report the outcome of newly ended trials: values, pruned, or failed."""
        for number, those in self._by_trial(jobs).items():
            found = [states[job.id].state for job in those]
            if number in self._told or not ("failed" in found or all(each in ENDED for each in found)):
                continue
            self._told.add(number)
            with self._lock:
                if not self._trial(number).state.is_finished():
                    self._tell_one(number, those, states, found)

    def watch(self, job: Job, jobs: Mapping[str, Job], folder: Path) -> Watch | None:
        """A watch on the objective of a running job, for the pruner."""
        if self.search.pruner == "none":
            return None
        return _Rows(self, self._numbers(jobs)[job.id], folder, self.spec.objectives[0])

    def report(self, number: int, step: int, value: float) -> bool:
        """Report a trial's value (lower is better) after `step` images; returns whether it should be pruned."""
        from optuna.trial import Trial

        if not math.isfinite(value):
            return True
        with self._lock:
            trial = Trial(self._study, self._trial(number)._trial_id)
            trial.report(value, step)
            return trial.should_prune()

    def _num_asked(self) -> int:
        assert self.spec.search is not None
        return len(self.spec.search.points)

    def _numbers(self, jobs: Mapping[str, Job]) -> dict[str, int]:
        """Id -> trial number, for the jobs of the first stage, which are in the order of the trials."""
        first = self.spec.stages[0].name
        order = [job.id for job in jobs.values() if job.stage.name == first]
        return {job_id: position // self._size for position, job_id in enumerate(order)}

    def _by_trial(self, jobs: Mapping[str, Job]) -> dict[int, list[Job]]:
        """Trial number -> its jobs, including those that read from the first stage's."""
        numbers = self._numbers(jobs)
        found: dict[int, list[Job]] = {}
        for job in jobs.values():
            own = job
            while own.id not in numbers and own.parents:
                own = jobs[next(iter(own.parents.values()))]
            if own.id in numbers:
                found.setdefault(numbers[own.id], []).append(job)
        return found

    def _tell_one(self, number: int, jobs: Sequence[Job], states: Mapping[str, JobState], found: Sequence[str]) -> None:
        from optuna.trial import TrialState

        if "pruned" in found or "failed" in found:
            self._study.tell(number, state=TrialState.FAIL if "failed" in found else TrialState.PRUNED)
            return
        values = []
        for name in self.spec.objectives:
            stage = self.spec.stage_of(name).name
            values.append(_mean([Path(states[job.id].run_dir) for job in jobs if job.stage.name == stage], name))
        if all(map(math.isfinite, values)):
            self._study.tell(number, values)
        else:
            self._study.tell(number, state=TrialState.FAIL)

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _point(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {key: _plain(value, self.search.space[key]) for key, value in params.items()}


class _Rows:
    """Watches the objective of a running job, row by row; called periodically, returns whether the job should end."""

    def __init__(self, trials: Trials, number: int, folder: Path, name: str) -> None:
        self._trials, self._number, self._folder, self._name = trials, number, folder, name
        self._seen, self._looked = 0, 0.0

    def __call__(self) -> bool:
        """Report new rows, if a check is due."""
        if time.monotonic() - self._looked < _LOOK:
            return False
        self._looked = time.monotonic()
        return self.flush()

    def flush(self) -> bool:
        """Report new rows; returns whether the trial should end."""
        rows = [row for row in read_records(self._folder) if self._name in row and KIMG in row]
        new, self._seen = rows[self._seen :], max(self._seen, len(rows))
        turned = sign(self._folder, self._name) if new else 1
        # Report all rows, even after one that suggests pruning: the pruner compares trials at every step.
        found = [self._trials.report(self._number, round(row[KIMG] * 1000), turned * float(row[self._name]))
                 for row in new]  # fmt: skip
        return any(found)


def direction(folder: Path, name: str) -> str:
    """The direction of a metric in `folder`, lower or higher; UserError if it has none, or there is no such metric."""
    result = read_result(folder)
    known = {**result.get("info", {}), **numbers_in(result)}
    if name not in known:
        names = [key for key in known if not key.startswith("derived/")]
        raise UserError(f"objective={name} is not among the numbers of '{folder}': {', '.join(names) or 'none'}.")
    found = str(known[name].get("direction", "neither"))
    if found not in ("lower", "higher"):
        raise UserError(f"objective={name} has no better or worse: choose a number that has.")
    return found


def sign(folder: Path, name: str) -> int:
    """The factor that makes lower values of a metric better."""
    return -1 if direction(folder, name) == "higher" else 1


def value_of(folder: Path, name: str) -> float:
    """A metric of a finished run; nan if it is not a number."""
    value = numbers_in(read_result(folder)).get(name, {}).get("value", math.nan)
    return float(value) if isinstance(value, int | float | str) else math.nan


def _mean(folders: Sequence[Path], name: str) -> float:
    return sum(sign(folder, name) * value_of(folder, name) for folder in folders) / len(folders)


def _study(path: Path, search: Search, num_objectives: int, num_asked: int) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError("A search needs Optuna: pip install 'wplus[sweep]'.") from error
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        options = {"constant_liar": True} if search.sampler == "tpe" else {}  # makes concurrent trials differ
        # Later launches must draw different samples.
        sampler = getattr(optuna.samplers, SAMPLERS[search.sampler])(seed=search.seed + num_asked, **options)
        pruner = getattr(optuna.pruners, PRUNERS[search.pruner])()
        return optuna.create_study(
            study_name="sweep", storage=storage, load_if_exists=True, sampler=sampler, pruner=pruner,
            directions=["minimize"] * num_objectives,
        )  # fmt: skip


def _distributions(search: Search) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for key, values in search.space.items():
        if not isinstance(values, Mapping):
            found[key] = CategoricalDistribution([value_text(value) for value in values])
            continue
        low, high, log, step = values["low"], values["high"], values.get("log", False), values.get("step")
        is_whole = all(isinstance(each, int) for each in (low, high, step or 1))
        found[key] = (
            IntDistribution(low, high, log=log, step=step or 1)
            if is_whole
            else FloatDistribution(low, high, log=log, step=step)
        )
    return found


def _plain(value: Any, values: Any) -> Any:
    """Convert a categorical value from text back to the given one."""
    return value if isinstance(values, Mapping) else next(each for each in values if value_text(each) == value)
