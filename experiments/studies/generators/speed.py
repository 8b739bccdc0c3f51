"""Measure training images per second of each model: all phases at their intervals, in turns in one process."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from experiments.benchmarks.timing import best, in_turns
from wplus.config import build, composed
from wplus.core.runtime import Runtime
from wplus.data import ImageSet, cat_images
from wplus.training.gan import GanModule

STEPS = 16  # per turn, so that every phase occurs, including lazy penalties
TURNS = 3
LAST = 1_000_000_000  # images seen: progressive growing has finished


def training_speed(models: Mapping[str, Sequence[str]], turns: int = TURNS) -> dict[str, float]:
    """Name -> images per second of the full networks; `models` has overrides of train.py's configuration."""
    runtime = Runtime.prepare("auto")
    tasks, batches = {}, {}
    for name, overrides in models.items():
        module, data = build_gan(overrides, runtime)
        tasks[name], batches[name] = steps(module.to(runtime.device), data), module.batch_size
    taken = in_turns(tasks, runtime.device, turns)
    return {name: STEPS * batches[name] / best(taken[name]) for name in models}


def build_gan(overrides: Sequence[str], runtime: Runtime) -> tuple[GanModule, ImageSet]:
    """Build what train.py would train, fully grown, and the images."""
    config = composed("train", overrides)
    data = cat_images(resolution=config["data"]["resolution"], num_images=256)
    training = build(
        config["training"],
        model=partial(build, config["model"]),
        loss=None,
        augment=None,
        data=lambda **_: data,
        runtime=runtime,
        seed=0,
        num_samples=1,
    )
    training.module.images_seen = LAST
    return training.module, data


def steps(module: GanModule, data: ImageSet) -> Callable[[], None]:
    """Run one turn: `STEPS` steps on the same images."""
    optimizers = module.configure_optimizers()
    images, labels = (part.to(module.device) for part in data.batch(torch.arange(module.batch_size)))

    def turn() -> None:
        for _ in range(STEPS):
            module.run_step(images, labels, optimizers)

    return turn
