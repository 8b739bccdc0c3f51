"""Training images per second of each model: all phases, each as often as it comes, measured in turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch

from experiments.benchmarks.timing import best, in_turns
from wplus.config import build, composed
from wplus.data import ImageSet, cat_images
from wplus.training import GanModule, Runtime

STEPS = 16  # of a turn: every phase comes, lazy penalties too
TURNS = 3
LAST = 1_000_000_000  # images seen: whatever grows has grown


def training_speed(models: Mapping[str, Sequence[str]], turns: int = TURNS) -> dict[str, float]:
    """Name -> images per second of the whole networks; `models` holds overrides of train.py's configuration."""
    place = Runtime.prepare("auto")
    tasks, batches = {}, {}
    for name, overrides in models.items():
        game, data = make_game(overrides, place)
        tasks[name], batches[name] = steps(game.to(place.device), data), game.batch_size
    taken = in_turns(tasks, place.device, turns)
    return {name: STEPS * batches[name] / best(taken[name]) for name in models}


def make_game(overrides: Sequence[str], place: Runtime) -> tuple[GanModule, ImageSet]:
    """What train.py would train, at the end of its growth, and the images."""
    config = composed("train", overrides)
    data = cat_images(resolution=config["data"]["resolution"], num_images=256)
    training = build(
        config["training"],
        model=partial(build, config["model"]),
        loss=None,
        augment=None,
        data=lambda **_: data,
        place=place,
        seed=0,
        num_samples=1,
    )
    training.game.images_seen = LAST
    return training.game, data


def steps(game: GanModule, data: ImageSet) -> Callable[[], None]:
    """A turn of a game: `STEPS` steps on the same images."""
    optimizers = game.configure_optimizers()
    images, labels = (part.to(game.device) for part in data.batch(torch.arange(game.batch_size)))

    def turn() -> None:
        for _ in range(STEPS):
            game.run_step(images, labels, optimizers)

    return turn
