"""Games small enough to play many of: 8 px, a few channels, a handful of random images."""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.training.trained import CPU, SMALL, model, network
from wplus.checkpoint import Models
from wplus.core.runtime import Runtime
from wplus.data import Batches, ImageSet
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L1, L2
from wplus.models.encoders.base import Encoder
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.tracking import Tracker
from wplus.training.build import gan_training
from wplus.training.build_encoder import build_encoder_module
from wplus.training.encoder import EncoderModule
from wplus.training.encoder_hparams import make_encoder_hparams
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.penalties import R1
from wplus.training.transfer import Transfer

R1_ALONE = (R1("gamma"),)
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
def make_tiny() -> Callable[..., GanModule]:
    """make_tiny(c_dim=..., num_micro=..., any field of the hparams): equal arguments give equal games."""

    def make(
        *,
        c_dim: int = 0,
        num_micro: int = 1,
        seed: int = 0,
        mbstd_group_size: int = 2,
        losses: Any = None,
        penalties: Any = R1_ALONE,
        **hparams: Any,
    ) -> GanModule:
        torch.manual_seed(seed)
        size = {"resolution": 8, "channel_base": 64, "channel_max": 8, "c_dim": c_dim}
        generator = Generator(z_dim=6, w_dim=6, num_mapping_layers=1, **size)
        for layer in generator.synthesis.noise_layers:
            layer.noise_strength.data.fill_(0.1)
        return GanModule(
            generator,
            Discriminator(mbstd_group_size=mbstd_group_size, num_mapping_layers=1, **size),
            generator_loss=(losses or {}).get("generator", nonsaturating_generator),
            discriminator_loss=(losses or {}).get("discriminator", logistic_discriminator),
            hparams=Hparams(**{**RECIPE, **hparams}),
            penalties=penalties,
            seed=seed,
            num_micro=num_micro,
            labels=torch.eye(c_dim) if c_dim else None,
        )

    return make


@pytest.fixture
def play(make_images) -> Callable[..., GanModule]:
    """play(game, steps): run so many steps of the game outside of Lightning, with `optimizers` or its own."""

    def play_on(game: GanModule, steps: int, optimizers: list[torch.optim.Optimizer] | None = None) -> GanModule:
        images = make_images(c_dim=game.generator.c_dim)
        optimizers = optimizers or game.configure_optimizers()
        batches = Batches(images, game.hp.batch_size, start_nimg=lambda: game.images_seen)
        for batch in itertools.islice(batches, steps):
            game.run_step(*batch, optimizers=optimizers)
        return game

    return play_on


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A generator and a discriminator of 8 px, in a file each."""
    generator = network(Generator, 8, w_dim=6, num_mapping_layers=3, **SMALL)
    discriminator = network(Discriminator, 8, **SMALL)
    return (
        wplus.save(tmp_path / "generator.safetensors", generator=generator),
        wplus.save(tmp_path / "discriminator.safetensors", discriminator=discriminator),
    )


@pytest.fixture
def start(make_images):
    """start(files, ...): a training that starts from them."""

    def make(checkpoint: Any, *, frozen: int = 0, resolution: int = 16, parts: Any = None, **changes: Any) -> Any:
        hparams = {"batch_size": 4, **changes.pop("hparams", {})}
        given = Transfer(checkpoint=checkpoint, freeze_discriminator=frozen)
        choices = {"preset": None, "loss": None, "runtime": CPU, "seed": 0, "num_samples": 4, **changes}
        return gan_training(
            data=lambda split: make_images(resolution=resolution), model=lambda: parts or model(), hparams=hparams,
            micro_batch_size=None, transfer=given, **choices,
        )  # fmt: skip

    return make


class TinyEncoder(Encoder):
    """Batch normalisation, a convolution, and one linear head per layer, in stages as e4e's."""

    smallest_input = 8

    def __init__(
        self, *, num_ws: int, w_dim: int, img_channels: int = 3, input_size: int = 8, is_iterative: bool = False
    ) -> None:
        super().__init__(
            num_ws=num_ws, w_dim=w_dim, img_channels=img_channels, input_size=input_size, is_iterative=is_iterative
        )
        self.norm = torch.nn.BatchNorm2d(self.in_channels)
        self.conv = torch.nn.Conv2d(self.in_channels, 8, 3, stride=2)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(8, w_dim) for _ in range(num_ws))

    def _offsets(self, x: torch.Tensor, stage: int) -> torch.Tensor:
        x = self.conv(self.norm(x)).tanh().mean(dim=(2, 3))
        w, *deltas = [head(x) for head in self.heads[: stage + 1]]
        return torch.stack([w, *(w + delta for delta in deltas)] + [w] * (self.num_ws - 1 - stage), dim=1)


class Blurred(ImageDistance):
    """A term with features that take an effort: squared differences at half the size."""

    name = "blurred"
    provenance = {"name": name}

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(images, 2)]

    def distance(self, features_a: Any, features_b: Any, mask: Any = None) -> torch.Tensor:
        return (features_a[0] - features_b[0]).square().mean(dim=(1, 2, 3))


ENCODER = {
    "hparams": {"batch_size": 4, "lr": 0.01, "ema_kimg": 0.01},
    "loss_weights": {"l2": 1.0, "perceptual": 0.8, "adversarial": 0.1, "delta": 0.01},
    "progressive": {"start_kimg": 0.008, "every_kimg": 0.008},
    "latent_discriminator": {"lr": 0.01, "r1_interval": 2, "pool_size": 5},
}


@pytest.fixture
def tiny_encoder() -> Callable[..., EncoderModule]:
    """tiny_encoder(c_dim=..., section={...}): equal arguments give equal games; sections replace ENCODER's keys."""

    def make(
        *, c_dim: int = 0, seed: int = 0, losses: Any = None, encoder: Any = TinyEncoder, resolution: int = 8,
        iterative: bool = False, **sections: Any,
    ) -> EncoderModule:  # fmt: skip
        torch.manual_seed(0)
        size = {"resolution": resolution, "channel_base": 64, "channel_max": 8, "c_dim": c_dim}
        generator = Generator(z_dim=6, w_dim=6, num_mapping_layers=1, **size).eval().requires_grad_(False)
        generator.mapping.w_avg.copy_(torch.linspace(-1, 1, 6))
        for layer in generator.synthesis.noise_layers:
            layer.noise_strength.fill_(0.1)
        settings = {
            name: None if name in sections and sections[name] is None else {**part, **sections.get(name, {})}
            for name, part in ENCODER.items()
        }
        return build_encoder_module(
            Models(generator=generator),
            functools.partial(encoder, is_iterative=iterative),
            losses=losses or {"l1": L1(), "l2": L2(), "perceptual": Blurred()},
            hparams=make_encoder_hparams(**settings),
            runtime=Runtime(device=torch.device("cpu")),
            seed=seed,
        )

    return make


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
