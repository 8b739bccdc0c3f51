"""Which tensor is copied where, in every family, to higher and lower resolutions."""

from typing import Any

import pytest
import torch

from tests.training.trained import network
from wplus.checkpoint import Models
from wplus.models import dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2
from wplus.models.network import Network
from wplus.models.progressive import set_lod
from wplus.models.projected import Aided
from wplus.training.transfer import transfer


def same(names: str, **numbered: int) -> dict[str, str]:
    """Modules with the same names in both: `names`, and the first few of lists."""
    every = [*names.split(), *(f"{name}.{i}" for name, count in numbered.items() for i in range(count))]
    return {name: name for name in every}


# (class, further arguments) -> of 32 px: module <- the module of 16 px; what only the larger one has; only the smaller.
PAIRS: dict[str, tuple[Any, dict[str, Any], dict[str, str], list[str], list[str]]] = {
    "stylegan2.G": (
        stylegan2.Generator, {}, same("mapping synthesis.b4 synthesis.b8 synthesis.b16"), ["synthesis.b32"], []),
    "stylegan2.D": (
        stylegan2.Discriminator, {}, same("b4 b8 b16.conv0 b16.conv1 b16.skip"), ["b32"], ["b16.fromrgb"]),
    "stylegan2.D.orig": (
        stylegan2.Discriminator, {"architecture": "orig"}, same("b4 b8 b16.conv0 b16.conv1"), ["b32"], ["b16.fromrgb"]),
    "stylegan2.D.skip": (stylegan2.Discriminator, {"architecture": "skip"}, same("b4 b8 b16"), ["b32"], []),
    "stylegan1.G": (
        stylegan1.Generator, {},
        same("mapping synthesis.const", **{"synthesis.layers": 6, "synthesis.torgb": 3}),
        ["synthesis.layers.6", "synthesis.layers.7", "synthesis.torgb.3"], []),
    "stylegan1.D": (
        stylegan1.Discriminator, {}, same("epilogue", blocks=2, fromrgb=3), ["blocks.2", "fromrgb.3"], []),
    "progan.G": (
        progan.Generator, {}, same("mapping", **{"synthesis.blocks": 3, "synthesis.torgb": 3}),
        ["synthesis.blocks.3", "synthesis.torgb.3"], []),
    "r3gan.G": (
        r3gan.Generator, {}, same("mapping synthesis.basis synthesis.linear", **{"synthesis.stages": 3}),
        ["synthesis.stages.3", "synthesis.torgb"], ["synthesis.torgb"]),
    "r3gan.D": (
        r3gan.Discriminator, {},
        {**same("basis linear"), "stages.1": "stages.0", "stages.2": "stages.1", "stages.3": "stages.2"},
        ["fromrgb", "stages.0"], ["fromrgb"]),
    "r3gan.D.narrow": (  # where the width changes, too
        r3gan.Discriminator, {"channel_base": 128, "channel_max": 32},
        {**same("basis linear"), "stages.1": "stages.0", "stages.2": "stages.1", "stages.3": "stages.2",
         "transitions.1": "transitions.0", "transitions.2": "transitions.1"},
        ["fromrgb", "stages.0", "transitions.0"], ["fromrgb"]),
    "dcgan.G": (
        dcgan.Generator, {}, same("mapping synthesis.project synthesis.ups.0", **{"synthesis.norms": 2}),
        ["synthesis.norms.2", "synthesis.ups.1", "synthesis.out"], ["synthesis.out"]),
    "dcgan.D": (
        dcgan.Discriminator, {}, {"downs.1": "downs.0", "norms.1": "norms.0", "out": "out"},
        ["read", "downs.0", "norms.0"], ["read"]),
}  # fmt: skip


def tensors(part: Network, modules: Any) -> dict[str, torch.Tensor]:
    """Tensors of the named modules or parameters."""
    return {
        name: tensor
        for name, tensor in part.state_dict().items()
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    }


def moved(ours: Network, theirs: Network) -> Any:
    """Report of a transfer between two networks of one role."""
    return transfer({"generator": ours}, Models(generator=theirs)).networks[0]


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("case", PAIRS)
def test_the_same_block_is_paired(case, down):
    kind, arguments, pairs, only_larger, only_smaller = PAIRS[case]
    ours, theirs = (network(kind, size, seed=size, **arguments) for size in ((16, 32) if down else (32, 16)))
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    report = moved(ours, theirs)
    if down:
        pairs, only_larger, only_smaller = {b: a for a, b in pairs.items()}, only_smaller, only_larger
    assert report.loaded.keys() == tensors(ours, pairs).keys()
    assert report.new.keys() == tensors(ours, only_larger).keys()
    assert report.skipped.keys() == tensors(theirs, only_smaller).keys()
    assert not report.mismatched
    for here, there in pairs.items():
        copied, expected = tensors(ours, [here]), tensors(theirs, [there])
        assert len(copied) == len(expected) > 0
        for ours_is, theirs_is in zip(copied.values(), expected.values(), strict=True):
            assert torch.equal(ours_is, theirs_is)
    for name in report.new:
        assert torch.equal(ours.state_dict()[name], before[name])


