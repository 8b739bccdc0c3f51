"""Networks with batch normalisation: what is normalised together, and what the moving average keeps."""

import dataclasses
import itertools

import pytest
import torch

from wplus.core.images import to_float
from wplus.data import Batches
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models.dcgan import Discriminator, Generator
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.penalties import DiscriminatorBatch, both_logits


def build_gan(resolution: int) -> GanModule:
    torch.manual_seed(0)
    size = {"resolution": resolution, "channel_base": 64, "channel_max": 8}
    hparams = Hparams(
        batch_size=4, gamma=0.0, lr_generator=0.01, lr_discriminator=0.01, ema_kimg=0.02, ema_rampup=None,
        pl_weight=0.0, style_mixing_prob=0.0,
    )  # fmt: skip
    losses = {"generator_loss": nonsaturating_generator, "discriminator_loss": logistic_discriminator}
    return GanModule(Generator(z_dim=4, **size), Discriminator(**size), hparams=hparams, **losses)


@pytest.fixture
def game() -> GanModule:
    return build_gan(8)


def test_real_and_generated_images_are_normalised_apart():
    """At 16 px, for at 8 px this discriminator has nothing to normalise behind the layer that reads the image."""
    discriminator = build_gan(16).discriminator
    assert len(discriminator.norms) == 1
    none = torch.zeros(4, 0)
    pairs = DiscriminatorBatch(torch.randn(4, 3, 16, 16), none, torch.randn(4, 3, 16, 16) + 3, none, torch.ones(4))
    real, fake = both_logits(discriminator, pairs)
    assert torch.equal(real, discriminator(pairs.real))
    assert torch.equal(fake, discriminator(pairs.fake))
    assert not torch.allclose(real, discriminator(torch.cat([pairs.real, pairs.fake]))[:4])


def test_the_average_has_the_statistics_of_the_generator(game, make_images):
    optimizers = game.configure_optimizers()
    for batch in itertools.islice(Batches(make_images(), 4), 3):
        game.run_step(*batch, optimizers=optimizers)
    ours, theirs = dict(game.ema.named_buffers()), dict(game.generator.named_buffers())
    assert any(name.endswith("running_var") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert game.ema.synthesis.norms[0].running_var.sum() != 8
    assert not any(module.training for module in game.ema.modules())
    z = torch.randn(4, 4)
    torch.testing.assert_close(game.ema(z)[:1], game.ema(z[:1]))


def test_without_a_half_life_the_average_is_the_generator(game, make_images):
    game.hp_now = dataclasses.replace(game.hp, ema_kimg=0.0)
    game.run_step(*Batches(make_images(), 4).at(0), optimizers=game.configure_optimizers())
    for ours, theirs in zip(game.ema.parameters(), game.generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def statistics(*networks: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Running means and variances."""
    named = [(f"{index}.{name}", buffer) for index, net in enumerate(networks) for name, buffer in net.named_buffers()]
    return {name: buffer.clone() for name, buffer in named if name.endswith(("running_mean", "running_var"))}


@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
def test_a_lost_batch_leaves_the_statistics_as_they_were(make_images, lost):
    """Of the discriminator, which normalises from 16 px on."""
    game, images = build_gan(16), make_images(resolution=16)
    optimizers, batches = game.configure_optimizers(), Batches(images, 4)
    game.run_step(*batches.at(0), optimizers=optimizers)
    before = statistics(game.discriminator)
    assert len(before) == 2
    game.update(torch.full((4, 3, 16, 16), lost), torch.zeros(4, 0), optimizers)
    assert game.skipped[0] == 1
    assert all(torch.equal(value, before[name]) for name, value in statistics(game.discriminator).items())
    assert all(value.isfinite().all() for value in game.state_dict().values())
    assert game.discriminator.eval()(torch.zeros(1, 3, 16, 16)).isfinite()
    game.discriminator.train()
    game.run_step(*batches.at(4), optimizers=optimizers)
    assert all(not torch.equal(value, before[name]) for name, value in statistics(game.discriminator).items())


def test_a_lost_channel_of_the_generator_is_not_in_the_average_either(game, make_images):
    """The other channels of the same layer move on."""
    optimizers, batches = game.configure_optimizers(), Batches(make_images(), 4)
    game.run_step(*batches.at(0), optimizers=optimizers)
    norm, start = game.generator.synthesis.norms[0], statistics(game.generator)

    def lose_a_channel(module: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        x = args[0].clone()
        x[:, 1] = float("nan")
        return (x,)

    handle = norm.register_forward_pre_hook(lose_a_channel)
    game.run_step(*batches.at(4), optimizers=optimizers)
    handle.remove()
    now = statistics(game.generator)
    assert now["0.synthesis.norms.0.running_var"][1] == start["0.synthesis.norms.0.running_var"][1]
    moved = [index for index in range(len(norm.weight)) if index != 1]
    assert (now["0.synthesis.norms.0.running_var"] != start["0.synthesis.norms.0.running_var"])[moved].all()
    assert all(torch.equal(value, now[name]) for name, value in statistics(game.ema).items())
    assert game.ema(torch.randn(2, 4)).isfinite().all()


# Encoders


def test_those_of_an_encoder_move_once_a_step(tiny_encoder, make_images):
    """The reference's discriminator step runs the encoder once more, in training mode."""
    game = tiny_encoder()
    real, labels = to_float(make_images(4).batch(torch.arange(4))[0]), torch.zeros(4, 0)
    game.update(real, labels, game.configure_optimizers())
    assert int(game.encoder.norm.num_batches_tracked) == 1
    torch.testing.assert_close(game.encoder.norm.running_mean, 0.1 * real.mean(dim=(0, 2, 3)))


@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
def test_a_lost_batch_leaves_those_of_an_encoder_as_they_were(tiny_encoder, make_images, lost):
    game, real, labels = tiny_encoder(), to_float(make_images(4).batch(torch.arange(4))[0]), torch.zeros(4, 0)
    optimizers = game.configure_optimizers()
    game.update(real, labels, optimizers)
    before = game.encoder.norm.running_mean.clone(), game.encoder.norm.running_var.clone()
    game.update(torch.full_like(real, lost), labels, optimizers)
    assert game.skipped[0] > 0
    for network in (game.encoder, game.average):
        assert torch.equal(network.norm.running_mean, before[0])
        assert torch.equal(network.norm.running_var, before[1])
    game.update(real, labels, optimizers)
    assert (game.encoder.norm.running_mean != before[0]).all()
