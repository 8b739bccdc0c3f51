"""Properties of every encoder; the backbone is cut to one unit per stage here."""

from functools import partial
from unittest import mock

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

import wplus
from wplus.config import CONFIG_FOLDER
from wplus.errors import UserError
from wplus.models.encoders import ir_se
from wplus.models.encoders.base import resized
from wplus.models.encoders.e4e import Encoder4Editing, GradualStyleEncoder, PyramidEncoder, WEncoder
from wplus.models.encoders.small import SmallEncoder

FILES = [OmegaConf.load(path) for path in (CONFIG_FOLDER / "encoder").glob("*.yaml")]
KINDS = {cls.__name__: cls for cls in (get_class(file["_target_"]) for file in FILES)}
KINDS |= {f"{cls.__name__}-last": partial(cls, maps="last") for cls in (Encoder4Editing, GradualStyleEncoder)}
every_kind = pytest.mark.parametrize("kind", [pytest.param(KINDS[name], id=name) for name in sorted(KINDS)])
with_deltas = pytest.mark.parametrize("kind", [Encoder4Editing, SmallEncoder])


@pytest.fixture(autouse=True)
def shallow():
    with mock.patch.dict(ir_se.UNITS, {50: (1, 1, 1, 1)}):
        yield


def build(kind, **changes):
    """An encoder in which no weight is zero, in eval mode."""
    encoder = kind(**{"num_ws": 8, "w_dim": 6, "img_channels": 3, "input_size": 32, **changes})
    for name, parameter in encoder.named_parameters():
        if "head" in name or "conv1" in name or name.endswith("bias"):  # what may begin at zero
            torch.nn.init.normal_(parameter, std=0.05)
    encoder.latent_avg.normal_()
    return encoder.eval()


def images(num: int = 2, size: int = 32, channels: int = 3) -> torch.Tensor:
    return torch.rand(num, channels, size, size) * 2 - 1


# Every encoder


@every_kind
@pytest.mark.parametrize(("resolution", "num_ws", "w_dim", "colours"), [(8, 4, 5, 3), (16, 6, 8, 1), (256, 14, 33, 3)])
@torch.no_grad()
def test_shapes_for_any_generator(kind, resolution, num_ws, w_dim, colours):
    encoder = build(kind, num_ws=num_ws, w_dim=w_dim, img_channels=colours, input_size=max(min(resolution, 64), 32))
    assert encoder.latent_avg.shape == (num_ws, w_dim)
    assert (encoder.stage.dtype, int(encoder.stage)) == (torch.int64, num_ws - 1)
    x = images(3, resolution, colours)
    ws = encoder(x)
    assert ws.shape == (3, num_ws, w_dim)
    assert ws.isfinite().all()
    torch.testing.assert_close(ws, encoder.latent_avg + encoder.offsets(x))


@every_kind
@pytest.mark.parametrize("input_size", [64, 128, 256, 512])
def test_any_input_size_is_one_image(kind, input_size):
    with torch.device("meta"):  # shapes without the sums
        encoder = kind(num_ws=8, w_dim=6, img_channels=3, input_size=input_size)
        assert encoder.offsets(torch.zeros(2, 3, input_size, input_size), stage=7).shape == (2, 8, 6)


@every_kind
def test_a_gradient_reaches_every_parameter(kind):
    encoder = build(kind).train()
    encoder(images(4)).sin().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_kind
@torch.no_grad()
def test_images_of_a_batch_never_mix_and_each_is_one(kind):
    """Whatever the batch size: a 512 px image once became four answers (pSp's heads flatten the batch)."""
    encoder, x = build(kind), images(5)
    together = encoder(x)
    torch.testing.assert_close(encoder(x[3:4]), together[3:4], rtol=1e-4, atol=1e-5)
    assert (together[3] - together[2]).abs().max() > 1e-4  # and it looks at them
    larger = x.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    torch.testing.assert_close(encoder(larger), together, rtol=1e-4, atol=1e-5)
    assert encoder(images(2, 20)).shape == (2, 8, 6)


@every_kind
@torch.no_grad()
def test_a_file_rebuilds_it(kind, tmp_path):
    encoder, x = build(kind), images()
    if encoder.has_stages:
        encoder.stage.fill_(2)
    found = wplus.load(wplus.save(tmp_path / "encoder.safetensors", encoder=encoder)).encoder
    assert type(found) is type(encoder)
    assert found.arguments == encoder.arguments
    assert torch.equal(found(x), encoder(x))


