"""Discriminators on frozen networks: explicit loops, independence of the batch, files."""

import copy
import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import wplus
from wplus.errors import UserError
from wplus.models import dcgan, projected, r3gan, stylegan1, stylegan2
from wplus.models.projected import Aided, Head, Projected, Projection, as_net_sees, frozen_net
from wplus.pretrained.squeezenet import SqueezeNetFeatures

SMALL: dict[str, Any] = {"channel_base": 64, "channel_max": 8}
HEADS: dict[str, Any] = {"resolution": 16, "channels": (8, 8, 8, 8), "input_px": 32}
PIXELS = {
    "stylegan2": lambda **size: stylegan2.Discriminator(mbstd_group_size=2, num_mapping_layers=1, **size),
    "stylegan1": lambda **size: stylegan1.Discriminator(mbstd_group_size=2, **size),
    "r3gan": r3gan.Discriminator,
    "dcgan": dcgan.Discriminator,
}
IMAGES = torch.linspace(-1, 1, 4 * 3 * 16 * 16).sin().view(4, 3, 16, 16)


def aided(family: str = "stylegan2", c_dim: int = 0, **changes: Any) -> Aided:
    torch.manual_seed(0)
    return Aided(pixel=PIXELS[family](resolution=16, c_dim=c_dim, **SMALL), c_dim=c_dim, **{**HEADS, **changes})


def test_the_projection_against_explicit_loops():
    """c_i(f_i) + up(s_i(m_(i+1))), position by position and channel by channel."""
    mix = Projection((5, 7), (2, 3), source=torch.Generator().manual_seed(1))
    fine, coarse = torch.randn(2, 5, 4, 4), torch.randn(2, 7, 2, 2)
    deep = torch.zeros(2, 3, 2, 2)
    for n, o, y, x in torch.cartesian_prod(*map(torch.arange, deep.shape)):
        deep[n, o, y, x] = sum(mix.channel1[o, i, 0, 0] * coarse[n, i, y, x] for i in range(7))
    scaled = torch.zeros(2, 2, 2, 2)
    for n, o, y, x in torch.cartesian_prod(*map(torch.arange, scaled.shape)):
        for i, dy, dx in torch.cartesian_prod(torch.arange(3), torch.arange(-1, 2), torch.arange(-1, 2)):
            if 0 <= y + dy < 2 and 0 <= x + dx < 2:
                scaled[n, o, y, x] += mix.scale0[o, i, dy + 1, dx + 1] * deep[n, i, y + dy, x + dx]
    top = torch.zeros(2, 2, 4, 4)
    for y, x in torch.cartesian_prod(torch.arange(4), torch.arange(4)):
        at = [(min(max((int(p) + 0.5) / 2 - 0.5, 0.0), 1.0)) for p in (y, x)]  # bilinear, corners not aligned
        for cy, cx in [(0, 0), (0, 1), (1, 0), (1, 1)]:
            share = (1 - abs(at[0] - cy)) * (1 - abs(at[1] - cx))
            top[:, :, y, x] += share * scaled[:, :, cy, cx]
        top[:, :, y, x] += torch.einsum("oi,ni->no", mix.channel0[:, :, 0, 0], fine[:, :, y, x])
    found = mix([fine, coarse])
    torch.testing.assert_close(found[1], deep, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0], top, rtol=1e-4, atol=1e-5)


def test_the_projection_is_fixed_seeded_and_keeps_the_variance():
    mixes = [aided(projection_seed=seed).nets["effnet_lite0"].projection for seed in (0, 0, 1)]
    first, same, other = (mix.state_dict() for mix in mixes)
    assert all(torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name]) for name in first)
    assert not list(mixes[0].parameters())
    wide = Projection((400, 400), (300, 300), source=torch.Generator().manual_seed(0))
    assert wide.channel0.std().item() == pytest.approx(1 / 20, rel=0.01)
    assert wide.scale0.std().item() == pytest.approx(1 / math.sqrt(2700), rel=0.01)


@pytest.mark.parametrize(("size", "downs", "positions"), [(16, 2, 16), (8, 1, 16), (4, 0, 16), (2, 0, 4)])
def test_heads_come_down_to_four_pixels(size, downs, positions):
    head = Head(6, 8, size=size, c_dim=0)
    assert len(head.downs) == downs
    assert head(torch.randn(3, 6, size, size), None).shape == (3, positions)


def test_a_label_is_compared_at_every_position():
    head = Head(4, 8, size=4, c_dim=3)
    x, c = torch.randn(2, 4, 4, 4), torch.eye(3)[:2]
    features = head.out(F.leaky_relu(head.read(x), 0.2))
    expected = torch.einsum("nchw,nc->nhw", features, head.embed(c)).flatten(1) / 8
    torch.testing.assert_close(head(x, c), expected)


