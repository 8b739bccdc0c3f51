"""Train a classifier of the attributes that images come with, and measure it on images that it has not seen.

Randomness at a step depends on (seed, step) alone, and the state is kept on the way: the same command again continues,
and an interrupted training gives the bits of an uninterrupted one (on a CPU).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.files import atomic_write
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.progress import Bar
from wplus.data import ImageSet
from wplus.data.loader import EpochOrder
from wplus.errors import UserError
from wplus.pretrained.attribute_classifier import AttributeClassifier, AttributeNet, check_name
from wplus.pretrained.attributes import binary_attributes, class_indices, known_factors
from wplus.tracking import Tracker

STATE = "training.ckpt"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a classifier is trained: AdamW, the rate rising over the first twentieth and falling to 0 by a cosine."""

    kimg: float
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.0
    snapshot_kimg: float = 50.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("kimg", "batch_size", "learning_rate", "snapshot_kimg"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)} is not allowed: it must be more than 0.")

    @property
    def num_steps(self) -> int:
        """Steps in all, at least one."""
        return max(1, round(self.kimg * 1000 / self.batch_size))

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        warm = max(1, self.num_steps // 20)
        return self.learning_rate * min((step + 1) / warm, (1 + math.cos(math.pi * step / self.num_steps)) / 2)


def train(
    images: ImageSet,
    *,
    name: str,
    folder: Path,
    schedule: Schedule,
    factors: Sequence[str] | None = None,
    min_share: float = 0.2,
    num_contrasts: int = 3,
    width: int = 32,
    device: torch.device | str = "cpu",
    tracker: Tracker | None = None,
) -> AttributeClassifier:
    """Train on `images`, or go on where `folder`/training.ckpt ended; what it separates is called ls_w_<name>.

    See `known_factors`, `binary_attributes` (min_share, num_contrasts) and `AttributeNet` (width).
    """
    check_name(name)
    values = known_factors(images, factors)
    classes = {factor: [str(value) for value in np.unique(column)] for factor, column in values.items()}
    targets = torch.stack([class_indices(values[factor], classes[factor]) for factor in classes], dim=1)
    with torch.random.fork_rng(devices=[]):  # the process's own state stays as it is
        torch.manual_seed(schedule.seed)
        net = AttributeNet(
            num_classes=[len(names) for names in classes.values()], input_size=images.resolution,
            img_channels=images.img_channels, width=width,
        )  # fmt: skip
    trained = {"data": images.fingerprint, "num_images": len(images), **asdict(schedule)}
    run = {**trained, "factors": classes, "width": width}
    _fit(net.to(device), images, targets, schedule, folder / STATE, run=run, tracker=tracker or Tracker())
    attributes = binary_attributes(images, values, classes, min_share=min_share, num_contrasts=num_contrasts)
    classifier = AttributeClassifier(net, factors=classes, attributes=attributes, name=name, trained=trained)
    return classifier.eval().requires_grad_(False)


def _fit(net: AttributeNet, images: ImageSet, targets: Tensor, schedule: Schedule, state: Path, *,
         run: Mapping[str, Any], tracker: Tracker) -> None:  # fmt: skip
    device = next(net.parameters()).device
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=schedule.weight_decay, fused=True)
    start, size = _resume(state, net, optimizer, run), schedule.batch_size
    tracker.rewind(start * size / 1000 if start else None)
    snapshot = max(1, round(schedule.snapshot_kimg * 1000 / size))
    total = torch.zeros((), device=device, dtype=torch.float64)
    with Bar("Training the classifier (images)", schedule.num_steps * size, start=start * size) as shown:
        for step, indices in _order(len(images), schedule, start):
            pixels = images.batch(indices)[0].to(device).float() / 127.5 - 1
            loss = _loss(net, pixels, targets[indices].to(device), schedule.label_smoothing)
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            note, done = None, step + 1
            if done % snapshot == 0 or done == schedule.num_steps:
                mean = float(total) / (step % snapshot + 1)  # the state is kept at multiples, so `total` began there
                total.zero_()
                tracker.log({"train/classifier/loss": mean}, kimg=done * size / 1000)
                _save(state, net, optimizer, run, done)
                note = f"loss {mean:.3f}"
            shown.update(size, note)


def _order(num: int, schedule: Schedule, start: int) -> Iterator[tuple[int, Tensor]]:
    """(step, image numbers (B,)) from step `start` on: permutations drawn from (seed, epoch), joined without a gap."""
    size = schedule.batch_size
    order = EpochOrder(num, lambda epoch: np.random.default_rng([schedule.seed, epoch]).permutation(num))
    for step in range(start, schedule.num_steps):
        yield step, torch.from_numpy(order(np.arange(step * size, (step + 1) * size)))


def _loss(net: AttributeNet, pixels: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean over images of the sum over factors of the cross entropy in nats."""
    parts = net.factors(net(pixels))
    losses = [F.cross_entropy(part, targets[:, i], label_smoothing=smoothing) for i, part in enumerate(parts)]
    return torch.stack(losses).sum()


def _resume(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]) -> int:
    """The step to go on from: 0, or where the state in `path` ended; UserError when that is of another training."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["run"] != dict(run):
        changed = [key for key in run if state["run"].get(key) != run[key]]
        raise UserError(
            f"'{path}' is of another training ({', '.join(changed)} differ): choose another run_dir, or remove it."
        )
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any], step: int) -> None:
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "run": dict(run), "step": step}
    atomic_write(path, lambda file: torch.save(state, file))


# --- accuracy -------------------------------------------------------------------------------------------------------


def accuracies(
    classifier: AttributeClassifier,
    images: ImageSet,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
) -> Iterator[MetricResult]:
    """Yield `accuracy_<factor>` on images that come with the factors, with Wilson's 95 % interval.

    A class that training has not seen counts as wrong.
    """
    from scipy.stats import binomtest

    values = known_factors(images, list(classifier.classes) if images.attributes else None)
    batches = torch.arange(len(images)).split(batch_size)
    with torch.no_grad():
        predicted = torch.cat([classifier.predicted(images.batch(some)[0].to(device)).cpu() for some in batches])
    for column, (factor, classes) in enumerate(classifier.classes.items()):
        right = int((predicted[:, column] == class_indices(values[factor], classes)).sum())
        interval = binomtest(right, len(images)).proportion_ci(method="wilson")
        protocol = {"classifier": classifier.name, "data": images.fingerprint, "num_images": len(images),
                    "num_classes": len(classes), "interval": "95 %, Wilson"}  # fmt: skip
        bounds = (float(interval.low), float(interval.high))
        info = MetricInfo(meaning=f"Share of images whose {factor} is named right; 1 is all.", direction="higher")
        yield MetricResult.of(info, f"accuracy_{factor}", right / len(images), protocol=protocol, interval=bounds)
