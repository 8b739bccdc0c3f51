"""Places for jobs to run: in this process, in processes that share cores or GPUs, or in allocations of a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from wplus.errors import UserError, check_choice, check_number

# Variables of a Slurm task: a job's process would take them as its own and wait for tasks that do not exist.
_OF_TASKS = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_TASKS_PER_NODE", "SLURM_STEP_ID",
             "SLURM_NTASKS_PER_NODE", "SLURM_STEP_NUM_TASKS")  # fmt: skip


@dataclass(frozen=True)
class Slot:
    """A place for one job: the environment of its process."""

    name: str
    environment: Mapping[str, str]


def slots_of(text: str) -> list[Slot]:
    """Parse `cpu:2` (two processes that share the cores), `gpu:0-3`, `gpu:0,2` (a GPU each), `1` (this process, [])."""
    kind, _, which = text.partition(":")
    try:
        if kind == "cpu" and int(which) > 0:
            return cpu_slots(int(which))
        if kind == "allocation":  # used inside an allocation of a cluster
            return allocation_slots(int(which))
        if kind == "gpu":
            ranges = [part.partition("-") for part in which.split(",")]
            numbers = [n for low, dash, high in ranges for n in range(int(low), int(high if dash else low) + 1)]
            if numbers:
                return gpu_slots([str(number) for number in numbers])
    except ValueError:
        pass
    if text == "1":
        return []
    raise UserError(f"slots must be 1, cpu:N, gpu:A-B or slurm, got '{text}'.")


def cpu_slots(number: int) -> list[Slot]:
    """`number` slots, each with its share of the cores."""
    return [Slot(f"cpu:{index}", _threads(number)) for index in range(number)]


def gpu_slots(names: Sequence[str]) -> list[Slot]:
    """One slot per GPU, by CUDA name; a GPU named twice runs two jobs."""
    return [Slot(f"gpu:{name}", {"CUDA_VISIBLE_DEVICES": name, **_threads(len(names))}) for name in names]


def allocation_slots(number: int) -> list[Slot]:
    """`number` slots in the allocation that this process runs in; they share its GPUs, a single one gets all."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if number == 1 or not seen:
        return cpu_slots(number)
    return gpu_slots([seen[index % len(seen)] for index in range(number)])


def _threads(parts: int) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = str(max(1, cores // parts))
    return {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def without_tasks(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the variables of a Slurm task."""
    return {key: value for key, value in environment.items() if key not in _OF_TASKS}


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """Allocations of a cluster, `slurm.KEY=VALUE`; null means the cluster's default.

    Args:
        partition: partition to submit to.
        account: account to charge.
        qos: quality of service.
        constraint: required features of nodes.
        time: minutes; jobs that need more are requeued and resume.
        gpus: GPUs per allocation.
        cpus: CPUs per allocation.
        mem_gb: memory per allocation.
        jobs_per_allocation: number of jobs that share an allocation, sequentially or `at_once`.
        at_once: jobs that run in parallel; each has its own GPU if there are enough, else they share.
        parallel: number of concurrent allocations.
        requeues: how often an allocation may run out of time.
        signal_s: seconds before the time limit at which jobs are told to save.
        setup: shell commands to run before a job, such as "module load cuda".
        cluster: slurm; local: processes on this machine, which also outlive the command.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: int = 1440
    gpus: int = 1
    cpus: int = 8
    mem_gb: int = 64
    jobs_per_allocation: int = 1
    at_once: int = 1
    parallel: int = 16
    requeues: int = 20
    signal_s: int = 300
    setup: Sequence[str] = ()
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        for name in ("time", "cpus", "mem_gb", "jobs_per_allocation", "at_once", "parallel", "signal_s"):
            check_number(f"slurm.{name}", getattr(self, name), lowest=1, whole=True)
        for name in ("gpus", "requeues"):
            check_number(f"slurm.{name}", getattr(self, name), lowest=0, whole=True)
        check_choice("slurm.cluster", self.cluster, ("slurm", "local"))
        object.__setattr__(self, "setup", [self.setup] if isinstance(self.setup, str) else list(self.setup))

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SlurmOptions:
        """From keys without the prefix `slurm.`."""
        known = [each.name for each in fields(cls)]
        for key in given:
            check_choice("slurm.KEY", key, known)
        return cls(**given)
