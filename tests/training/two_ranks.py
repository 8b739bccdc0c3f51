"""One of two processes of test_distributed.py: python two_ranks.py RANK MEETING_FILE. Prints "same" at the end."""

import sys

import torch
import torch.distributed as dist

from wplus.core.distributed import average_gradients, gathered, mean_over_ranks
from wplus.data import Batches, ImageSet
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.losses.pixel import L2
from wplus.models import dcgan
from wplus.models.encoders.e4e import LatentDiscriminator
from wplus.models.encoders.small import SmallEncoder
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.augment.control import AdaptiveAugment
from wplus.training.encoder import EncoderModule
from wplus.training.encoder_hparams import make_encoder_hparams
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.module import TrainingModule
from wplus.training.penalties import R1

RANK = int(sys.argv[1])
SIZE = {"resolution": 8, "channel_base": 64, "channel_max": 8}
RECIPE = {"lr_generator": 0.01, "lr_discriminator": 0.01, "ema_kimg": 0.1, "ema_rampup": None, "r1_interval": 2}


def adversarial_game() -> GanModule:
    """Generator against discriminator."""
    return GanModule(
        Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **SIZE),
        Discriminator(mbstd_group_size=2, **SIZE),
        generator_loss=nonsaturating_generator,
        discriminator_loss=logistic_discriminator,
        hparams=Hparams(batch_size=8, gamma=1.0, pl_interval=2, **RECIPE),
        penalties=[R1("gamma")],
        augment=AdaptiveAugment(0.5, interval=2, speed_kimg=1),
    )


def normalised_game() -> GanModule:
    """Batch normalisation: every process has statistics of its own while it trains."""
    size = {"resolution": 8, "channel_base": 64, "channel_max": 8}
    return GanModule(
        dcgan.Generator(z_dim=4, **size),
        dcgan.Discriminator(**size),
        generator_loss=nonsaturating_generator,
        discriminator_loss=logistic_discriminator,
        hparams=Hparams(batch_size=8, gamma=0.0, pl_weight=0.0, style_mixing_prob=0.0, **RECIPE),
    )


def interrupted_game() -> GanModule:
    """The same, but one process loses a batch: what it leaves in the statistics must not reach the other."""
    game = normalised_game()

    def lose(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (args[0] * float("nan"),) if RANK == 1 and game.images_seen == 16 else args

    game.generator.synthesis.norms[0].register_forward_pre_hook(lose)
    return game


class NormalisedEncoder(SmallEncoder):
    """Its images are normalised by batch, as those within ResNets are."""

    def __init__(self, **kwargs: int) -> None:
        super().__init__(**kwargs)
        self.image_norm = torch.nn.BatchNorm2d(3)

    def _offsets(self, x: torch.Tensor, stage: int) -> torch.Tensor:
        return super()._offsets(self.image_norm(x), stage)


def encoder_game() -> EncoderModule:
    """An encoder, a discriminator of codes with pools that are full after two steps."""
    generator = Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **SIZE)
    hparams = make_encoder_hparams(
        {"batch_size": 8, "lr": 0.01, "ema_kimg": 0.1},
        {"l2": 1.0, "adversarial": 0.1, "delta": 0.01},
        {"start_kimg": 0.008, "every_kimg": 0.008},
        {"lr": 0.01, "r1_interval": 2, "pool_size": 12},
    )
    return EncoderModule(
        NormalisedEncoder(num_ws=4, w_dim=4, input_size=8, width=16),
        generator,
        losses={"l2": L2()},
        hparams=hparams,
        fingerprint="",
        discriminator=LatentDiscriminator(w_dim=4, width=8),
    )


def play(game: TrainingModule) -> TrainingModule:
    """Four steps in which every process sees its share of each batch."""
    images = torch.randint(0, 256, (32, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batches = Batches(ImageSet(images, None, [str(i) for i in range(32)]), 8, rank=RANK, world_size=2)
    optimizers = game.configure_optimizers()
    for _, (pixels, labels) in zip(range(4), batches, strict=False):
        assert len(pixels) == 4
        game.run_step(pixels, labels, optimizers)
    return game


def assert_the_same_everywhere(game: TrainingModule) -> None:
    """Every weight and buffer, to the bit."""
    state = {name: value.double() for name, value in game.state_dict().items()}
    flat = torch.cat([value.flatten() for value in state.values()])
    other = flat.clone()
    dist.broadcast(other, src=0)
    assert torch.equal(flat, other), [n for n, v in state.items() if not v.isfinite().all()]
    assert int(state["nimg"]) == 32


def main() -> None:
    """Exchange what must agree; an assertion that fails ends the process with an error."""
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=RANK, world_size=2)
    gradients = [torch.full((2, 3), float(RANK)), torch.arange(4.0) * (RANK + 1)]
    average_gradients(gradients)
    torch.testing.assert_close(gradients, [torch.full((2, 3), 0.5), torch.arange(4.0) * 1.5])
    torch.testing.assert_close(mean_over_ranks(torch.tensor(float(RANK))), torch.tensor(0.5))
    torch.testing.assert_close(gathered(torch.full((2, 1), float(RANK))), torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
    for make in (adversarial_game, normalised_game, interrupted_game, encoder_game):
        torch.manual_seed(0)
        assert_the_same_everywhere(play(make()))
    dist.destroy_process_group()
    print("same")


if __name__ == "__main__":
    main()
