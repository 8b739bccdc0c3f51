"""Runs jobs of a sweep in cluster allocations through submitit: submitted, detached, and requeued on timeout."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.core.lock import lives
from wplus.errors import UserError
from wplus.sweeps.run_job import ASKING
from wplus.sweeps.slots import SlurmOptions
from wplus.sweeps.state import JobState

if TYPE_CHECKING:
    from wplus.sweeps.launch import Launch

FOLDER = "slurm"  # in a sweep's folder: a folder for each allocation
_OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")
_UNKNOWN_S = 600  # how long an allocation unknown to the cluster counts as pending


class Allocation:
    """The task of an allocation: `wplus sweep run` on some jobs. submitit pickles it and calls it there.

    When time runs out, submitit calls `checkpoint`: the jobs save, and the allocation is requested again with the same
    jobs, which resume in their folders.
    """

    def __init__(self, arguments: Sequence[str], folder: str) -> None:
        self.arguments, self.folder = list(arguments), folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the launch inside the allocation; returns its exit status."""
        self._process = subprocess.Popen([sys.executable, "-m", "wplus", "sweep", *self.arguments], cwd=self.folder)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Have all jobs save, then request the same allocation again."""
        import submitit

        if self._process is not None:
            self._process.send_signal(ASKING)
            with contextlib.suppress(ChildProcessError):  # it has ended and was reaped
                # Leave its status to the interrupted wait.
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Allocation(self.arguments, self.folder))


def submit(launch: Launch, options: SlurmOptions) -> int:
    """Submit all pending jobs, each stage after those it reads from, and return 0 without waiting."""
    executor = _executor(launch.folder.path / FOLDER, options)
    waiting = pending([state.allocation for state in launch.states.values()], launch.folder.path)
    arrays: dict[str, list[str]] = {}
    num_jobs = 0
    for stage in launch.spec.stages:
        jobs = [state for state in launch.states.values() if launch.jobs[state.id].stage.name == stage.name
                and _is_due(state, launch.retry) and state.allocation not in waiting]  # fmt: skip
        chunks = [jobs[start : start + options.jobs_per_allocation]
                  for start in range(0, len(jobs), options.jobs_per_allocation)]  # fmt: skip
        after = [array for name in [*stage.earlier, *stage.gathered] for array in arrays.get(name, ())]
        submitted = _submit(executor, launch, options, [[state.id for state in chunk] for chunk in chunks], after)
        arrays[stage.name] = sorted({name.partition("_")[0] for name in submitted})
        for chunk, name in zip(chunks, submitted, strict=True):
            for state in chunk:
                state.allocation = f"{options.cluster} {name}"
                launch.folder.save(state)
        num_jobs += len(jobs)
    num_jobs += _submit_search(executor, launch, options)
    print(f"Submitted {num_jobs} jobs; 'wplus sweep status {launch.folder.path}' shows how far they are.")
    return 0


def _submit_search(executor: Any, launch: Launch, options: SlurmOptions) -> int:
    """Submit allocations that request trials until there are enough."""
    search = launch.spec.search
    if search is None:
        return 0
    found = (launch.folder.path / FOLDER).glob("*")
    waiting = pending([f"{options.cluster} {path.name}" for path in found], launch.folder.path)
    num = max(0, min(options.parallel, search.trials - len(search.points)) - len(waiting))
    _submit(executor, launch, options, [[]] * num, [])
    return num


def _is_due(state: JobState, retry: bool) -> bool:
    return state.state in ("queued", "interrupted", "killed") or (state.state == "failed" and retry)


def _submit(
    executor: Any, launch: Launch, options: SlurmOptions, chunks: Sequence[Sequence[str]], after: Sequence[str]
) -> list[str]:
    """Submit one allocation per chunk of jobs; returns their names."""
    if not chunks:
        return []
    if options.cluster == "slurm":
        further = {"dependency": f"afterany:{':'.join(after)}"} if after else {}
        executor.update_parameters(slurm_additional_parameters=further)
    folder = str(launch.folder.path.resolve())
    shared = ["retry" if launch.retry else "run", folder, f"--slots=allocation:{options.at_once}"]
    shared += [] if launch.max_failures is None else [f"--max-failures={launch.max_failures}"]
    with executor.batch():
        jobs = [executor.submit(Allocation([*shared, *(["--only", *chunk] if chunk else [])], os.getcwd()))
                for chunk in chunks]  # fmt: skip
    return [str(job.job_id) for job in jobs]


def _executor(folder: Path, options: SlurmOptions) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError("slots=slurm needs submitit: pip install 'wplus[sweep]'.") from error
    try:
        executor = submitit.AutoExecutor(folder / "%j", cluster=options.cluster, slurm_max_num_timeout=options.requeues)
    except RuntimeError as error:
        raise UserError("slots=slurm needs Slurm's commands, sbatch and srun, which are not here; "
                        "slurm.cluster=local submits to this machine.") from error  # fmt: skip
    own = {key: getattr(options, key) for key in ("partition", "account", "qos", "constraint")}
    executor.update_parameters(
        name="wplus", timeout_min=options.time, nodes=1, tasks_per_node=1, cpus_per_task=options.cpus,
        mem_gb=options.mem_gb, gpus_per_node=options.gpus or None, stderr_to_stdout=True,
        slurm_array_parallelism=options.parallel, slurm_signal_delay_s=options.signal_s,
        slurm_setup=options.setup or None,
        **{f"slurm_{key}": value for key, value in own.items()},
    )  # fmt: skip
    return executor


def pending(allocations: Iterable[str], folder: Path) -> set[str]:
    """The allocations of a sweep ("slurm 4711_0") that are pending or running."""
    names = sorted({each for each in allocations if each})
    slurm = [name.partition(" ")[2] for name in names if name.startswith("slurm ")]
    states = _slurm_states(slurm, folder) if slurm else {}
    return {name for name in names if _is_pending(name, folder, states)}


def is_coming(state: JobState) -> bool:
    """Whether a job is running, or pending on this machine; a cluster starts dependent jobs itself."""
    is_local = state.allocation.startswith("local ") and state.state == "queued"
    return state.state == "running" or (is_local and _runs(state.allocation.partition(" ")[2]))


def _is_pending(allocation: str, folder: Path, states: dict[str, str]) -> bool:
    cluster, _, name = allocation.partition(" ")
    if any((folder / FOLDER / name).glob("*_result.pkl")):
        return False
    if cluster == "local":
        return _runs(name)
    state = states.get(name, "UNKNOWN")
    if state == "UNKNOWN":
        place = folder / FOLDER / name
        return place.exists() and time.time() - place.stat().st_mtime < _UNKNOWN_S
    return not state.startswith(_OVER)


def _slurm_states(names: Sequence[str], folder: Path) -> dict[str, str]:
    import submitit

    jobs: list[Any] = [submitit.SlurmJob(folder / FOLDER / "%j", name) for name in names]  # queried together
    return {name: job.state for name, job in zip(names, jobs, strict=True)}


def _runs(pid: str) -> bool:
    return pid.isdecimal() and lives(int(pid))
