"""Modules small enough to train many of them: 8 px, a few channels, a handful of random images."""

import functools
import importlib
import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.fakes import random_images
from tests.training.trained import CPU, SMALL, model, network
from wplus.checkpoint import Models
from wplus.data import Batches, ImageSet
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import L1, L2
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.models.encoders.base import Encoder
from wplus.models.encoders.small import SmallEncoder
from wplus.models.projected import Aided
from wplus.models.san import San
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.tracking import Tracker
from wplus.training.autoencoder import AutoencoderModule
from wplus.training.autoencoder_hparams import AutoencoderHparams
from wplus.training.build import gan_training
from wplus.training.build_encoder import build_encoder_module, encoder_training
from wplus.training.encoder import EncoderModule
from wplus.training.encoder_hparams import make_encoder_hparams
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.loop import Schedule, fit
from wplus.training.penalties import R1
from wplus.training.transfer import Transfer
from wplus.training.translation import TranslationModule

RECIPE = {
    "batch_size": 4, "gamma": 1.0, "lr_generator": 0.002, "lr_discriminator": 0.002, "ema_kimg": 0.02,
    "ema_rampup": None, "r1_interval": 2, "pl_interval": 2, "pl_batch_shrink": 1,
}  # fmt: skip
R1_ALONE = (R1("gamma"),)
WITHOUT_STYLES = {"pl_weight": 0.0, "style_mixing_prob": 0.0}
GROWING = {"r1_interval": 1, "start_resolution": 4, "stable_kimg": 0.006, "fade_kimg": 0.006}
STYLES = {"z_dim": 6, "w_dim": 6, "num_mapping_layers": 1}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {  # G's and D's arguments, hparams
    "stylegan2": ({**SMALL, **STYLES}, {**SMALL, "mbstd_group_size": 2, "num_mapping_layers": 1}, {}),
    "stylegan1": ({**SMALL, **STYLES}, {**SMALL, "mbstd_group_size": 2}, {**GROWING, "pl_weight": 0.0}),
    "progan": ({**SMALL, "z_dim": 6}, {**SMALL, "mbstd_group_size": 2}, {**GROWING, **WITHOUT_STYLES}),
    "r3gan": ({**SMALL, "z_dim": 6}, SMALL, {"r1_interval": 1, **WITHOUT_STYLES}),
    "dcgan": ({**SMALL, "z_dim": 6}, SMALL, {"gamma": 0.0, **WITHOUT_STYLES}),
    "mlp_gan": ({"z_dim": 6, "width": 8}, {"width": 8}, {"r1_interval": 1, **WITHOUT_STYLES}),
}
ENCODER = {
    "hparams": {"batch_size": 4, "lr": 0.01, "ema_kimg": 0.01},
    "loss_weights": {"l2": 1.0, "perceptual": 0.8, "adversarial": 0.1, "delta": 0.01},
    "progressive": {"start_kimg": 0.008, "every_kimg": 0.008},
    "latent_discriminator": {"lr": 0.01, "r1_interval": 2, "pool_size": 5},
}


@pytest.fixture
def make_images() -> Callable[..., ImageSet]:
    """make_images(num, c_dim=..., resolution=8): random images, the same for the same arguments."""
    return random_images


@pytest.fixture
def make_tiny() -> Callable[..., GanModule]:
    """make_tiny(family, c_dim=..., num_micro=..., any field of Hparams): equal arguments give equal modules."""

    def make(
        family: str = "stylegan2", *, resolution: int = 8, c_dim: int = 0, num_micro: int = 1, seed: int = 0,
        losses: Any = None, penalties: Any = R1_ALONE, augment: Any = None, freeze: int = 0,
        discriminator: Any = None, heads: Any = None, san: bool = False, anchor: Any = None,
        posthoc_ema: Any = (), **hparams: Any,
    ) -> GanModule:  # fmt: skip
        torch.manual_seed(seed)
        networks, shape = importlib.import_module(f"wplus.models.{family}"), {"resolution": resolution, "c_dim": c_dim}
        ours, theirs, numbers = FAMILIES[family]
        generator = networks.Generator(**shape, **ours)
        for layer in generator.synthesis.noise_layers:
            layer.noise_strength.data.fill_(0.1)
        judge = networks.Discriminator(**shape, **{**theirs, **(discriminator or {})})
        if anchor is not None:
            anchor.bind(random_images(resolution=resolution), generator, seed=seed)
        if san:
            judge = San(pixel=judge, **shape)
        return GanModule(
            generator,
            judge if heads is None else Aided(pixel=judge, **shape, channels=(8, 8, 8, 8), input_px=32),
            generator_loss=(losses or {}).get("generator", nonsaturating_generator),
            discriminator_loss=(losses or {}).get("discriminator", logistic_discriminator),
            hparams=Hparams(**{**RECIPE, **numbers, **hparams}),
            penalties=penalties,
            seed=seed,
            num_micro=num_micro,
            labels=torch.eye(c_dim) if c_dim else None,
            augment=augment,
            heads=heads,
            anchor=anchor,
            freeze_discriminator=freeze,
            posthoc_ema=posthoc_ema,
        )

    return make


