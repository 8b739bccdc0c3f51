"""Base class for training modules: image clock, reproducible randomness, guarded steps, running means, EMA.

The clock is the number of real images seen (`nimg`). Everything periodic follows it, and all randomness in a step is a
function of (seed, nimg), for any number of processes. The state of a run therefore consists of its weights, its
optimizers and the clock, and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from wplus.core.distributed import average_gradients, mean_over_ranks
from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.core.random import seed_torch, step_seed
from wplus.core.runtime import Runtime, float32_convolutions
from wplus.errors import UserError
from wplus.models.network import Network
from wplus.models.ops import fused
from wplus.training.layout import follow_layout


class TrainingModule(LightningModule):
    """Base class that runs one step per batch; subclasses define `update`, `configure_optimizers` and `exported`.

    Args:
        batch_size: images per step over all processes; the clock advances by this number.
        seed: seed for all randomness in the run.
        run_fingerprint: plain values that must not change when the run is resumed.
    """

    nimg: Tensor
    skipped: Tensor
    tf32: bool = False  # whether steps may use TF32 (`wplus.core.runtime.float32_convolutions`)
    kernels: bool = False  # whether steps use the Triton kernels (`wplus.models.ops.fused`)

    def __init__(self, *, batch_size: int, seed: int, run_fingerprint: Mapping[str, Any]) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batch_size, self.seed, self.run_fingerprint = batch_size, seed, dict(run_fingerprint)
        self.means = RunningMeans()
        self.register_buffer("nimg", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros(2, dtype=torch.int64))  # skipped steps: total, consecutive
        self.seconds, self.step_seconds = 0.0, 0.0  # spent in all training steps and in the last (`training.ending`)
        self.images_seen = 0  # host copy of the clock: reading the buffer would synchronise with the device
        self.register_load_state_dict_post_hook(lambda module, _: setattr(module, "images_seen", int(module.nimg)))

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Perform one step of all networks on real images (N, C, H, W) in [-1, 1] and labels (N, c_dim)."""
        raise NotImplementedError

    @property
    def exported(self) -> dict[str, Network]:
        """The networks to save in a checkpoint file, by role."""
        raise NotImplementedError

    @property
    def caution(self) -> str:
        """A warning that the networks are not yet usable, or "" if there is nothing to warn about."""
        return ""

    @property
    def stored_averages(self) -> Mapping[float, Network]:
        """Weight averages that a snapshot stores for later use, by relative length."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Metadata about `exported` for a checkpoint file, as plain values."""
        raise NotImplementedError

    def prepare(self, runtime: Runtime) -> dict[str, Any]:
        """Enable the speed options of `runtime` before the first step; return their outcomes by configuration key.

        Raises UserError for an option that has no effect here."""
        for name, default in (("compile", "off"), ("cuda_graphs", False)):
            if getattr(runtime, name) != default:
                raise UserError(
                    f"trainer.{name}={getattr(runtime, name)} has no effect: only the phases of a generator's training "
                    "against a discriminator can be compiled or recorded; leave it out."
                )
        self.kernels, said = fused_operations(runtime)
        return {"trainer.kernels": said}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Perform one step on uint8 images (N, C, H, W) and labels (N, c_dim)."""
        optimizers = self.optimizers(use_pl_optimizer=False)  # Lightning does not wrap a single optimizer in a list
        with float32_convolutions(tf32=self.tf32, benchmark=True), fused(self.kernels):
            self.run_step(*batch, optimizers=optimizers if isinstance(optimizers, list) else [optimizers])

    def run_step(self, images: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Call `update` on uint8 images, then advance the clock."""
        self.update(to_float(images), labels, optimizers)
        self.nimg += self.batch_size
        self.images_seen += self.batch_size

    def seed_phase(self, name: str) -> None:
        """Seed torch for a phase of this step, identically in all processes: each draws for all and takes its share."""
        seed_torch(step_seed(self.seed, 0, self.images_seen, name))

    def guarded_step(self, name: str, optimizer: torch.optim.Optimizer, *, in_a_row: bool = True) -> None:
        """Step the optimizer unless a gradient is not finite, without synchronising the host with the device.

        Fused optimizers skip their update when `found_inf` is 1, the hook that gradient scalers use. A phase that can
        stay healthy while another diverges should pass `in_a_row=False`, which leaves the consecutive count alone.
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

    def on_train_start(self) -> None:
        """Match the memory layout of restored optimizer state to that of the weights."""
        found = self.optimizers(use_pl_optimizer=False)
        follow_layout(found if isinstance(found, list) else [found])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the fingerprint, so that a different run cannot resume it by mistake, and values not yet logged."""
        checkpoint["run_fingerprint"] = self.run_fingerprint
        checkpoint["means"] = self.means.state_dict()
        checkpoint["seconds"], checkpoint["step_seconds"] = self.seconds, self.step_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the running means of the unfinished log row."""
        if "means" in checkpoint:
            self.means.load_state_dict(checkpoint["means"], self.device)

    def state_summary(self) -> dict[str, Any]:
        """Counters to log: skipped optimizer steps, total and consecutive."""
        total, in_a_row = self.skipped.tolist()
        return {"progress/skipped_steps": total, "progress/skipped_in_a_row": in_a_row}

    def log_infos(self) -> dict[str, MetricInfo]:
        """Descriptions of the values that a run logs."""
        skipped = "Optimizer steps that were skipped because a gradient was not finite, {}; ideally 0."
        counts = {"progress/skipped_steps": "in all", "progress/skipped_in_a_row": "the last in a row"}
        return {
            name: MetricInfo(meaning=skipped.format(which), unit="steps", direction="lower")
            for name, which in counts.items()
        }


def fused_operations(runtime: Runtime) -> tuple[bool, str]:
    """Return whether training steps use the Triton kernels, and a status to report."""
    if runtime.kernels == "off" or runtime.device.type != "cuda":
        return False, "off"
    try:
        from wplus.models.kernels import why_not
    except ImportError as error:
        return False, f"off: {error}"
    reason = why_not(runtime.device)
    return not reason, f"off: {reason}" if reason else "on"


def check_same_run(saved: Mapping[str, Any], current: Mapping[str, Any], path: object) -> None:
    """Raise UserError naming the first value in which the checkpoint's run fingerprint differs from this run's."""
    before, now = _flat(saved), _flat(current)
    for key in sorted(set(before) | set(now)):
        if before.get(key) != now.get(key):
            raise UserError(
                f"Cannot continue from '{path}': {key} was {before.get(key)!r} and is now {now.get(key)!r}; "
                "repeat the old setting or choose another run_dir."
            )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


class RunningMeans:
    """Means of named scalars since the last `collect`; adding never synchronises with the device.

    (torchmetrics' MeanMetric needs one transfer per name to be read, and its updates take several times as long.)
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @torch.no_grad()
    def add(self, name: str, value: Tensor) -> None:
        """Add a value (a scalar tensor) to the mean of `name`."""
        if name in self._sums:
            self._sums[name] += value.detach()  # in place, so that the address is the same in every step
        else:
            self._sums[name] = value.detach().clone()
        self._counts[name] = self._counts.get(name, 0) + 1

    def collect(self) -> dict[str, float]:
        """Return the means as floats (one transfer for all of them) and reset."""
        if not self._counts:
            return {}
        values = torch.stack([self._sums[name].float() / count for name, count in self._counts.items()]).tolist()
        found = dict(zip(self._counts, values, strict=True))
        torch._foreach_zero_(list(self._sums.values()))
        self._counts = {}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added since the last `collect`."""
        return {"sums": {name: self._sums[name].clone() for name in self._counts}, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore the state returned by `state_dict`."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = dict(state["counts"])


# --- submodules kept elsewhere --------------------------------------------------------------------------------------


def leave_out(module: nn.Module, *parts: str) -> None:
    """Exclude the named submodules, frozen networks loaded from files, from the state dict of `module`.

    Loading a state dict without them keeps their current weights.
    """

    def belongs(name: str, prefix: str) -> bool:
        return name.startswith(tuple(f"{prefix}{part}." for part in parts))

    def without(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
        for name in [name for name in state if belongs(name, prefix)]:
            del state[name]

    def expect_none(_: nn.Module, state: dict[str, Tensor], prefix: str, *__: object) -> None:
        for part in parts:
            if (network := getattr(module, part)) is not None:
                state.update({f"{prefix}{part}.{name}": value for name, value in network.state_dict().items()})

    module.register_state_dict_post_hook(without)
    module.register_load_state_dict_pre_hook(expect_none)


# --- moving average and running statistics --------------------------------------------------------------------------


def ema_decay(batch_size: int, nimg: int, half_life_kimg: float, rampup: float | None) -> float:
    """Return beta = 0.5^(batch / half-life), with the half-life at most `rampup` times `nimg` (StyleGAN2-ADA)."""
    half_life = half_life_kimg * 1000
    if rampup is not None:
        half_life = min(half_life, nimg * rampup)
    return 0.5 ** (batch_size / max(half_life, 1e-8))


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Update parameters by average <- decay * average + (1 - decay) * network; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    buffers = list(average.buffers())
    if buffers:
        torch._foreach_copy_(buffers, list(network.buffers()))


@contextmanager
def shared_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Wrap a step so that batch-norm running statistics are averaged over processes afterwards.

    Batches are still normalised within each process. Where the average is not finite, the previous statistics are
    restored: they would never recover from a bad batch.
    """
    modules = [module for network in networks for module in network.modules()]
    names = ("running_mean", "running_var")  # in torch's batch norm and `wplus.models.translation.base.Norm`
    buffers = [buffer for module in modules for name in names if (buffer := getattr(module, name, None)) is not None]
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, last in zip(buffers, before, strict=True):
        mean = mean_over_ranks(buffer)
        buffer.copy_(torch.where(mean.isfinite(), mean, last))
