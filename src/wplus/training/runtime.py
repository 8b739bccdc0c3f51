"""Where a run computes: device, processes, precision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from wplus.core.runtime import keep_freed_memory, resolve_device
from wplus.errors import UserError, check_number


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where a run computes."""

    device: torch.device
    devices: int = 1
    """Processes (and GPUs) per node."""
    num_nodes: int = 1
    precision: str = "auto"
    """auto: bf16 in the four highest resolutions on a GPU, float32 elsewhere; or bf16, float32."""

    def __post_init__(self) -> None:
        for name in ("devices", "num_nodes"):
            check_number(name, getattr(self, name), lowest=1, whole=True)
        if self.precision not in ("auto", "bf16", "float32"):
            raise UserError(f"precision '{self.precision}' is not known; it must be auto, bf16 or float32.")
        if self.precision == "bf16" and self.device.type == "cpu":
            raise UserError(
                "precision=bf16 is refused on a CPU, where it is many times slower than float32; use precision=float32."
            )

    @classmethod
    def prepare(cls, device: str, *, threads: int | None = None, **kwargs: Any) -> Runtime:
        """Check that the device exists, set the CPU threads (None: torch's choice), keep freed memory."""
        keep_freed_memory()
        if threads:
            torch.set_num_threads(threads)
        return cls(device=resolve_device(device), **kwargs)

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return self.devices * self.num_nodes

    @property
    def rank(self) -> int:
        """This process among all, known from the environment before the processes have met."""
        if self.world_size == 1:
            return 0
        for name in ("RANK", "SLURM_PROCID"):
            if name in os.environ:
                return int(os.environ[name])
        return int(os.environ.get("NODE_RANK", 0)) * self.devices + int(os.environ.get("LOCAL_RANK", 0))
