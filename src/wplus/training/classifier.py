"""Train a classifier on the attributes that come with images, and measure its accuracy on unseen images.

Randomness at a step depends on (seed, step) only, and the state is saved along the way: running the same command again
resumes, and an interrupted training is bit-identical to an uninterrupted one (on a CPU).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wplus.core.files import atomic_write
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.progress import Bar
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.pretrained.attribute_classifier import AttributeClassifier, AttributeNet, check_name
from wplus.pretrained.attribute_training import Schedule, learning, new_optimizer, seeded_net
from wplus.pretrained.attributes import binary_attributes, class_indices, known_factors
from wplus.tracking import Tracker

STATE = "training.ckpt"


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
    """Train on `images`, or resume from `folder`/training.ckpt; the separability metric is then called ls_w_<name>.

    See `known_factors`, `binary_attributes` (min_share, num_contrasts) and `AttributeNet` (width).
    """
    check_name(name)
    values = known_factors(images, factors)
    classes = {factor: [str(value) for value in np.unique(column)] for factor, column in values.items()}
    targets = torch.stack([class_indices(values[factor], classes[factor]) for factor in classes], dim=1)
    net = seeded_net(
        schedule.seed, num_classes=[len(names) for names in classes.values()], input_size=images.resolution,
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
    optimizer = new_optimizer(net, schedule)
    start, size = _resume(state, net, optimizer, run), schedule.batch_size
    tracker.rewind(start * size / 1000 if start else None)
    snapshot = max(1, round(schedule.snapshot_kimg * 1000 / size))
    total = torch.zeros((), device=next(net.parameters()).device, dtype=torch.float64)
    losses = learning(net, optimizer, lambda indices: images.batch(indices)[0], targets, schedule, start=start)
    with Bar("Training the classifier (images)", schedule.num_steps * size, start=start * size) as shown:
        for done, loss in enumerate(losses, start + 1):
            total += loss
            note = None
            if done % snapshot == 0 or done == schedule.num_steps:
                mean = float(total) / ((done - 1) % snapshot + 1)  # the state is saved at multiples: it starts there
                total.zero_()
                tracker.log({"train/classifier/loss": mean}, kimg=done * size / 1000)
                _save(state, net, optimizer, run, done)
                note = f"loss {mean:.3f}"
            shown.update(size, note)


def _resume(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]) -> int:
    """Return the step to resume from: 0, or that of the state in `path`; UserError if it is from another training."""
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
    """Yield `accuracy_<factor>` on images with known factors, with Wilson's 95 % interval.

    A class that does not occur in the training data counts as wrong.
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
