"""One of two processes that train the same, started as by torchrun: two_ranks.py FOLDER.

Each case of CASES leaves its state in FOLDER/CASE-RANK.pt, to be compared by test_distributed.py.
"""

import functools
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from wplus.config import CONFIG_FOLDER, build, composed
from wplus.core.distributed import average_gradients, gathered, mean_over_ranks, rank_and_world
from wplus.data import Batches, ImageSet
from wplus.losses.discriminator import DiscriminatorFeatures
from wplus.losses.identity import EffNetLite0Identity
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.losses.pixel import L1, L2
from wplus.losses.shape_style import Shape, Style
from wplus.losses.ssim import MSSSIM, SSIM
from wplus.models import dcgan, mlp_gan, stylegan2
from wplus.models.autoencoder import CodeEncoder, Decoder, NormKind
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.encoders.e4e import LatentDiscriminator
from wplus.models.encoders.small import SmallEncoder
from wplus.models.projected import Aided, Projected
from wplus.models.san import San
from wplus.models.translation.patch import PatchDiscriminator
from wplus.models.translation.resnet import ResNet
from wplus.training import build_translation
from wplus.training.anchor import Anchor
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, ScheduledAugment
from wplus.training.augment.diffaug import DiffAugment
from wplus.training.autoencoder import AutoencoderModule
from wplus.training.autoencoder_hparams import AutoencoderHparams
from wplus.training.encoder import EncoderModule
from wplus.training.encoder_hparams import make_encoder_hparams
from wplus.training.gan import GanModule
from wplus.training.heads import Heads, ScheduledHeads
from wplus.training.hparams import Hparams
from wplus.training.module import TrainingModule
from wplus.training.translation_hparams import CycleGANHparams, Pix2PixHparams

LOSSES = sorted(path.stem for path in (CONFIG_FOLDER / "loss").glob("*.yaml"))
TRANSLATORS = {"pix2pix": Pix2PixHparams, "cyclegan": CycleGANHparams}
SIZE = {"resolution": 8, "channel_base": 64, "channel_max": 8, "c_dim": 3}
LR = {
    "autoencoder": 1e-4,
    "variational autoencoder": 1e-4,
    "normalised autoencoder": 1e-4,
    "projected": 0.001,
    "encoder by further losses": 0.0001,
}  # else 0.01, with which rounding grows where it is steep
RECIPE = {"lr_generator": 0.01, "lr_discriminator": 0.01, "ema_kimg": 0.1, "ema_rampup": None, "r1_interval": 2}


@functools.cache
def composed_loss(name: str) -> dict[str, Any]:
    """Cached, because composing takes a second."""
    return composed("train", [f"loss={name}"])["loss"]


def gan(loss: str = "nonsaturating", augment: Any = None, heads: Heads | None = None, **hparams: Any) -> GanModule:
    """StyleGAN2 with labels, path lengths and style mixing, on images of 8 px."""
    chosen = build(composed_loss(loss))
    numbers = {"batch_size": 8, "gamma": 1.0, "pl_interval": 2, **RECIPE, **chosen.pop("hparams", {}), "n_critic": 1}
    generator = stylegan2.Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **SIZE)
    for layer in generator.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.1)
    judge: DiscriminatorNetwork = stylegan2.Discriminator(mbstd_group_size=2, num_mapping_layers=1, **SIZE)
    if heads is not None:
        judge = Aided(pixel=judge, resolution=8, c_dim=3, channels=(8, 8, 8, 8), input_px=32)
    return GanModule(
        generator, judge, augment=augment, heads=heads, labels=torch.eye(3),
        hparams=Hparams(**{**numbers, **hparams}), **chosen,
    )  # fmt: skip


def projected() -> GanModule:
    """Heads on frozen features alone, with their own losses."""
    losses = build(composed("train", ["discriminator=projected"])["discriminator"]["loss"])
    judge = Projected(resolution=8, c_dim=3, channels=(8, 8, 8, 8), input_px=32)
    hparams = Hparams(batch_size=8, gamma=0.0, pl_interval=2, **RECIPE)
    generator = stylegan2.Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **SIZE)
    return GanModule(generator, judge, heads=Heads(), labels=torch.eye(3), hparams=hparams, **losses)


def san() -> GanModule:
    """A last layer that learns separately, which takes no labels."""
    size = {**SIZE, "c_dim": 0}
    losses = build(composed_loss("nonsaturating"))
    judge = San(pixel=stylegan2.Discriminator(mbstd_group_size=2, **size), resolution=8)
    hparams = Hparams(batch_size=8, gamma=1.0, pl_interval=2, **RECIPE)
    generator = stylegan2.Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **size)
    return GanModule(generator, judge, hparams=hparams, **losses)


