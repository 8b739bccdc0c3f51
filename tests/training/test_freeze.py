"""Freeze-D: how layers are counted, and that frozen ones stay unchanged bit for bit while the others learn."""

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.trained import SMALL
from wplus.errors import UserError
from wplus.models.network import Network
from wplus.training.optim import frozen_layers

GROWING = ("progan", "stylegan1")
GROWN = "fromrgb.2 blocks.1.conv0 blocks.1.conv1 fromrgb.1 blocks.0.conv0 blocks.0.conv1"
LAYERS: list[tuple[str, dict[str, Any], str]] = [  # what makes the logit is not among them
    # As StyleGAN2-ADA's DiscriminatorBlock counts: fromrgb where there is one, conv0, conv1, skip.
    ("stylegan2", {}, "b16.fromrgb b16.conv0 b16.conv1 b16.skip b8.conv0 b8.conv1 b8.skip"),
    ("stylegan2", {"architecture": "orig"}, "b16.fromrgb b16.conv0 b16.conv1 b8.conv0 b8.conv1"),
    ("stylegan2", {"architecture": "skip"}, "b16.fromrgb b16.conv0 b16.conv1 b8.fromrgb b8.conv0 b8.conv1"),
    ("progan", {}, GROWN),
    ("stylegan1", {}, GROWN),
    ("r3gan", {},  # 4, 8 and 8 channels at 16, 8 and 4 px: one change of the width
     "fromrgb stages.0.blocks.0 stages.0.blocks.1 transitions.0 stages.1.blocks.0 stages.1.blocks.1 "
     "stages.2.blocks.0 stages.2.blocks.1"),
    ("dcgan", {}, "read downs.0 norms.0"),  # a convolution and its normalisation are one layer
    ("mlp_gan", {"width": 8}, "layers.1 layers.3"),
]  # fmt: skip


def names(discriminator: Network, num: int) -> list[str]:
    """The modules that are frozen; of a pair, both."""
    named = {id(module): name for name, module in discriminator.named_modules()}
    layers = frozen_layers(discriminator, num)
    return [named[id(part)] for layer in layers for part in ([layer] if id(layer) in named else layer.children())]


@pytest.mark.parametrize(("family", "arguments", "expected"), LAYERS)
def test_layers_are_counted_from_the_image_on(family, arguments, expected):
    kind = importlib.import_module(f"wplus.models.{family}").Discriminator
    discriminator = kind(resolution=16, **(arguments if family == "mlp_gan" else {**SMALL, **arguments}))
    num = len(discriminator.layers_from_image())
    assert names(discriminator, num) == expected.split()
    assert names(discriminator, 1) == expected.split()[:1]
    with pytest.raises(UserError, match=rf"must be at most {num}, the layers of .* {family} .*, got {num + 1}\.$"):
        frozen_layers(discriminator, num + 1)


def held(module: Any) -> dict[str, torch.Tensor]:
    """The tensors of frozen layers, running statistics among them."""
    tensors = module.discriminator.state_dict(keep_vars=True)
    ids = {id(tensor) for layer in module.frozen for tensor in [*layer.parameters(), *layer.buffers()]}
    return {name: tensor for name, tensor in tensors.items() if id(tensor) in ids}


@pytest.mark.parametrize(
    ("family", "num"),
    [("stylegan2", 5), ("stylegan1", 4), ("progan", 4), ("r3gan", 3), ("dcgan", 2), ("mlp_gan", 1)],
)
def test_what_is_frozen_stays_and_the_rest_learns(make_tiny, play, family, num):
    faster = {"start_resolution": 8, "stable_kimg": 0.004, "fade_kimg": 0.004} if family in GROWING else {}
    module = make_tiny(family, resolution=16, freeze=num, **faster)
    before = {name: tensor.detach().clone() for name, tensor in module.discriminator.state_dict().items()}
    module.discriminator.train()  # as others leave it
    optimizers = module.configure_optimizers()
    play(module, 3, optimizers)
    assert module.skipped.tolist() == [0, 0]
    frozen = held(module)
    assert 0 < len(frozen) < len(before)
    for name, tensor in module.discriminator.state_dict().items():
        if name in frozen:
            assert torch.equal(tensor, before[name]), name
        elif name != "growth.lod" and not name.startswith("fromrgb.0"):
            assert not torch.equal(tensor, before[name]), name
    learning = {id(parameter) for group in optimizers[1].param_groups for parameter in group["params"]}
    kept = sum(isinstance(tensor, nn.Parameter) for tensor in frozen.values())
    assert len(learning) == len(list(module.discriminator.parameters())) - kept
    assert not learning & {id(tensor) for tensor in frozen.values()}


def test_no_phase_makes_a_gradient_for_them(make_tiny, play, monkeypatch):
    module, seen = make_tiny(resolution=16, freeze=5), []
    step = module.guarded_step

    def look(name: str, optimizer: torch.optim.Optimizer) -> None:
        seen.append((name, {p.requires_grad or p.grad is not None for p in held(module).values()}))
        others = [p for n, p in module.discriminator.named_parameters() if n not in held(module)]
        seen.append((name, {p.requires_grad for p in others} == {name in ("discriminator", "r1")}))
        step(name, optimizer)

    monkeypatch.setattr(module, "guarded_step", look)
    play(module, 2)
    phases = ["generator", "path_length", "discriminator", "r1", "generator", "discriminator"]
    assert seen == [entry for name in phases for entry in ((name, {False}), (name, True))]


def test_the_penalty_is_that_of_the_whole_network(make_tiny, play):
    """R1 is the gradient to the image, through the frozen layers as well."""
    modules = [play(make_tiny("r3gan", resolution=16, freeze=frozen), 1) for frozen in (0, 3)]
    values = [module.means.collect()["train/r1/penalty"] for module in modules]
    assert values[0] == values[1] > 0


# --- of a run that starts from trained networks ---


def test_only_what_was_loaded_can_stay_frozen(files, start):
    """The block nearest to the image, at twice the resolution, has learned nothing."""
    with pytest.raises(UserError, match=r"^transfer.freeze_discriminator=2 would freeze b16.fromrgb.weight, which was"):
        start(list(files), frozen=2)
    training = start(list(files), frozen=4, resolution=8)
    assert len(training.transfer.frozen) == 7
    assert training.module.describe()["freeze_discriminator"] == 4
    with pytest.raises(UserError, match=r"^freeze_discriminator must be at most 4, .*, got 5"):
        start(list(files), frozen=5, resolution=8)
