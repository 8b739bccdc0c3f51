"""What every training has in common: a clock, randomness that follows it, guarded steps, means, and what is exported.

The clock is the number of real images seen (`nimg`). Everything periodic follows it, and all randomness of a step is
a function of (seed, rank, nimg): the state of a run is its weights, its optimizers and the clock, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from wplus.core.distributed import average_gradients, rank_and_world
from wplus.core.images import to_float
from wplus.core.random import step_seed
from wplus.models.network import Network
from wplus.training.statistics import RunningMeans


class TrainingModule(LightningModule):
    """One step per batch, played by `update`; a subclass also has `configure_optimizers` and what it exports.

    Arguments
        batch_size   images per step over all processes: what the clock advances by
        seed         of everything random in the run
        identity     what must not change when the run is continued, as plain values
    """

    def __init__(self, *, batch_size: int, seed: int, identity: Mapping[str, Any]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batch_size, self.seed, self.identity = batch_size, seed, dict(identity)
        self.means = RunningMeans()
        self.register_buffer("nimg", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros(2, dtype=torch.int64))  # optimizer steps skipped: in all, in a row
        self.images_seen = 0  # the clock again, on the host: reading the buffer would wait for the device
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "images_seen", int(module.nimg)))

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """One step on real images (N, C, H, W) in [-1, 1] and labels (N, c_dim)."""
        raise NotImplementedError

    @property
    def exported(self) -> dict[str, Network]:
        """What others use of the game at this moment: role in a checkpoint file -> network."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """What a checkpoint file says about `exported`: plain values."""
        raise NotImplementedError

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """One step of the game on uint8 images (N, C, H, W) and labels (N, c_dim)."""
        optimizers = self.optimizers(use_pl_optimizer=False)  # Lightning hands a single one over without its list
        self.run_step(*batch, optimizers=optimizers if isinstance(optimizers, list) else [optimizers])

    def run_step(self, images: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Play a step on uint8 images, then move the clock."""
        self.update(to_float(images), labels, optimizers)
        self.nimg += self.batch_size
        self.images_seen += self.batch_size

    def seed_phase(self, name: str, *, common: bool = False) -> None:
        """Seed torch for a phase of this step: of this process, or the same in all of them."""
        torch.manual_seed(step_seed(self.seed, 0 if common else rank_and_world()[0], self.images_seen, name))

    def guarded_step(self, name: str, optimizer: torch.optim.Optimizer, *, in_a_row: bool = True) -> None:
        """Step unless a gradient is not finite; decided on the device, so that the host never waits.

        The fused optimizers skip their update when `found_inf` is 1, the hook that gradient scalers use. A phase that
        can be well while another is lost leaves the count of bad steps `in_a_row` alone.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        average_gradients(gradients)
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = ~norm.isfinite()
        optimizer.found_inf, optimizer.grad_scale = bad.to(torch.float32), None  # type: ignore[attr-defined]
        optimizer.step()
        self.skipped[0] += bad
        if in_a_row:
            self.skipped[1] = (self.skipped[1] + 1) * bad
        self.means.add(f"train/{name}/grad_norm", norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the run is, so that another run does not continue it by mistake."""
        checkpoint["identity"] = self.identity

    def state_summary(self) -> dict[str, Any]:
        """Counters for logs: optimizer steps skipped in all and in a row."""
        total, in_a_row = self.skipped.tolist()
        return {"progress/skipped_steps": total, "progress/skipped_in_a_row": in_a_row}
