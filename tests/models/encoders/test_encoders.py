"""What every encoder must keep to, whatever it is made of; the backbone is cut to one unit per stage here."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import wplus
import wplus.models.encoders
from wplus.errors import UserError
from wplus.models.encoders import ir_se
from wplus.models.encoders.base import Encoder, resized
from wplus.models.encoders.e4e import Encoder4Editing, GradualStyleEncoder, PyramidEncoder, WEncoder
from wplus.models.encoders.small import SmallEncoder


def every_class() -> list[type[Encoder]]:
    """All encoders of the package that are not a base of others."""
    for module in pkgutil.iter_modules(wplus.models.encoders.__path__, "wplus.models.encoders."):
        importlib.import_module(module.name)
    found, left = [], [Encoder]
    while left:
        children = left.pop().__subclasses__()
        left += children
        ours = [child for child in children if child.__module__.startswith("wplus.")]  # tests may define their own
        found += [child for child in ours if not child.__subclasses__()]
    return sorted(found, key=lambda found_class: found_class.__name__)


CLASSES = every_class()
assert {cls.__name__ for cls in CLASSES} >= {"Encoder4Editing", "GradualStyleEncoder", "SmallEncoder", "WEncoder"}
KINDS = [(cls, {}) for cls in CLASSES] + [(cls, {"maps": "last"}) for cls in (Encoder4Editing, GradualStyleEncoder)]
every_kind = pytest.mark.parametrize(
    ("cls", "changes"),
    KINDS,
    ids=[cls.__name__ + "".join(f"-{value}" for value in more.values()) for cls, more in KINDS],
)
with_deltas = pytest.mark.parametrize("cls", [Encoder4Editing, SmallEncoder])


@pytest.fixture(autouse=True)
def shallow() -> Iterator[None]:
    with mock.patch.dict(ir_se.UNITS, {50: (1, 1, 1, 1)}):
        yield


def build(cls: type[Encoder], **changes: Any) -> Any:
    """An encoder in which no weight is zero, in eval mode."""
    encoder = cls(**{"num_ws": 8, "w_dim": 6, "img_channels": 3, "input_size": 32, **changes})
    for name, parameter in encoder.named_parameters():
        if "head" in name or "conv1" in name or name.endswith("bias"):  # what may begin at zero
            torch.nn.init.normal_(parameter, std=0.05)
    encoder.latent_avg.normal_()
    return encoder.eval()


def images(num: int = 2, size: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(num, channels, size, size) * 2 - 1


# Every encoder


@every_kind
@pytest.mark.parametrize(("resolution", "num_ws", "w_dim", "colours"), [(8, 4, 5, 3), (16, 6, 8, 1), (256, 14, 33, 3)])
def test_shapes_for_any_generator(
    cls: type[Encoder], changes: dict[str, Any], resolution: int, num_ws: int, w_dim: int, colours: int
) -> None:
    size = max(min(resolution, 64), cls.smallest_input)
    encoder = build(cls, num_ws=num_ws, w_dim=w_dim, img_channels=colours, input_size=size, **changes)
    assert (encoder.num_ws, encoder.w_dim, encoder.img_channels, encoder.input_size) == (num_ws, w_dim, colours, size)
    assert encoder.latent_avg.shape == (num_ws, w_dim)
    assert (encoder.stage.shape, encoder.stage.dtype, int(encoder.stage)) == ((), torch.int64, num_ws - 1)
    x = images(3, resolution, colours)
    with torch.no_grad():
        ws = encoder(x)
        assert ws.shape == (3, num_ws, w_dim)
        torch.testing.assert_close(ws, encoder.latent_avg + encoder.offsets(x))
    assert ws.isfinite().all()


@every_kind
def test_a_gradient_reaches_every_parameter(cls: type[Encoder], changes: dict[str, Any]) -> None:
    encoder = build(cls, **changes).train()
    encoder(images(4)).sin().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@every_kind
@torch.no_grad()
def test_images_of_a_batch_never_mix(cls: type[Encoder], changes: dict[str, Any]) -> None:
    encoder, x = build(cls, **changes), images(5)
    together = encoder(x)
    torch.testing.assert_close(encoder(x[3:4]), together[3:4], rtol=1e-4, atol=1e-5)
    assert (together[3] - together[2]).abs().max() > 1e-4  # and it looks at them


@every_kind
@torch.no_grad()
def test_a_file_rebuilds_it(cls: type[Encoder], changes: dict[str, Any], tmp_path: Path) -> None:
    encoder, x = build(cls, **changes), images()
    if cls is not GradualStyleEncoder:
        encoder.stage.fill_(2)
    wplus.save(tmp_path / "encoder.safetensors", encoder=encoder)
    found = wplus.load(tmp_path / "encoder.safetensors").encoder
    assert type(found) is cls
    assert found.arguments == encoder.arguments
    assert torch.equal(found(x), encoder(x))


@every_kind
@torch.no_grad()
def test_any_image_size_is_one_image(cls: type[Encoder], changes: dict[str, Any]) -> None:
    """A 512 px image once became four answers (pSp's heads flatten the batch)."""
    encoder, x = build(cls, **changes), images()
    expected = encoder(x)
    for factor in (2, 16):
        larger = x.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
        torch.testing.assert_close(encoder(larger), expected, rtol=1e-4, atol=1e-5)
    assert encoder(images(2, 20)).shape == expected.shape


@every_kind
@pytest.mark.parametrize("input_size", [64, 128, 256, 512])
def test_any_input_size_is_one_image(cls: type[Encoder], changes: dict[str, Any], input_size: int) -> None:
    with torch.device("meta"):  # shapes without the sums
        encoder = cls(num_ws=8, w_dim=6, img_channels=3, input_size=input_size, **changes)
        assert encoder.offsets(torch.zeros(2, 3, input_size, input_size), stage=7).shape == (2, 8, 6)


@every_kind
@torch.no_grad()
def test_an_iterative_encoder_sees_two_images(cls: type[Encoder], changes: dict[str, Any]) -> None:
    encoder, x = build(cls, is_iterative=True, **changes), images(channels=6)
    assert (encoder.is_iterative, encoder.in_channels, encoder.img_channels) == (True, 6, 3)
    ws = encoder(x)
    for one in (slice(0, 3), slice(3, 6)):
        changed = x.clone()
        changed[:, one] = 0
        assert (encoder(changed) - ws).abs().max() > 1e-4
    with pytest.raises(UserError, match=r"images must be square, \(N, 6, R, R\), got \(2, 3, 32, 32\)"):
        encoder(images())


@pytest.mark.parametrize("cls", CLASSES)
def test_what_does_not_fit_is_refused(cls: type[Encoder]) -> None:
    encoder = build(cls)
    for shape in ((2, 3, 32, 64), (2, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(UserError, match="images must be square"):
            encoder(torch.zeros(shape))
    for stage in (-1, 8):
        with pytest.raises(UserError, match=f"stage must be .*, got {stage}"):
            encoder.offsets(images(), stage=stage)
    for size in (0, 4, 48, 2048):
        with pytest.raises(UserError, match=rf"^input_size must be one of .*, 1024, got {size}$"):
            build(cls, input_size=size)


# Stages


def untrained(encoder: Any, stage: int) -> list[Tensor]:
    """The weights that no answer at this stage may depend on."""
    if isinstance(encoder, SmallEncoder):
        return [encoder.head_weight[stage + 1 :], encoder.head_bias[stage + 1 :]]
    only = [module for module, first in ((encoder.latlayer1, 3), (encoder.latlayer2, 7)) if stage < first]
    return [parameter for module in (*encoder.styles[stage + 1 :], *only) for parameter in module.parameters()]


@with_deltas
@pytest.mark.parametrize("stage", [0, 1, 3, 6, 7])
@torch.no_grad()
def test_a_stage_never_touches_later_heads(cls: type[Encoder], stage: int) -> None:
    encoder, x = build(cls), images()
    full = encoder.offsets(x)
    for weight in untrained(encoder, stage):
        weight.fill_(torch.nan)
    offsets = encoder.offsets(x, stage)
    torch.testing.assert_close(offsets[:, : stage + 1], full[:, : stage + 1])
    torch.testing.assert_close(offsets[:, stage + 1 :], offsets[:, :1].expand(-1, 7 - stage, -1))
    assert (full[:, 1:] - full[:, :1]).abs().amax(dim=(0, 2)).min() > 1e-4  # each delta does something
    encoder.stage.fill_(stage)
    torch.testing.assert_close(encoder(x), encoder.latent_avg + offsets)


@with_deltas
@torch.no_grad()
def test_deltas_are_relative_to_w(cls: type[Encoder]) -> None:
    encoder, x = build(cls), images()
    before = encoder.offsets(x)
    bias = encoder.head_bias[0] if cls is SmallEncoder else encoder.styles[0].linear.bias
    bias.add_(1)
    torch.testing.assert_close(encoder.offsets(x), before + 1)


def test_what_has_no_deltas() -> None:
    with pytest.raises(UserError, match="GradualStyleEncoder has no stages: stage must be left out, got 3"):
        build(GradualStyleEncoder).offsets(images(), stage=3)
    encoder, x = build(WEncoder), images()
    with torch.no_grad():
        offsets = encoder.offsets(x)
        assert torch.equal(offsets, encoder.offsets(x, stage=0))
    assert torch.equal(offsets, offsets[:, :1].expand_as(offsets))


# Their own


def test_resizing_averages_or_interpolates() -> None:
    x = images(1, 8)
    assert resized(x, 8) is x
    torch.testing.assert_close(resized(x, 4), x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean(dim=(3, 5)))
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    torch.testing.assert_close(resized(ramp, 8)[0, 0, 3], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]))


@pytest.mark.parametrize(("cls", "changes", "message"), [
    (PyramidEncoder, {"maps": "first"}, "maps must be one of pyramid, last, got 'first'"),
    (PyramidEncoder, {"depth": 34}, "depth must be one of 50, 100, 152, got 34"),
    (SmallEncoder, {"width": 40}, "width must be a positive multiple of 16, got 40"),
    (SmallEncoder, {"width": 0}, "width must be .*, got 0"),
])  # fmt: skip
def test_unknown_choices_are_refused(cls: type[Encoder], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(cls, **changes)


@torch.no_grad()
def test_the_small_encoder_begins_near_the_mean_without_deltas() -> None:
    encoder = SmallEncoder(num_ws=8, w_dim=16, input_size=32).eval()
    offsets = encoder.offsets(images(8))
    assert torch.equal(offsets, offsets[:, :1].expand_as(offsets))
    assert 0.01 < offsets.std() < 0.2


@pytest.mark.parametrize(("w_dim", "num_ws", "input_size", "millions"), [
    (128, 8, 32, 2.9), (512, 8, 32, 4.4), (512, 10, 64, 5.0), (512, 14, 256, 6.0),
])  # fmt: skip
def test_the_small_encoder_is_small(w_dim: int, num_ws: int, input_size: int, millions: float) -> None:
    with torch.device("meta"):
        encoder = SmallEncoder(num_ws=num_ws, w_dim=w_dim, input_size=input_size)
    assert round(sum(parameter.numel() for parameter in encoder.parameters()) / 1e6, 1) == millions