def anchored() -> GanModule:
    """A warm-up of one step, then pairs, on images without labels.

    The mapping's regression is by Adam, whose first steps have one length whatever the gradient: short ones here.
    """
    size = {**SIZE, "c_dim": 0}
    generator = stylegan2.Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **size)
    anchor = Anchor(warmup_kimg=0.008, fit_steps=2, fit_lr=0.001, pool=32, perceptual=EffNetLite0Distance())
    anchor.bind(
        ImageSet(torch.arange(12 * 192, dtype=torch.uint8).view(12, 3, 8, 8), None, list("abcdefghijkl")),
        generator,
        seed=0,
    )
    numbers = {**RECIPE, "lr_generator": 1e-4}
    hparams = Hparams(batch_size=8, gamma=1.0, pl_interval=2, **numbers)
    judge = stylegan2.Discriminator(mbstd_group_size=2, **size)
    return GanModule(generator, judge, hparams=hparams, anchor=anchor, **build(composed_loss("nonsaturating")))


def further_losses() -> dict[str, ImageDistance]:
    """All image-pair losses that need no download."""
    judge = stylegan2.Discriminator(**{**SIZE, "resolution": 16})
    return {
        "l1": L1(), "l2": L2(), "ssim": SSIM(), "ms_ssim": MSSSIM(), "perceptual": EffNetLite0Distance(),
        "identity": EffNetLite0Identity(), "shape": Shape(), "style": Style(EffNetLite0Distance()),
        "features": DiscriminatorFeatures(judge),
    }  # fmt: skip


def encoder(
    noise: str = "random", styles: str = "random", losses: Callable[[], dict[str, ImageDistance]] | None = None,
    **encoder_options: Any,
) -> EncoderModule:  # fmt: skip
    """An encoder, a discriminator of latents with pools that are full after two steps; with losses at 16 px."""
    terms, size = ({"l2": L2()}, 8) if losses is None else (losses(), 16)
    generator = stylegan2.Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **{**SIZE, "resolution": size})
    for layer in generator.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.1)
    hparams = make_encoder_hparams(
        {"batch_size": 8, "lr": 0.01, "ema_kimg": 0.1, "noise": noise,
         "num_passes": 2 if encoder_options.get("is_iterative") else 1},
        {**dict.fromkeys(terms, 1.0), "adversarial": 0.1, "delta": 0.01},
        {"start_kimg": 0.008, "every_kimg": 0.008},
        {"lr": 0.01, "r1_interval": 2, "pool_size": 12, "styles": styles},
    )  # fmt: skip
    return EncoderModule(
        SmallEncoder(num_ws=generator.num_ws, w_dim=4, input_size=size, width=16, **encoder_options), generator,
        losses=terms, hparams=hparams, fingerprint="", discriminator=LatentDiscriminator(w_dim=4, width=8),
    )  # fmt: skip


def tiny_translation(
    kind: str, *, channels: tuple[int, int] = (3, 3), seed: int = 0, norm: str = "instance", dropout: float = 0.0,
    batch_size: int = 4, resolution: int = 8, **hparams: Any,
) -> Any:  # fmt: skip
    """A translator with a discriminator of patches, or two of each: equal arguments give equal modules."""
    torch.manual_seed(seed)
    sizes = {"num_blocks": 1, "num_downs": 1, "width": 4, "norm": norm, "dropout": dropout}
    numbers = TRANSLATORS[kind](batch_size=batch_size, **{"jitter": 1.0, **hparams})
    losses = build(composed_loss("lsgan" if kind == "cyclegan" else "nonsaturating"))
    assemble = {"pix2pix": build_translation.pix2pix, "cyclegan": build_translation.cyclegan}[kind]
    parts = {
        "generator": partial(ResNet, **sizes),
        "discriminator": partial(PatchDiscriminator, num_layers=1, width=4, norm=norm),
    }
    return assemble(parts, channels, resolution, hparams=numbers, seed=seed, generator_loss=losses["generator_loss"],
                    discriminator_loss=losses["discriminator_loss"])  # fmt: skip


def autoencoder(*, norm: NormKind = "group", **hparams: Any) -> AutoencoderModule:
    """A sparse one with corrupted inputs; a variational one whose rate has free bits; with classes."""
    variational = "free_bits" in hparams
    decoder = Decoder(code_dim=5, prior="normal", sigma=None if variational else 1.0, norm=norm, **SIZE)
    activation: Any = "linear" if variational else "sigmoid"
    reader = CodeEncoder(
        w_dim=decoder.w_dim, input_size=8, c_dim=3, variational=variational, code_activation=activation, norm=norm,
        channel_base=64, channel_max=8,
    )  # fmt: skip
    data = ImageSet(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.eye(3)[:2], ["a", "b"])
    numbers = AutoencoderHparams(batch_size=8, ema_kimg=0.1, **hparams)
    return AutoencoderModule(reader, decoder, hparams=numbers, data=data)


