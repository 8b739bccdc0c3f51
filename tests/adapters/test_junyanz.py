"""pix2pix and CycleGAN networks, rewritten as nested sequences: same names, same images."""

from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import wplus
from wplus.errors import UserError

NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": partial(nn.InstanceNorm2d, affine=False, track_running_stats=False),
    "none": lambda channels: nn.Identity(),
}


class Skip(nn.Module):
    """A block of the U-Net around the one below; the outermost has no skip."""

    def __init__(self, *layers: nn.Module, is_outermost: bool = False) -> None:
        super().__init__()
        self.model, self.is_outermost = nn.Sequential(*layers), is_outermost

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.is_outermost else torch.cat([x, self.model(x)], 1)


class Named(nn.Module):
    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, inner)

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.name)(x)


class Block(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def unet(norm: str, *, downs: int, width: int, channels: tuple[int, int] = (3, 3), dropout: bool = False) -> nn.Module:
    layer, bias = NORMS[norm], norm == "instance"
    lrelu, relu = partial(nn.LeakyReLU, 0.2), nn.ReLU

    def conv(a: int, b: int) -> nn.Module:
        return nn.Conv2d(a, b, 4, 2, 1, bias=bias)

    def up(a: int, b: int) -> nn.Module:
        return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)

    most = 8 * width
    block = Skip(lrelu(), conv(most, most), relu(), up(most, most), layer(most))
    for _ in range(downs - 5):
        extra = [nn.Dropout(0.5)] if dropout else []
        block = Skip(lrelu(), conv(most, most), layer(most), block, relu(), up(2 * most, most), layer(most), *extra)
    for outer in (4 * width, 2 * width, width):
        inner = 2 * outer
        block = Skip(lrelu(), conv(outer, inner), layer(inner), block, relu(), up(2 * inner, outer), layer(outer))
    first = nn.Conv2d(channels[0], width, 4, 2, 1, bias=bias)
    last = nn.ConvTranspose2d(2 * width, channels[1], 4, 2, 1)
    return Named("model", Skip(first, block, relu(), last, nn.Tanh(), is_outermost=True))


def resnet(
    norm: str, *, blocks: int, width: int, channels: tuple[int, int] = (3, 3), dropout: bool = False
) -> nn.Module:
    layer, bias = NORMS[norm], norm == "instance"
    layers: list[nn.Module] = [
        nn.ReflectionPad2d(3),
        nn.Conv2d(channels[0], width, 7, bias=bias),
        layer(width),
        nn.ReLU(),
    ]
    for size in (width, 2 * width):
        layers += [nn.Conv2d(size, 2 * size, 3, 2, 1, bias=bias), layer(2 * size), nn.ReLU()]
    most = 4 * width
    for _ in range(blocks):
        half = [nn.ReflectionPad2d(1), nn.Conv2d(most, most, 3, bias=bias), layer(most)]
        other = [nn.ReflectionPad2d(1), nn.Conv2d(most, most, 3, bias=bias), layer(most)]
        layers.append(Block(*half, nn.ReLU(), *([nn.Dropout(0.5)] if dropout else []), *other))
    for size in (most, most // 2):
        layers += [nn.ConvTranspose2d(size, size // 2, 3, 2, 1, 1, bias=bias), layer(size // 2), nn.ReLU()]
    return Named("model", nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, channels[1], 7), nn.Tanh()))


def patch(norm: str, *, layers: int, width: int, channels: int = 6) -> nn.Module:
    layer, bias, lrelu = NORMS[norm], norm == "instance", partial(nn.LeakyReLU, 0.2)
    if not layers:
        inner = [
            nn.Conv2d(width, 2 * width, 1, bias=bias),
            layer(2 * width),
            lrelu(),
            nn.Conv2d(2 * width, 1, 1, bias=bias),
        ]
        return Named("net", nn.Sequential(nn.Conv2d(channels, width, 1), lrelu(), *inner))
    found: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), lrelu()]
    size = width
    for i in range(1, layers + 1):
        wider = width * min(2**i, 8)
        found += [nn.Conv2d(size, wider, 4, 2 if i < layers else 1, 1, bias=bias), layer(wider), lrelu()]
        size = wider
    return Named("model", nn.Sequential(*found, nn.Conv2d(size, 1, 4, 1, 1)))


