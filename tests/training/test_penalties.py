"""Gradient penalties in a step: their weights and intervals, and agreement with the papers."""

from dataclasses import dataclass

import pytest
import torch

from tests.fakes import penalties
from tests.training.trained import gradients
from wplus.config import build
from wplus.core.images import to_float
from wplus.data import Batches
from wplus.losses import adversarial
from wplus.training.gan_losses import discriminator_batches, penalty_loss
from wplus.training.hparams import Hparams
from wplus.training.penalties import R1, DiscriminatorBatch, Penalty, active_penalties
from wplus.training.phases import Told, draw_pairs

RELATIVISTIC = {
    "losses": {
        "generator": adversarial.relativistic_generator,
        "discriminator": adversarial.relativistic_discriminator,
    },
    "penalties": penalties("r1", "r2"),
}
WGAN_GP = {
    "losses": {"generator": adversarial.critic_generator, "discriminator": adversarial.wasserstein_discriminator},
    "penalties": penalties("gradient_penalty"),
}


def test_what_is_active():
    weights = {"batch_size": 4, "lr_generator": 1.0, "lr_discriminator": 1.0, "ema_kimg": 1.0, "ema_rampup": None}
    for gamma, expected in ((1.0, ["r1", "r2"]), (0.0, [])):
        assert [p.name for p in active_penalties(penalties("r1", "r2"), Hparams(gamma=gamma, **weights))] == expected


def test_each_looks_at_its_own_images():
    """The critic's slope shows which images it was asked about: D(x) = k x with k the label."""
    seen = {}

    def critic(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen[name] = images.detach()
        return images.sum(dim=(1, 2, 3)).view(-1, 1) * labels

    real, fake = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    pairs = DiscriminatorBatch(real, torch.full((2, 1), 3.0), fake, torch.full((2, 1), 5.0), torch.tensor([0.25, 0.75]))
    for name, slope, shown in (("r1", 3, [1, 1]), ("r2", 5, [0, 0]), ("gradient_penalty", 3, [0.25, 0.75])):
        squared = 4 * slope**2
        expected = squared if name != "gradient_penalty" else (squared**0.5 - 1) ** 2
        torch.testing.assert_close(penalties(name)[0](critic, pairs), torch.full((2,), float(expected)))
        assert seen[name][:, 0, 0, 0].tolist() == shown


def test_each_sees_its_images_as_augmentation_shows_them_to_the_discriminator():
    """D(x) = sum of x, and views that multiply: the slope by the image itself is theirs."""
    seen: list[torch.Tensor] = []

    def critic(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(images.detach())
        return images.sum(dim=(1, 2, 3)).view(-1, 1)

    real, none = torch.ones(2, 1, 2, 2), torch.zeros(2, 0)
    views = {"augment_real": lambda images: 2 * images, "augment_fake": lambda images: 3 * images}
    pairs = DiscriminatorBatch(real, none, 5 * real, none, torch.ones(2), **views)
    for name, penalty, shown in (("r1", 4 * 2**2, 2), ("r2", 4 * 3**2, 15), ("gradient_penalty", (2 * 2 - 1) ** 2, 2)):
        torch.testing.assert_close(penalties(name)[0](critic, pairs), torch.full((2,), float(penalty)))
        assert torch.equal(seen.pop(), shown * real)


@pytest.mark.parametrize("interval", [1, 3])
def test_a_penalty_of_every_step_is_part_of_the_loss(make_tiny, interval):
    """Without a separate step there is nothing to correct Adam for."""
    module = make_tiny(r1_interval=interval, pl_weight=0.0, **RELATIVISTIC)
    names = [phase.name for phase in module.phases()]
    assert names == ["generator", "discriminator"] + ["r1_r2"] * (interval > 1)
    beta2 = module.configure_optimizers()[1].param_groups[0]["betas"][1]
    assert beta2 == (0.99 if interval == 1 else pytest.approx(0.99**0.75))


@pytest.mark.parametrize("brought", [RELATIVISTIC, WGAN_GP], ids=["relativistic", "wgan_gp"])
def test_the_discriminators_gradient_with_its_penalties(make_tiny, make_images, brought):
    """One step against the sum written out: loss + gamma/2 (R1 + R2), or loss + lambda (|g| - 1)^2."""
    module = make_tiny(batch_size=8, c_dim=3, gamma=3.0, gp_weight=7.0, r1_interval=1, **brought)
    images, labels = Batches(make_images(c_dim=3), 8).at(0)
    found = gradients(module, "discriminator", images, labels)

    module.seed_phase("discriminator")
    (pairs,) = discriminator_batches(module, draw_pairs(module, to_float(images), labels))
    assert torch.equal(pairs.fake_labels, labels)
    critic = lambda x: module.discriminator(x, labels)
    value = module.discriminator_loss(critic(pairs.real), critic(pairs.fake)).mean()

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0].flatten(1)

    if brought is RELATIVISTIC:
        value = value + 3.0 / 2 * sum(gradient(x).square().sum(dim=1).mean() for x in (pairs.real, pairs.fake))
    else:
        share = pairs.alpha.view(-1, 1, 1, 1)
        assert len(share.unique()) == 8
        mixed = share * pairs.real + (1 - share) * pairs.fake
        value = value + 7.0 * (gradient(mixed).norm(dim=1) - 1).square().mean()
    parameters = list(module.discriminator.parameters())
    expected = [g for g in torch.autograd.grad(value, parameters, allow_unused=True) if g is not None]
    for a, b in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_the_relativistic_generator_is_compared_with_the_real_images_of_its_batch(make_tiny, make_images):
    module = make_tiny(batch_size=8, c_dim=3, style_mixing_prob=0.0, **RELATIVISTIC)
    images, labels = Batches(make_images(c_dim=3), 8).at(0)
    gradients(module, "generator", images, labels)
    module.seed_phase("generator")
    inputs = module.sample_inputs(8, labels=labels)
    assert torch.equal(inputs.c, labels)
    fake = module.generator.synthesis(module.generator.mapping(inputs.z, inputs.c), noise=inputs.noise)
    difference = module.discriminator(fake, labels) - module.discriminator(to_float(images), labels)
    expected = -torch.log(torch.sigmoid(difference)).mean().item()
    assert module.means.collect()["train/generator/loss"] == pytest.approx(expected, rel=1e-5)


def test_a_run_is_not_continued_with_another_loss(make_tiny):
    ours, other = make_tiny().run_fingerprint, make_tiny(**RELATIVISTIC).run_fingerprint
    assert ours["loss"] == {"generator": "nonsaturating_generator", "discriminator": "logistic_discriminator"}
    assert (ours["penalties"], other["penalties"]) == ("r1", "r1, r2")
    assert ours["loss"] != other["loss"]


def test_the_optimizers_and_penalties_follow_the_clock(make_tiny, play):
    moving = {"decay_kimg": 0.016, "lr_end": 0.001, "beta2_end": 0.9, "gamma_end": 0.5}
    module = make_tiny(r1_interval=1, pl_weight=0.0, **moving)
    optimizers = module.configure_optimizers()
    assert optimizers[1].param_groups[0]["lr"] == 0.002
    play(module, 3, optimizers)  # the third step begins at half of the way
    for optimizer in optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0015)
        assert optimizer.param_groups[0]["betas"] == pytest.approx((0.0, 0.945))
    assert module.hp_now.gamma == pytest.approx(0.75)


