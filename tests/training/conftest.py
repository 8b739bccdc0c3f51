"""Games small enough to play many of: 8 px, a few channels, a handful of random images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from wplus.data import Batches, ImageSet
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.tracking import Tracker
from wplus.training import GanGame, Recipe

RECIPE = {
    "batch_size": 4,
    "gamma": 1.0,
    "lr_generator": 0.002,
    "lr_discriminator": 0.002,
    "ema_kimg": 0.02,
    "ema_rampup": None,
    "r1_interval": 2,
    "pl_interval": 2,
    "pl_batch_shrink": 1,
}


@pytest.fixture
def make_images() -> Callable[..., ImageSet]:
    """make_images(num, c_dim): random images of 8 px, the same for the same arguments."""

    def make(num: int = 10, *, c_dim: int = 0, resolution: int = 8) -> ImageSet:
        source = torch.Generator().manual_seed(num)
        images = torch.randint(0, 256, (num, 3, resolution, resolution), generator=source, dtype=torch.uint8)
        labels = torch.eye(c_dim)[torch.arange(num) % c_dim] if c_dim else None
        return ImageSet(images, labels, [f"{index}.png" for index in range(num)])

    return make


@pytest.fixture
def make_tiny() -> Callable[..., GanGame]:
    """make_tiny(c_dim=..., num_micro=..., any field of the recipe): equal arguments give equal games."""

    def make(
        *,
        c_dim: int = 0,
        num_micro: int = 1,
        seed: int = 0,
        mbstd_group_size: int = 2,
        losses: Any = None,
        **recipe: Any,
    ) -> GanGame:
        torch.manual_seed(seed)
        size = {"resolution": 8, "channel_base": 64, "channel_max": 8, "c_dim": c_dim}
        generator = Generator(z_dim=6, w_dim=6, num_mapping_layers=1, **size)
        for layer in generator.synthesis.layers:
            layer.noise_strength.data.fill_(0.1)
        return GanGame(
            generator,
            Discriminator(mbstd_group_size=mbstd_group_size, num_mapping_layers=1, **size),
            generator_loss=(losses or {}).get("generator", nonsaturating_generator),
            discriminator_loss=(losses or {}).get("discriminator", logistic_discriminator),
            recipe=Recipe(**{**RECIPE, **recipe}),
            seed=seed,
            num_micro=num_micro,
            labels=torch.eye(c_dim) if c_dim else None,
        )

    return make


@pytest.fixture
def play(make_images) -> Callable[..., GanGame]:
    """play(game, steps): run so many steps of the game outside of Lightning, with `optimizers` or its own."""

    def play_on(game: GanGame, steps: int, optimizers: list[torch.optim.Optimizer] | None = None) -> GanGame:
        images = make_images(c_dim=game.generator.c_dim)
        optimizers = optimizers or game.configure_optimizers()
        batches = Batches(images, game.recipe.batch_size, start_nimg=lambda: game.images_seen)
        for batch in itertools.islice(batches, steps):
            game.run_step(*batch, optimizers=optimizers)
        return game

    return play_on


class Recorder(Tracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[float, dict[str, float]]] = []
        self.rewinds: list[float] = []
        self.images: list[str] = []
        self.artifacts: list[dict[str, Any]] = []

    def log(self, values: Any, *, kimg: float | None = None) -> None:
        self.rows.append((kimg, dict(values)))

    def rewind(self, kimg: float) -> None:
        self.rewinds.append(kimg)

    def image(self, key: str, path: Any, **_: Any) -> None:
        self.images.append(f"{key}: {path.name}")

    def artifact(self, path: Any, **fields: Any) -> None:
        self.artifacts.append({"path": path, **fields})


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """The handlers that a test found, it leaves."""
    import signal

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
