"""A step with augmentation: who sees which images, micro-batches, the controller."""

from typing import Any

import pytest
import torch

from tests.training.trained import assert_gradients_close, gradients
from wplus.core.images import to_float
from wplus.core.random import step_seed
from wplus.data import Batches
from wplus.training.augment.control import AdaptiveAugment, FixedAugment
from wplus.training.gan_losses import discriminator_batches
from wplus.training.phases import draw_pairs

PHASES = ("generator", "discriminator", "r1")


@pytest.fixture
def batch(make_images) -> tuple[torch.Tensor, torch.Tensor]:
    """Eight images of three classes, and their labels."""
    return Batches(make_images(c_dim=3), 8).at(0)


@pytest.mark.parametrize("augment", [lambda: FixedAugment(0.0), lambda: AdaptiveAugment(0.0, target=1.0)])
def test_p_0_changes_nothing(make_tiny, play, augment):
    plain, same = play(make_tiny(), 3), play(make_tiny(augment=augment()), 3)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, same.state_dict()[name]), name


@pytest.mark.parametrize("phase", PHASES)
def test_the_discriminator_sees_augmented_images_only(make_tiny, batch, phase):
    """A transform that erases the image: then D must have seen nothing."""
    blank = FixedAugment(1.0, transforms="cutout", strengths={"cutout_size": 3.0})
    module, seen = make_tiny(augment=blank, batch_size=8, c_dim=3), []
    module.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    gradients(module, phase, *batch)
    assert len(torch.cat(seen)) == (16 if phase == "discriminator" else 8)
    assert not torch.cat(seen).any()  # all is cut out


def test_real_and_generated_images_are_augmented_each_in_its_own_way(make_tiny, batch):
    """D would detect a transform that both had in common."""
    module = make_tiny(augment=FixedAugment(1.0), batch_size=8, c_dim=3)
    (pairs,) = discriminator_batches(module, draw_pairs(module, to_float(batch[0]), batch[1]))
    assert not torch.equal(pairs.augment_real.geometry, pairs.augment_fake.geometry)
    assert not torch.equal(pairs.augment_real.color, pairs.augment_fake.color)


def test_path_lengths_are_those_of_images_that_are_not_augmented(make_tiny, batch):
    modules = make_tiny(batch_size=8, c_dim=3), make_tiny(augment=FixedAugment(1.0), batch_size=8, c_dim=3)
    plain, found = (gradients(module, "path_length", *batch) for module in modules)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize("phase", PHASES)
def test_accumulated_gradients_are_the_full_batchs(make_tiny, batch, phase):
    whole, parts = (
        make_tiny(augment=FixedAugment(0.9, transforms="bgcfnc"), batch_size=8, num_micro=num, c_dim=3)
        for num in (1, 4)
    )
    assert_gradients_close(gradients(parts, phase, *batch), gradients(whole, phase, *batch))


def test_r1_is_the_gradient_by_the_image_before_it_is_augmented(make_tiny, batch):
    module = make_tiny(augment=FixedAugment(0.9), batch_size=8, c_dim=3, gamma=3.0, r1_interval=5)
    real = to_float(batch[0]).requires_grad_()
    torch.manual_seed(step_seed(0, 0, 0, "r1"))
    logits = module.discriminator(module.augment.sample(real)(real), batch[1])
    (by_image,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    penalty = 3.0 / 2 * 5 * by_image.square().sum(dim=(1, 2, 3)).mean()
    parameters = dict(module.discriminator.named_parameters())
    expected = dict(zip(parameters, torch.autograd.grad(penalty, parameters.values(), allow_unused=True), strict=True))
    found = gradients(module, "r1", *batch)
    for name, gradient in expected.items():
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_the_controller_follows_the_logits_of_real_images(make_tiny, play):
    """As passed to the discriminator's loss, and not those of generated images."""
    signs, loss = {"real": 0.0, "fake": 0.0}, make_tiny().discriminator_loss

    def counted(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        signs["real"] += real.sign().sum().item()
        signs["fake"] += fake.sign().sum().item()
        return loss(real, fake)

    augment = AdaptiveAugment(0.5, interval=100)
    play(make_tiny(augment=augment, losses={"discriminator": counted}, lr_discriminator=0.01), 5)
    assert signs["real"] != signs["fake"]
    assert augment.signs.tolist() == [signs["real"], 5 * 4]


def test_a_discriminator_with_dropout_moves_p(make_tiny, play):
    """Its logits of real images differ from pass to pass; their signs still show its confidence, and a seed repeats."""

    def run() -> Any:
        augment = AdaptiveAugment(0.4, interval=2, speed_kimg=0.4, target=-1.0)
        return play(make_tiny("mlp_gan", augment=augment, gamma=0.0, lr_discriminator=0.02), 8)

    module, again = run(), run()
    assert module.discriminator.arguments["dropout"] > 0
    assert module.skipped.tolist() == [0, 0]
    assert module.augment.p.item() == pytest.approx(0.4 + 4 * 8 / 400)
    assert -1 < module.augment.rt.item() < 1
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in module.state_dict().items())