def images_for(module: Any) -> ImageSet:
    """Random images in the format of a module."""
    if isinstance(module, TranslationModule):
        return random_images(channels=sum(module.channels))
    return random_images(c_dim=module.generator.c_dim, resolution=module.generator.resolution)


@pytest.fixture
def play() -> Callable[..., Any]:
    """play(module, steps): run this many steps outside of Lightning, with `optimizers` or the module's own."""

    def play_on(module: Any, steps: int, optimizers: list[torch.optim.Optimizer] | None = None) -> Any:
        images = images_for(module)
        optimizers = optimizers or module.configure_optimizers()
        batches = Batches(images, module.batch_size, start_nimg=lambda: module.images_seen)
        for batch in itertools.islice(batches, steps):
            module.run_step(*batch, optimizers=optimizers)
        return module

    return play_on


@pytest.fixture
def train(recorder: "Recorder") -> Callable[..., Any]:
    """train(folder, images, module): the module, trained in `folder` to this number of `images` or `minutes`."""

    def run(
        folder: Path, images: int | None, module: Any, *, export: Any = lambda module, **_: None, snapshot: int = 8,
        keep: int = 9, max_skipped: int = 4, status: int | None = None, minutes: float | None = None,
        tracker: Any = recorder,
    ) -> Any:  # fmt: skip
        batches = Batches(images_for(module), module.batch_size, mirror="x", start_nimg=lambda: module.images_seen)
        schedule = Schedule(
            kimg=None if images is None else images / 1000, minutes=minutes,
            log_kimg=0.008, snapshot_kimg=snapshot / 1000, keep_checkpoints=keep,
            max_skipped_in_a_row=max_skipped,
        )  # fmt: skip
        found = fit(module, batches, schedule=schedule, runtime=CPU, output_dir=folder, tracker=tracker, export=export)
        assert found == status
        return module

    return run


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
def start():
    """start(files, ...): a training that starts from them."""

    def make(checkpoint: Any, *, frozen: int = 0, resolution: int = 16, parts: Any = None, **changes: Any) -> Any:
        hparams = {"batch_size": 4, **changes.pop("hparams", {})}
        given = Transfer(checkpoint=checkpoint, freeze_discriminator=frozen)
        choices = {"preset": None, "loss": None, "runtime": CPU, "seed": 0, "num_samples": 4, **changes}
        return gan_training(
            data=lambda split: random_images(resolution=resolution), model=lambda: parts or model(), hparams=hparams,
            micro_batch_size=None, transfer=given, **choices,
        )  # fmt: skip

    return make


@pytest.fixture
def prepare(tmp_path) -> Callable[..., Any]:
    """prepare(any argument of encoder_training): one for a generator of 32 px, with the command's other defaults."""
    torch.manual_seed(0)
    generator = Generator(resolution=32, channel_base=128, channel_max=8, **STYLES)
    generator.mapping.w_avg.copy_(torch.arange(6.0))
    file = wplus.save(tmp_path / "model.safetensors", generator=generator)

    def training(**changes: Any) -> Any:
        choices = {
            "hparams": {"batch_size": 4}, "loss_weights": {"l1": 0.0, "l2": 1.0, "adversarial": 0.1},
            "progressive": {"start_kimg": 1}, "latent_discriminator": {}, "checkpoint": str(file),
            "data": lambda split, resolution: random_images(20 if split == "train" else 5, resolution=resolution),
            "encoder": lambda: functools.partial(SmallEncoder, width=16), "perceptual": None, "image_loss": None,
            "model": None, "loss": None, "runtime": CPU, "seed": 0, "num_samples": 4,
        }  # fmt: skip
        return encoder_training(**{**choices, **changes})

    return training