@pytest.mark.parametrize(("moving", "gamma"), [({"decay_kimg": 0.016, "gamma_end": 0.5}, 0.75), ({}, 1.0)])
def test_a_penalty_weighs_what_the_recipe_says_at_this_moment(make_tiny, make_images, play, monkeypatch, moving, gamma):
    module = make_tiny(r1_interval=1, pl_weight=0.0, **moving)
    monkeypatch.setattr(R1, "__call__", lambda self, discriminator, batch: torch.ones(4))
    play(module, 3)  # the third step begins at half of the way
    images, labels = Batches(make_images(), 4).at(0)
    draw = draw_pairs(module, to_float(images), labels)
    (pairs,) = discriminator_batches(module, draw)
    assert penalty_loss(module, pairs, draw.weights, Told()).item() == pytest.approx(gamma / 2)


@dataclass(frozen=True)
class Drift(Penalty):
    """|D(x)|^2 on real images, as a penalty defined outside of the package."""

    name = "drift"
    uses_fake = False

    def __call__(self, discriminator, batch) -> torch.Tensor:
        return discriminator(batch.real, batch.labels).square().flatten()


@pytest.mark.parametrize("interval", [1, 2])
def test_another_penalty_needs_no_edit_elsewhere(make_tiny, play, interval):
    """Chosen by a loss, weighted by its own number: it is trained with, logged and explained."""
    brought = build([{"_target_": f"{__name__}.Drift", "weight": 0.25}])
    module = make_tiny(penalties=brought, r1_interval=interval, pl_weight=0.0)
    play(module, 2)
    name = "train/drift/penalty"
    assert module.means.collect()[name] > 0
    assert module.log_infos()[name].meaning.startswith("|D(x)|^2 on real images")
    assert module.run_fingerprint["penalties"] == "drift"