def normalised(*, lost: bool = False) -> GanModule:
    """Batch normalisation: every process has its own statistics during training.

    With `lost` one process loses a batch: what it leaves in the statistics must not reach the other.
    """
    numbers = Hparams(batch_size=8, gamma=0.0, pl_weight=0.0, style_mixing_prob=0.0, **RECIPE)
    losses = build(composed_loss("nonsaturating"))
    module = GanModule(
        dcgan.Generator(z_dim=4, **SIZE), dcgan.Discriminator(**SIZE), hparams=numbers, labels=torch.eye(3),
        **{role: losses[role] for role in ("generator_loss", "discriminator_loss")},
    )  # fmt: skip

    def lose(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0] * float("nan"),) if lost and rank_and_world()[0] == 1 and module.images_seen == 16 else args

    module.generator.synthesis.norms[0].register_forward_pre_hook(lose)
    return module


def dropping() -> GanModule:
    """Dropout in the discriminator."""
    numbers = Hparams(batch_size=8, gamma=0.0, pl_weight=0.0, style_mixing_prob=0.0, **RECIPE)
    losses = build(composed_loss("nonsaturating"))
    size = {"resolution": 8, "c_dim": 3, "width": 16}
    return GanModule(
        mlp_gan.Generator(z_dim=4, **size), mlp_gan.Discriminator(**size), hparams=numbers, labels=torch.eye(3),
        **{role: losses[role] for role in ("generator_loss", "discriminator_loss")},
    )  # fmt: skip


EQUAL: dict[str, Callable[[], TrainingModule]] = {  # to one process
    **{f"loss={loss}": partial(gan, loss) for loss in LOSSES},
    "augment": lambda: gan(augment=FixedAugment(0.7, transforms="bgcfnc")),  # every kind
    "ada": lambda: gan(augment=AdaptiveAugment(0.5, interval=2, speed_kimg=1)),
    "scheduled": lambda: gan(augment=ScheduledAugment(0.1, p_end=0.8, decay_kimg=0.02)),
    "penalties of every step": lambda: gan("relativistic", AdaptiveAugment(0.5), r1_interval=1),
    "dropout": dropping,
    "diffaug and blur": lambda: gan(augment=DiffAugment(), blur_sigma=1.5, blur_fade_kimg=0.1),
    "heads": lambda: gan(heads=ScheduledHeads(weight=0.5, target=0.55, interval=2, speed_kimg=0.05, policy="color")),
    "projected": projected,
    "san": san,
    "anchor": anchored,
    "encoder": encoder,
    "encoder by further losses": partial(encoder, losses=further_losses),
    "encoder by the first style": partial(encoder, "const", "first"),
    "iterative encoder": partial(encoder, is_iterative=True),
    "autoencoder": partial(autoencoder, noise=0.2, masked=0.2, kl_sparsity=1.0, l1=0.1, contractive=0.1),
    "variational autoencoder": partial(autoencoder, free_bits=0.1, kl_warmup_kimg=0.01),
    "pix2pix": partial(tiny_translation, "pix2pix", batch_size=8, dropout=0.5, jitter=1.2, l1_weight=1.0),
    "cyclegan": partial(tiny_translation, "cyclegan", batch_size=8, pool_size=12, jitter=1.2),
}
SAME: dict[str, Callable[[], TrainingModule]] = {  # in all processes, but not as in one
    "normalised": normalised,
    "normalised, and a batch lost": partial(normalised, lost=True),
    "normalised autoencoder": partial(autoencoder, norm="batch"),
    "normalised translator": partial(tiny_translation, "pix2pix", batch_size=8, norm="batch"),
}
CASES = {**EQUAL, **SAME}


def trained(case: str) -> dict[str, torch.Tensor]:
    """The state after four steps in which every process sees its share of each batch.

    By plain gradient descent: Adam's first steps have one length whatever the gradient, that of rounding included.
    """
    torch.manual_seed(0)
    module = CASES[case]()
    rank, world = rank_and_world()
    resolution, channels = getattr(module.generator, "resolution", 8), sum(getattr(module, "channels", (3,)))
    shape = (32, channels, resolution, resolution)
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.eye(3)[torch.arange(32) % 3] if getattr(module.generator, "c_dim", 0) else None
    data = ImageSet(images, labels, [str(index) for index in range(32)])
    batches = Batches(data, 8, rank=rank, world_size=world)
    lr = LR.get(case, 0.01)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD([p for group in optimizer.param_groups for p in group["params"]], lr=lr, fused=True)
        for optimizer in module.configure_optimizers()
    ]
    for _, batch in zip(range(4), batches, strict=False):
        module.run_step(*batch, optimizers=optimizers)
    assert int(module.nimg) == 32
    return module.state_dict()


def main(folder: Path) -> None:
    """Exchange what must agree; a failed assertion ends the process with an error."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    gradients = [torch.full((2, 3), float(rank)), torch.arange(4.0) * (rank + 1)]
    average_gradients(gradients)
    torch.testing.assert_close(gradients, [torch.full((2, 3), 0.5), torch.arange(4.0) * 1.5])
    torch.testing.assert_close(mean_over_ranks(torch.tensor(float(rank))), torch.tensor(0.5))
    torch.testing.assert_close(gathered(torch.full((2, 1), float(rank))), torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
    for case in CASES:
        torch.save(trained(case), folder / f"{case}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