CASES: list[tuple[Any, dict[str, Any], int, int]] = [
    (unet, {"downs": 5, "width": 4}, 3, 32),
    (unet, {"downs": 6, "width": 3, "channels": (1, 2), "dropout": True}, 1, 64),
    (unet, {"downs": 8, "width": 2, "channels": (4, 3)}, 4, 256),
    (resnet, {"blocks": 1, "width": 4}, 3, 16),
    (resnet, {"blocks": 6, "width": 3, "channels": (1, 4), "dropout": True}, 1, 20),
    (resnet, {"blocks": 9, "width": 2, "channels": (3, 1)}, 3, 12),
    (patch, {"layers": 0, "width": 5}, 6, 8),
    (patch, {"layers": 1, "width": 4, "channels": 3}, 3, 16),
    (patch, {"layers": 3, "width": 2}, 6, 32),
    (patch, {"layers": 5, "width": 1}, 6, 128),
]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("make", "options", "channels", "side"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
@torch.no_grad()
def test_every_network_computes_the_same(make, options, channels, side, norm, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = make(norm, **options)
    for name, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5 if "running_var" in name else torch.randn_like(tensor) * 0.3)
    torch.save(theirs.state_dict(), tmp_path / "latest_net.pth")
    networks = wplus.load(tmp_path / "latest_net.pth").networks
    ((role, ours),) = networks.items()
    assert role == ("discriminator" if make is patch else "generator")
    x = torch.randn(2, channels, side, side)
    for mode in ("inference", "batch"):
        expected = theirs.train(mode == "batch").apply(without_dropout)(x)
        found = ours(x, mode=mode)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-4 * expected.std() + 1e-7, mode
    wplus.save(tmp_path / "own.safetensors", **networks)
    assert torch.equal(wplus.load(tmp_path / "own.safetensors").networks[role](x), ours(x))


def without_dropout(module: nn.Module) -> None:
    if isinstance(module, nn.Dropout):
        module.p = 0.0
    if isinstance(module, nn.BatchNorm2d):
        module.momentum = 0.0


def test_names_of_parallel_networks_and_old_statistics(tmp_path: Path) -> None:
    """`module.` as a prefix; running statistics of instance norm, which PyTorch 0.3 stored but never used."""
    network = resnet("instance", blocks=1, width=4)
    state = OrderedDict((f"module.{name}", tensor) for name, tensor in network.state_dict().items())
    old = state | {"module.model.2.running_mean": torch.ones(4), "module.model.2.running_var": torch.ones(4)}
    torch.save(old, tmp_path / "net.pth")
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(wplus.load(tmp_path / "net.pth").generator(x), network(x))


REFUSED = [
    (unet("batch", downs=5, width=2), lambda state: state.pop("model.model.1.model.1.weight"), "is missing"),
    (unet("batch", downs=5, width=2), lambda state: state.update(odd=torch.ones(1)), "'odd' is not part of a UNet"),
    (resnet("batch", blocks=1, width=2), lambda state: state.pop("model.10.conv_block.5.weight"), "is missing"),
    (
        resnet("batch", blocks=1, width=2),
        lambda state: state.update({"model.7.weight": torch.ones(8, 4, 5, 5)}),
        "shape",
    ),
    (resnet("none", blocks=0, width=2), lambda state: None, "no residual blocks"),
    (patch("batch", layers=1, width=2), lambda state: state.pop("model.5.weight"), "'model.5.weight' is missing"),
]


@pytest.mark.parametrize(("network", "change", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_does_not_fit_is_named(network, change, words, tmp_path: Path) -> None:
    state = network.state_dict()
    change(state)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(UserError, match=words) as refusal:
        wplus.load(tmp_path / "net.pth")
    assert "net.pth" in str(refusal.value)


def test_it_has_no_latent_space(tmp_path: Path) -> None:
    torch.save(resnet("none", blocks=1, width=2).state_dict(), tmp_path / "net.pth")
    with pytest.raises(UserError, match="turns images into images"):
        wplus.load(tmp_path / "net.pth", needs=["generator"])