class TinyEncoder(Encoder):
    """Batch normalisation, a convolution, and one linear head per layer, in stages like e4e's."""

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
    """A term with costly features: squared differences at half the size."""

    name = "blurred"
    provenance = {"name": name}

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(images, 2)]

    def distance(self, features_a: Any, features_b: Any, mask: Any = None) -> torch.Tensor:
        return (features_a[0] - features_b[0]).square().mean(dim=(1, 2, 3))


@pytest.fixture
def tiny_encoder() -> Callable[..., EncoderModule]:
    """tiny_encoder(c_dim=..., section={...}): equal arguments give equal modules; sections replace ENCODER's keys."""

    def make(*, c_dim: int = 0, seed: int = 0, iterative: bool = False, **sections: Any) -> EncoderModule:
        torch.manual_seed(0)
        generator = Generator(resolution=8, c_dim=c_dim, **SMALL, **STYLES).eval().requires_grad_(False)
        generator.mapping.w_avg.copy_(torch.linspace(-1, 1, 6))
        for layer in generator.synthesis.noise_layers:
            layer.noise_strength.fill_(0.1)
        settings = {
            name: None if name in sections and sections[name] is None else {**part, **sections.get(name, {})}
            for name, part in ENCODER.items()
        }
        return build_encoder_module(
            Models(generator=generator),
            functools.partial(TinyEncoder, is_iterative=iterative),
            losses={"l1": L1(), "l2": L2(), "perceptual": Blurred()},
            hparams=make_encoder_hparams(**settings),
            runtime=CPU,
            seed=seed,
        )

    return make


AUTOENCODERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # arguments of decoder and encoder
    "plain": ({}, {}),
    "relu": ({}, {"code_activation": "relu"}),
    "sigmoid": ({}, {"code_activation": "sigmoid"}),
    "variational": ({"prior": "normal", "sigma": None}, {"variational": True}),
    "batch norm": ({"norm": "batch", "bottom": 2}, {}),
}


@pytest.fixture
def tiny_autoencoder() -> Callable[..., AutoencoderModule]:
    """tiny_autoencoder(case, c_dim=..., any field of AutoencoderHparams): equal arguments give equal modules."""

    def make(case: str = "plain", *, c_dim: int = 0, seed: int = 0, **hparams: Any) -> AutoencoderModule:
        torch.manual_seed(seed)
        decoder, encoder = AUTOENCODERS[case]
        shared = {**SMALL, **{key: decoder[key] for key in ("norm", "bottom") if key in decoder}}
        generator = Decoder(resolution=8, c_dim=c_dim, code_dim=6, **{**SMALL, **decoder})
        reader = CodeEncoder(w_dim=generator.w_dim, c_dim=c_dim, input_size=8, **shared, **encoder)
        numbers = AutoencoderHparams(**{"batch_size": 4, "lr": 0.01, "ema_kimg": 0.02, **hparams})
        data = random_images(40, c_dim=c_dim)
        return AutoencoderModule(reader, generator, hparams=numbers, data=data, seed=seed)

    return make


class Recorder(Tracker):
    """A tracker that keeps what it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[float, dict[str, float]]] = []
        self.rewinds: list[float] = []
        self.images: list[str] = []
        self.artifacts: list[dict[str, Any]] = []
        self.inputs: dict[str, Path] = {}
        self.values: dict[str, Any] = {}

    def log(self, values: Any, *, kimg: float | None = None) -> None:
        self.rows.append((kimg, dict(values)))

    def rewind(self, kimg: float) -> None:
        self.rewinds.append(kimg)

    def image(self, key: str, path: Any, **_: Any) -> None:
        self.images.append(f"{key}: {path.name}")

    def artifact(self, path: Any, **fields: Any) -> None:
        self.artifacts.append({"path": path, **fields})

    def use_artifact(self, path: Any, *, name: str, **_: Any) -> None:
        self.inputs[name] = path

    def summary(self, values: Any) -> None:
        self.values |= values


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def signals_restored() -> Iterator[None]:
    """Restore the signal handlers after a test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
