"""The group loss: which functions a name stands for, with which penalties and numbers."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from wplus.config import CONFIG_FOLDER
from wplus.signatures import complete
from wplus.training.penalties import PENALTIES

FILES = {path.stem: path for path in (CONFIG_FOLDER / "loss").glob("*.yaml")}
LOSSES: dict[str, tuple[str, str, list[str], dict[str, float]]] = {
    # generator's, discriminator's, penalties, numbers of the hparams
    "minimax": ("minimax_generator", "logistic_discriminator", ["r1"], {}),
    "nonsaturating": ("nonsaturating_generator", "logistic_discriminator", ["r1"], {}),
    "hinge": ("critic_generator", "hinge_discriminator", ["r1"], {}),
    "lsgan": ("least_squares_generator", "least_squares_discriminator", ["r1"], {}),
    "wgan_gp": (
        "critic_generator", "wasserstein_discriminator", ["gradient_penalty"],
        {"gp_weight": 10.0, "n_critic": 5, "r1_interval": 1},
    ),
    "relativistic": ("relativistic_generator", "relativistic_discriminator", ["r1", "r2"], {"r1_interval": 1}),
}  # fmt: skip


def options(part: dict[str, Any]) -> dict[str, Any]:
    """What is chosen in a function, besides its name."""
    return {name: value for name, value in part.items() if name not in ("_target_", "_partial_")}


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_a_name_stands_for(name):
    chosen = OmegaConf.to_container(OmegaConf.load(FILES[name]))
    generator, discriminator, penalties, numbers = LOSSES[name]
    assert chosen["generator_loss"]["_target_"] == f"wplus.losses.adversarial.{generator}"
    assert chosen["discriminator_loss"]["_target_"] == f"wplus.losses.adversarial.{discriminator}"
    assert chosen["penalties"] == penalties
    assert set(penalties) <= PENALTIES.keys()
    assert chosen.get("numbers", {}) == numbers
    assert not options(chosen["generator_loss"])
    drift = {"drift": 0.001} if name == "wgan_gp" else {}  # ProGAN, appendix A.1
    assert options(complete(chosen["discriminator_loss"])) == drift
