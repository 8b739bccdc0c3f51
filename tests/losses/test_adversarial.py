"""The game's losses against their definitions by probabilities, and where their gradients lead."""

import functools

import pytest
import torch
from omegaconf import OmegaConf

from wplus.config import CONFIG_FOLDER
from wplus.losses import adversarial
from wplus.signatures import complete

# Every loss against its formula, values and derivatives by hand; t is a logit
SIGMOID = lambda t: 1 / (1 + torch.exp(-t))  # noqa: E731
GENERATOR = {  # loss -> its value and its derivative by the logit of a generated image
    adversarial.minimax_generator: (lambda t: torch.log(1 - SIGMOID(t)), lambda t: -SIGMOID(t)),
    adversarial.nonsaturating_generator: (lambda t: -torch.log(SIGMOID(t)), lambda t: SIGMOID(t) - 1),
    adversarial.least_squares_generator: (lambda t: (t - 1) ** 2 / 2, lambda t: t - 1),
    adversarial.critic_generator: (lambda t: -t, lambda t: -torch.ones_like(t)),
}
DISCRIMINATOR = {  # loss -> its value, and its derivatives by the logits of a real and a generated image
    adversarial.logistic_discriminator: (
        lambda r, f: -torch.log(SIGMOID(r)) - torch.log(1 - SIGMOID(f)), lambda r, f: (SIGMOID(r) - 1, SIGMOID(f)),
    ),
    adversarial.least_squares_discriminator: (lambda r, f: (r - 1) ** 2 / 2 + f**2 / 2, lambda r, f: (r - 1, f)),
    adversarial.hinge_discriminator: (
        lambda r, f: (1 - r).clamp(min=0) + (1 + f).clamp(min=0), lambda r, f: (-(r < 1).double(), (f > -1).double()),
    ),
    adversarial.wasserstein_discriminator: (
        lambda r, f: f - r + 0.001 * r**2, lambda r, f: (0.002 * r - 1, torch.ones_like(f)),
    ),
    adversarial.relativistic_discriminator: (
        lambda r, f: -torch.log(SIGMOID(r - f)), lambda r, f: (SIGMOID(r - f) - 1, 1 - SIGMOID(r - f)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("loss", GENERATOR, ids=lambda loss: loss.__name__)
def test_generator_losses(loss):
    value, derivative = GENERATOR[loss]
    fake = torch.linspace(-6, 6, 13, dtype=torch.float64).view(-1, 1).requires_grad_()
    found = loss(fake)
    torch.testing.assert_close(found, value(fake))
    torch.testing.assert_close(torch.autograd.grad(found.sum(), fake)[0], derivative(fake).detach())
    assert not adversarial.compares(loss)


@pytest.mark.parametrize("loss", DISCRIMINATOR, ids=lambda loss: loss.__name__)
def test_discriminator_losses(loss):
    value, derivatives = DISCRIMINATOR[loss]
    logits = [torch.randn(9, 1, dtype=torch.float64).mul(3).requires_grad_() for _ in range(2)]
    found = loss(*logits)
    assert found.shape == (9, 1)
    torch.testing.assert_close(found, value(*logits))
    for by_hand, by_autograd in zip(derivatives(*logits), torch.autograd.grad(found.sum(), logits), strict=True):
        torch.testing.assert_close(by_autograd, by_hand.detach())


def test_the_relativistic_generator_is_the_discriminator_with_the_roles_exchanged():
    real, fake = torch.randn(2, 7, 1, dtype=torch.float64)
    found = adversarial.relativistic_generator(fake, real)
    torch.testing.assert_close(found, -torch.log(SIGMOID(fake - real)))
    assert torch.equal(found, adversarial.relativistic_discriminator(real=fake, fake=real))
    assert adversarial.compares(adversarial.relativistic_generator)
    assert adversarial.compares(functools.partial(adversarial.relativistic_generator))


def test_a_loss_says_whether_the_sign_of_a_logit_means_real():
    """The logits of a discriminator that knows nothing of an image, at the minimum of its loss, are at the boundary."""
    for loss in DISCRIMINATOR:
        if loss is adversarial.wasserstein_discriminator:  # whose drift is no part of the loss as published
            loss = functools.partial(loss, drift=0.0)
        logit = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(logit, logit).sum(), logit)  # real or generated, with even odds
        shift = loss(logit + 5, logit + 5) - loss(logit, logit)
        is_at_zero = slope.abs().item() < 1e-12 and shift.item() > 0
        assert (adversarial.why_unsigned(functools.partial(loss)) is None) == is_at_zero, loss


def test_no_loss_overflows():
    far = torch.tensor([[-1000.0], [1000.0]], requires_grad=True)
    for loss in (*GENERATOR, *DISCRIMINATOR, adversarial.relativistic_generator):
        found = loss(*((far,) if loss in GENERATOR else (far, -far)))
        assert found.isfinite().all(), loss.__name__
        assert torch.autograd.grad(found.sum(), far)[0].isfinite().all(), loss.__name__


# The group loss: which functions a name stands for, with which penalties and numbers


FILES = {path.stem: path for path in (CONFIG_FOLDER / "loss").glob("*.yaml")}
LOSSES: dict[str, tuple[str, str, list[tuple[str, str]], dict[str, float]]] = {
    # generator's, discriminator's, penalties, hyper-parameters
    "minimax": ("minimax_generator", "logistic_discriminator", [("R1", "gamma")], {}),
    "nonsaturating": ("nonsaturating_generator", "logistic_discriminator", [("R1", "gamma")], {}),
    "hinge": ("critic_generator", "hinge_discriminator", [("R1", "gamma")], {}),
    "lsgan": ("least_squares_generator", "least_squares_discriminator", [("R1", "gamma")], {}),
    "wgan_gp": (
        "critic_generator", "wasserstein_discriminator", [("GradientPenalty", "gp_weight")],
        {"gp_weight": 10.0, "n_critic": 5, "r1_interval": 1},
    ),
    "relativistic": (
        "relativistic_generator", "relativistic_discriminator", [("R1", "gamma"), ("R2", "gamma")], {"r1_interval": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_a_name_stands_for(name):
    chosen = OmegaConf.to_container(OmegaConf.load(FILES[name]))
    generator, discriminator, penalties, numbers = LOSSES[name]
    functions = {"_target_": f"wplus.losses.adversarial.{generator}", "_partial_": True}
    assert chosen["generator_loss"] == functions
    drift = {"drift": 0.001} if name == "wgan_gp" else {}  # ProGAN, appendix A.1
    functions = {"_target_": f"wplus.losses.adversarial.{discriminator}", "_partial_": True, **drift}
    assert complete(chosen["discriminator_loss"]) == functions
    assert [(part["_target_"].rpartition(".")[2], part["weight"]) for part in chosen["penalties"]] == penalties
    assert chosen.get("hparams", {}) == numbers