@pytest.mark.parametrize("family", PIXELS)
@pytest.mark.parametrize("c_dim", [0, 3])
def test_beside_every_discriminator_of_pixels(family, c_dim):
    """Its logits stay; heads judge each image separately; gradients reach image and heads, not the net."""
    net, c = aided(family, c_dim), torch.eye(3)[torch.arange(4) % 3] if c_dim else None
    assert torch.equal(net.eval()(IMAGES, c), net.pixel(IMAGES, c))
    images = IMAGES.clone().requires_grad_()
    logits = net.train().head_logits(images, c)
    assert [each.shape for each in logits] == [(4, 16), (4, 16), (4, 4), (4, 1)]
    alone = [net.head_logits(IMAGES[n : n + 1], None if c is None else c[n : n + 1]) for n in range(4)]
    for level, each in enumerate(logits):
        torch.testing.assert_close(each, torch.cat([part[level] for part in alone]), rtol=1e-4, atol=1e-5)
    sum(each.sum() for each in logits).backward()
    assert images.grad.abs().sum(dim=(1, 2, 3)).min() > 0
    assert all(parameter.grad is not None for parameter in net.nets.parameters())
    assert all(parameter.grad is None for parameter in net.pixel.parameters())
    assert all(parameter.grad is None for parameter in frozen_net("effnet_lite0", torch.device("cpu")).parameters())


class Pooled:
    """Stand-in for a second net: means of squares, in as many channels."""

    weights_sha256 = "0"

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        channels, strides = SqueezeNetFeatures.map_channels, SqueezeNetFeatures.map_strides
        return [
            F.avg_pool2d(images, s).mean(dim=1, keepdim=True).expand(-1, c, -1, -1)
            for c, s in zip(channels, strides, strict=True)
        ]


def test_features_alone_of_two_nets(monkeypatch):
    own = projected.frozen_net
    monkeypatch.setattr(
        projected, "frozen_net", lambda net, where: Pooled() if net == "squeezenet" else own(net, where)
    )
    net = Projected(**HEADS, nets=("effnet_lite0", "squeezenet"), levels=(0, 2))
    logits = net.head_logits(IMAGES, None)
    assert len(logits) == 4
    assert net.saw == ("effnet_lite0", "squeezenet")
    torch.testing.assert_close(net(IMAGES)[:, 0], torch.stack([each.mean(dim=1) for each in logits]).mean(dim=0))
    assert net.pixel_part is None


@pytest.mark.parametrize("net", [aided, lambda: aided("dcgan", 3), lambda: Projected(**HEADS, c_dim=2)])
def test_a_file_rebuilds_it_without_the_net(net, tmp_path):
    """The file has projection and heads; the net is loaded by name with its original weights."""
    made = net().eval()
    path = wplus.save(tmp_path / "d.safetensors", discriminator=made)
    found = wplus.load(path).discriminator
    assert type(found) is type(made)
    assert path.stat().st_size < 2_000_000
    c = torch.eye(made.c_dim)[torch.arange(4) % made.c_dim] if made.c_dim else None
    for a, b in zip(made.head_logits(IMAGES, c), found.head_logits(IMAGES, c), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(made(IMAGES, c), found(IMAGES, c))
    assert json.loads(json.dumps(found.arguments)) == json.loads(json.dumps(made.arguments))
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["wplus"])
    assert header["networks"]["discriminator"]["saw"] == ["effnet_lite0"]


def test_other_weights_of_the_net_are_refused():
    sha256 = frozen_net("effnet_lite0", torch.device("cpu")).weights_sha256
    assert len(aided(sha256={"effnet_lite0": sha256}).head_logits(IMAGES, None)) == 4
    with pytest.raises(UserError, match="other weights of effnet_lite0 .SHA-256 abc"):
        aided(sha256={"effnet_lite0": "abc"}).head_logits(IMAGES, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nets": ("nothing",)}, "must be one of effnet_lite0, inception, mobilenet_v2, squeezenet, vgg16"),
        ({"nets": ("../x",)}, "cannot look through"),
        ({"nets": ("effnet_lite0", "effnet_lite0")}, "nets must be different ones"),
        ({"levels": (1, 0)}, r"levels must be some of effnet_lite0's \[0, 1, 2, 3\], in this order, got \[1, 0\]"),
        ({"levels": (4,)}, "levels must be some of"),
        ({"nets": ("inception",)}, "input_px must be a whole number of at least 75, got 32"),
        ({"channels": (8, 8)}, "channels must have a width for each of 4 levels"),
        ({"input_px": 16}, "input_px must be a whole number of at least 32"),
        ({"pixel": {"class": "stylegan2.Generator", "arguments": {}}}, "pixel must be a discriminator of pixels"),
        ({"pixel": {"class": "projected.Aided", "arguments": {}}}, "pixel must be a discriminator of pixels"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(UserError, match=message):
        Aided(**{"pixel": stylegan2.Discriminator(resolution=16, **SMALL), **HEADS, **changes})


def test_a_file_cannot_ask_for_too_much(tmp_path):
    net = aided()
    net.arguments = copy.deepcopy(net.arguments)
    net.arguments["pixel"]["arguments"]["num_mapping_layers"] = 10**9
    path = wplus.save(tmp_path / "d.safetensors", discriminator=net)
    with pytest.raises(UserError, match="num_mapping_layers must be at most 1000"):
        wplus.load(path)


def test_images_as_a_net_sees_them():
    grey = torch.rand(2, 1, 16, 16)
    seen = as_net_sees(grey, 32)
    assert seen.shape == (2, 3, 32, 32)
    assert torch.equal(seen[:, 0], seen[:, 2])
    shrunk = as_net_sees(torch.rand(1, 3, 64, 64), 32)
    assert shrunk.std() < 0.12  # 0.09 where it is antialiased, 0.14 without
    assert torch.equal(projected.as_net_sees(IMAGES, 16), IMAGES)
