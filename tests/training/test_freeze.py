"""Freeze-D: which layers are counted, and that those which are frozen stay bit for bit while the others learn."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from wplus.data import Batches
from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models import dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2
from wplus.models.network import Network
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.optim import frozen_layers
from wplus.training.penalties import R1

SMALL = {"channel_base": 64, "channel_max": 8}


def names(discriminator: Network, num: int) -> list[str]:
    """The modules that are frozen; of a pair, both."""
    named = {id(module): name for name, module in discriminator.named_modules()}
    layers = frozen_layers(discriminator, num)
    return [named[id(part)] for layer in layers for part in ([layer] if id(layer) in named else layer.children())]


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (
            "resnet",
            "b32.fromrgb b32.conv0 b32.conv1 b32.skip b16.conv0 b16.conv1 b16.skip b8.conv0 b8.conv1 b8.skip",
        ),
        ("orig", "b32.fromrgb b32.conv0 b32.conv1 b16.conv0 b16.conv1 b8.conv0 b8.conv1"),
        (
            "skip",
            "b32.fromrgb b32.conv0 b32.conv1 b16.fromrgb b16.conv0 b16.conv1 b8.fromrgb b8.conv0 b8.conv1",
        ),
    ],
)
def test_layers_are_counted_as_stylegan2_ada_counts_them(architecture, expected):
    """Its DiscriminatorBlock: fromrgb where there is one, conv0, conv1, skip; the epilogue is never frozen."""
    discriminator = stylegan2.Discriminator(resolution=32, architecture=architecture, **SMALL)
    expected = expected.split()
    assert names(discriminator, len(expected)) == expected
    assert names(discriminator, 2) == expected[:2]
    with pytest.raises(
        UserError, match=f"must be at most {len(expected)}, the layers of .* stylegan2 .*, got {len(expected) + 1}"
    ):
        frozen_layers(discriminator, len(expected) + 1)


@pytest.mark.parametrize(
    ("module", "sizes", "expected"),
    [
        (progan, SMALL, "fromrgb.2 blocks.1.conv0 blocks.1.conv1 fromrgb.1 blocks.0.conv0 blocks.0.conv1"),
        (stylegan1, SMALL, "fromrgb.2 blocks.1.conv0 blocks.1.conv1 fromrgb.1 blocks.0.conv0 blocks.0.conv1"),
        (
            r3gan, SMALL,  # 4, 8 and 8 channels at 16, 8 and 4 px: one change of the width
            "fromrgb stages.0.blocks.0 stages.0.blocks.1 transitions.0 stages.1.blocks.0 stages.1.blocks.1 "
            "stages.2.blocks.0 stages.2.blocks.1",
        ),
        (dcgan, SMALL, "read downs.0 norms.0"),
        (mlp_gan, {"width": 8}, "layers.1 layers.3"),
    ],
)  # fmt: skip
def test_the_layers_of_the_other_families(module, sizes, expected):
    """What makes the logit is not among them; a convolution and its normalisation are one layer."""
    discriminator = module.Discriminator(resolution=16, **sizes)
    assert names(discriminator, len(discriminator.layers_from_image())) == expected.split()
    with pytest.raises(
        UserError, match=f"must be at most .*, the layers of the discriminator of {module.__name__.rsplit('.', 1)[1]}"
    ):
        frozen_layers(discriminator, len(discriminator.layers_from_image()) + 1)


FAMILIES: dict[Any, tuple[dict[str, Any], int, dict[str, Any]]] = {  # sizes, frozen layers, numbers
    stylegan2: (SMALL, 5, {"r1_interval": 2, "pl_interval": 2, "pl_batch_shrink": 1}),
    stylegan1: (SMALL, 4, {"r1_interval": 1, "pl_weight": 0.0, "start_resolution": 8, "stable_kimg": 0.004,
                           "fade_kimg": 0.004}),
    progan: (SMALL, 4, {"r1_interval": 1, "start_resolution": 8, "stable_kimg": 0.004, "fade_kimg": 0.004}),
    r3gan: (SMALL, 3, {"r1_interval": 1}),
    dcgan: (SMALL, 2, {"gamma": 0.0}),
    mlp_gan: ({"width": 8}, 1, {"r1_interval": 1}),
}  # fmt: skip
WITHOUT_STYLES = {"pl_weight": 0.0, "style_mixing_prob": 0.0}
each_family = pytest.mark.parametrize("module", FAMILIES, ids=lambda module: module.__name__.rsplit(".", 1)[1])


def game(module: Any, frozen: int | None = None) -> GanModule:
    """Equal arguments give equal games."""
    torch.manual_seed(0)
    sizes, num, numbers = FAMILIES[module]
    styles = {"w_dim": 6, "num_mapping_layers": 1} if module in (stylegan1, stylegan2) else {}
    hparams = {
        "batch_size": 4, "gamma": 1.0, "lr_generator": 0.002, "lr_discriminator": 0.002, "ema_kimg": 0.02,
        "ema_rampup": None, **({} if styles else WITHOUT_STYLES), **numbers,
    }  # fmt: skip
    return GanModule(
        module.Generator(resolution=16, z_dim=6, **styles, **sizes),
        module.Discriminator(resolution=16, **sizes),
        generator_loss=nonsaturating_generator,
        discriminator_loss=logistic_discriminator,
        hparams=Hparams(**hparams),
        penalties=[R1("gamma")],
        freeze_discriminator=num if frozen is None else frozen,
    )


def play(made: GanModule, images: Any, steps: int, optimizers: Any = None) -> list[torch.optim.Optimizer]:
    optimizers = optimizers or made.configure_optimizers()
    for _ in range(steps):
        made.run_step(*Batches(images, 4).at(made.images_seen), optimizers=optimizers)
    return optimizers


def held(made: GanModule) -> dict[str, torch.Tensor]:
    """The tensors of frozen layers, running statistics among them."""
    tensors = made.discriminator.state_dict(keep_vars=True)
    ids = {id(tensor) for layer in made.frozen for tensor in [*layer.parameters(), *layer.buffers()]}
    return {name: tensor for name, tensor in tensors.items() if id(tensor) in ids}


@each_family
def test_what_is_frozen_stays_and_the_rest_learns(module, make_images):
    made = game(module)
    before = {name: tensor.detach().clone() for name, tensor in made.discriminator.state_dict().items()}
    made.discriminator.train()  # as others leave it
    optimizers = play(made, make_images(resolution=16), 3)
    assert made.skipped.tolist() == [0, 0]
    frozen = held(made)
    assert 0 < len(frozen) < len(before)
    for name, tensor in made.discriminator.state_dict().items():
        if name in frozen:
            assert torch.equal(tensor, before[name]), name
        elif name != "growth.lod" and not name.startswith("fromrgb.0"):
            assert not torch.equal(tensor, before[name]), name
    learning = {id(parameter) for group in optimizers[1].param_groups for parameter in group["params"]}
    assert len(learning) == len(list(made.discriminator.parameters())) - sum(
        isinstance(tensor, nn.Parameter) for tensor in frozen.values()
    )
    assert not learning & {id(tensor) for tensor in frozen.values()}


def test_no_phase_makes_a_gradient_for_them(make_images):
    made, seen = game(stylegan2), []
    step = made.guarded_step

    def look(name: str, optimizer: torch.optim.Optimizer) -> None:
        seen.append((name, {p.requires_grad or p.grad is not None for p in held(made).values()}))
        others = [p for n, p in made.discriminator.named_parameters() if n not in held(made)]
        seen.append((name, {p.requires_grad for p in others} == {name in ("discriminator", "r1")}))
        step(name, optimizer)

    made.guarded_step = look
    play(made, make_images(resolution=16), 2)
    phases = ["generator", "path_length", "discriminator", "r1", "generator", "discriminator"]
    assert seen == [entry for name in phases for entry in ((name, {False}), (name, True))]


def test_the_penalty_is_that_of_the_whole_network(make_images):
    """R1 is the gradient to the image, through the frozen layers as well."""
    values = []
    for frozen in (0, 3):
        made = game(r3gan, frozen)
        play(made, make_images(resolution=16), 1)
        values.append(made.means.collect()["train/r1/penalty"])
    assert values[0] == values[1] > 0


@pytest.mark.parametrize("module", [stylegan2, dcgan], ids=["stylegan2", "dcgan"])
def test_two_steps_and_two_are_four(module, make_images):
    """Bit for bit, through the state that a checkpoint holds."""
    images = make_images(resolution=16)
    straight, first, second = (game(module) for _ in range(3))
    play(straight, images, 4)
    optimizers = play(first, images, 2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    others = second.configure_optimizers()
    for ours, theirs in zip(others, optimizers, strict=True):
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    play(second, images, 2, others)
    for name, value in straight.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_a_run_with_other_layers_frozen_is_another_run():
    assert game(stylegan2, 0).run_fingerprint["freeze_discriminator"] is None
    assert game(stylegan2, 3).run_fingerprint["freeze_discriminator"] == 3
    assert game(stylegan2, 3).describe()["freeze_discriminator"] == 3


# --- of a run that starts from trained networks ---


def test_only_what_was_loaded_can_stay_frozen(files, start):
    """The block nearest to the image, at twice the resolution, has learned nothing."""
    with pytest.raises(UserError, match=r"^transfer.freeze_discriminator=2 would freeze b16.fromrgb.weight, which was"):
        start(list(files), frozen=2)
    training = start(list(files), frozen=4, resolution=8)
    assert len(training.transfer.frozen) == 7
    assert training.module.run_fingerprint["freeze_discriminator"] == 4


def test_too_many_frozen_layers(files, start):
    with pytest.raises(
        UserError,
        match=r"^freeze_discriminator must be at most 4, the layers of the discriminator of stylegan2 .*, got 5",
    ):
        start(list(files), frozen=5, resolution=8)