@every_kind
@torch.no_grad()
def test_an_iterative_encoder_sees_two_images(kind):
    encoder, x = build(kind, is_iterative=True), images(channels=6)
    for one in (slice(0, 3), slice(3, 6)):
        changed = x.clone()
        changed[:, one] = 0
        assert (encoder(changed) - encoder(x)).abs().max() > 1e-4
    with pytest.raises(UserError, match=r"^images must be square, \(N, 6, R, R\), got \(2, 3, 32, 32\)[.]$"):
        encoder(images())


@every_kind
def test_what_does_not_fit_is_refused(kind):
    encoder = build(kind)
    for shape in ((2, 3, 32, 64), (2, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(UserError, match="images must be square"):
            encoder(torch.zeros(shape))
    for stage in (-1, 8):
        with pytest.raises(UserError, match=f"stage must be .*, got {stage}"):
            encoder.offsets(images(), stage=stage)
    for size in (0, 4, 48, 2048):
        with pytest.raises(UserError, match=rf"^input_size must be one of .*, 1024, got {size}[.]$"):
            build(kind, input_size=size)


@pytest.mark.parametrize(("kind", "changes", "message"), [
    (PyramidEncoder, {"maps": "first"}, "maps must be one of pyramid, last, got 'first'"),
    (PyramidEncoder, {"depth": 34}, "depth must be one of 50, 100, 152, got 34"),
    (SmallEncoder, {"width": 40}, "width must be a positive multiple of 16, got 40"),
    (SmallEncoder, {"width": 0}, "width must be .*, got 0"),
])  # fmt: skip
def test_unknown_choices_are_refused(kind, changes, message):
    with pytest.raises(UserError, match=message):
        build(kind, **changes)


# Stages


@with_deltas
@pytest.mark.parametrize("stage", [0, 1, 3, 6, 7])
@torch.no_grad()
def test_a_stage_never_touches_later_heads(kind, stage):
    encoder, x = build(kind), images()
    full = encoder.offsets(x)
    if kind is SmallEncoder:
        unused = [encoder.head_weight[stage + 1 :], encoder.head_bias[stage + 1 :]]
    else:
        only = [module for module, first in ((encoder.latlayer1, 3), (encoder.latlayer2, 7)) if stage < first]
        unused = [parameter for module in (*encoder.styles[stage + 1 :], *only) for parameter in module.parameters()]
    for weight in unused:
        weight.fill_(torch.nan)
    offsets = encoder.offsets(x, stage)
    torch.testing.assert_close(offsets[:, : stage + 1], full[:, : stage + 1])
    torch.testing.assert_close(offsets[:, stage + 1 :], offsets[:, :1].expand(-1, 7 - stage, -1))
    assert (full[:, 1:] - full[:, :1]).abs().amax(dim=(0, 2)).min() > 1e-4  # each delta does something
    encoder.stage.fill_(stage)
    torch.testing.assert_close(encoder(x), encoder.latent_avg + offsets)


@with_deltas
@torch.no_grad()
def test_deltas_are_relative_to_w(kind):
    encoder, x = build(kind), images()
    before = encoder.offsets(x)
    bias = encoder.head_bias[0] if kind is SmallEncoder else encoder.styles[0].linear.bias
    bias.add_(1)
    torch.testing.assert_close(encoder.offsets(x), before + 1)


@torch.no_grad()
def test_what_has_no_deltas():
    with pytest.raises(UserError, match="GradualStyleEncoder has no stages: stage must be left out, got 3"):
        build(GradualStyleEncoder).offsets(images(), stage=3)
    encoder, x = build(WEncoder), images()
    offsets = encoder.offsets(x)
    assert torch.equal(offsets, encoder.offsets(x, stage=0))
    assert torch.equal(offsets, offsets[:, :1].expand_as(offsets))


# Their own


def test_resizing_averages_or_interpolates():
    x = images(1, 8)
    assert resized(x, 8) is x
    torch.testing.assert_close(resized(x, 4), x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean(dim=(3, 5)))
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    torch.testing.assert_close(resized(ramp, 8)[0, 0, 3], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]))


@torch.no_grad()
def test_the_small_encoder_begins_near_the_mean_without_deltas():
    offsets = SmallEncoder(num_ws=8, w_dim=16, input_size=32).eval().offsets(images(8))
    assert torch.equal(offsets, offsets[:, :1].expand_as(offsets))
    assert 0.01 < offsets.std() < 0.2