@pytest.mark.parametrize("sizes", [(16, 8), (8, 16)])
def test_perceptrons_fit_but_for_the_layer_at_the_pixels(sizes):
    ours, theirs = (network(mlp_gan.Generator, size, seed=size) for size in sizes)
    report = moved(ours, theirs)
    assert report.mismatched == {
        "synthesis.out.weight": ((3 * sizes[1] ** 2, 7), (3 * sizes[0] ** 2, 7)),
        "synthesis.out.bias": ((3 * sizes[1] ** 2,), (3 * sizes[0] ** 2,)),
    }
    assert torch.equal(ours.synthesis.hidden[1].weight, theirs.synthesis.hidden[1].weight)
    report = moved(*(network(mlp_gan.Discriminator, size, seed=size) for size in sizes))
    assert sorted(report.mismatched) == ["layers.1.linear.weight"]
    assert len(report.loaded) == 5


def test_the_first_of_each_resolution_is_the_same_function():
    """The smaller generator draws what the larger one draws up to that resolution."""
    small, large = network(stylegan2.Generator, 8, seed=1), network(stylegan2.Generator, 16, seed=2)
    moved(large, small)
    z = torch.randn(2, 6)
    seen = []
    large.synthesis.b8.register_forward_hook(lambda module, given, made: seen.append(made[1]))
    large(z)
    torch.testing.assert_close(seen[0], small(z))


def test_another_width_keeps_what_it_was_initialised_with():
    ours, theirs = network(stylegan2.Generator, seed=1, channel_max=4), network(stylegan2.Generator, seed=2)
    before = ours.synthesis.b16.conv1.weight.clone()
    report = moved(ours, theirs)
    assert report.mismatched["synthesis.b16.conv1.weight"] == ((8, 8, 3, 3), (4, 4, 3, 3))
    assert torch.equal(ours.synthesis.b16.conv1.weight, before)
    assert torch.equal(ours.mapping.fc1.weight, theirs.mapping.fc1.weight)
    assert report.arguments == {"channel_max": (8, 4)}
    assert not report.new
    assert not report.skipped


@pytest.mark.parametrize(
    ("there", "here", "mismatched", "new", "skipped"),
    [
        (0, 3, ["mapping.fc0.weight"], ["mapping.embed.weight", "mapping.embed.bias"], []),
        (3, 0, ["mapping.fc0.weight"], [], ["mapping.embed.weight", "mapping.embed.bias"]),
        (3, 2, ["mapping.embed.weight"], [], []),
    ],
)
def test_other_classes(there, here, mismatched, new, skipped):
    ours, theirs = network(stylegan2.Generator, c_dim=here), network(stylegan2.Generator, c_dim=there, seed=1)
    report = moved(ours, theirs)
    assert list(report.mismatched) == mismatched
    assert sorted(report.new) == sorted(new)
    assert sorted(report.skipped) == sorted(skipped)
    assert report.arguments == {"c_dim": (there, here)}
    assert torch.equal(ours.mapping.w_avg, theirs.mapping.w_avg)


def test_how_far_a_network_has_grown_is_not_copied():
    ours, theirs = network(progan.Generator, 16), network(progan.Generator, 16)
    set_lod(theirs, 1.5)
    set_lod(ours, 2.0)
    assert not any("lod" in name for name in moved(ours, theirs).loaded)
    assert ours.synthesis.growth.value == float(ours.synthesis.growth.lod) == 2.0


def test_the_part_for_pixels_fits_a_discriminator_without_heads():
    ours, pixel = (network(stylegan2.Discriminator, 16, seed=seed) for seed in (0, 1))
    there = Aided(pixel=pixel, resolution=16, channels=(8, 8, 8, 8), input_px=32)
    (report,) = transfer({"discriminator": ours}, Models(discriminator=there)).networks
    assert set(report.loaded) == set(ours.state_dict())
    assert report.skipped
    assert report.arguments == {}  # of another class: it takes none of these
    assert all(torch.equal(tensor, pixel.state_dict()[name]) for name, tensor in ours.state_dict().items())
