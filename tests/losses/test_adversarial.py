"""Adversarial losses against their definitions by probabilities, and the direction of their gradients."""

import functools

import pytest
import torch
from omegaconf import OmegaConf

from wplus.config import CONFIG_FOLDER
from wplus.losses import adversarial
from wplus.signatures import complete

SIGMOID = lambda t: 1 / (1 + torch.exp(-t))
GENERATOR = {  # loss -> its definition by the logit of a generated image
    adversarial.minimax_generator: lambda t: torch.log(1 - SIGMOID(t)),
    adversarial.nonsaturating_generator: lambda t: -torch.log(SIGMOID(t)),
    adversarial.least_squares_generator: lambda t: (t - 1) ** 2 / 2,
    adversarial.critic_generator: lambda t: -t,
}
DISCRIMINATOR = {  # loss -> its definition by the logits of a real and a generated image
    adversarial.logistic_discriminator: lambda r, f: -torch.log(SIGMOID(r)) - torch.log(1 - SIGMOID(f)),
    adversarial.least_squares_discriminator: lambda r, f: (r - 1) ** 2 / 2 + f**2 / 2,
    adversarial.hinge_discriminator: lambda r, f: (1 - r).clamp(min=0) + (1 + f).clamp(min=0),
    adversarial.wasserstein_discriminator: lambda r, f: f - r + 0.001 * r**2,
    adversarial.relativistic_discriminator: lambda r, f: -torch.log(SIGMOID(r - f)),
}


@pytest.mark.parametrize("loss", [*GENERATOR, *DISCRIMINATOR], ids=lambda loss: loss.__name__)
def test_values_and_gradients_are_those_of_the_definition(loss):
    definition, num = (GENERATOR | DISCRIMINATOR)[loss], 1 if loss in GENERATOR else 2
    logits = [torch.randn(9, 1, dtype=torch.float64).mul(3).requires_grad_() for _ in range(num)]
    found, expected = loss(*logits), definition(*logits)
    assert found.shape == (9, 1)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(values.sum(), logits) for values in (found, expected))
    torch.testing.assert_close(*gradients)
    assert adversarial.compares(loss) == (loss in DISCRIMINATOR)


def test_the_relativistic_generator_is_the_discriminator_with_the_roles_exchanged():
    real, fake = torch.randn(2, 7, 1, dtype=torch.float64)
    found = adversarial.relativistic_generator(fake, real)
    torch.testing.assert_close(found, -torch.log(SIGMOID(fake - real)))
    assert torch.equal(found, adversarial.relativistic_discriminator(real=fake, fake=real))
    assert adversarial.compares(adversarial.relativistic_generator)
    assert adversarial.compares(functools.partial(adversarial.relativistic_generator))


def test_a_loss_says_whether_the_sign_of_a_logit_means_real():
    """At the minimum of the loss, logits of an uninformed discriminator lie at the boundary."""
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


@pytest.mark.parametrize("name", sorted(LOSSES))
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
