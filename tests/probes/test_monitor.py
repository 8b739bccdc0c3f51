"""The monitor on small runs: what it keeps, and its messages about a planted collapse."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.probes.conftest import FAMILIES, make_images, make_module, numbers
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.losses.adversarial import relativistic_generator
from wplus.probes.logits import overfitting_estimate
from wplus.probes.monitor import FILE, monitor, read_series

MEASURES = {"diversity", "pixels", "distinct", "distance", "precision", "recall", "r_t", "loss_slope"}


class Painter(nn.Module):
    """A generator that reproduces `num_kinds` of the real images."""

    z_dim, c_dim, saw = 6, 0, ()

    def __init__(self, pixels: torch.Tensor, num_kinds: int) -> None:
        super().__init__()
        self.register_buffer("known", pixels[:num_kinds].float() / 127.5 - 1)

    def forward(self, z: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        return self.known[(z[:, 0] * 1e4).long() % len(self.known)]


@pytest.fixture
def watched(context):
    """watched(num_kinds, kimg): the monitor when the generator knows this many images."""
    net, data = make_module(), make_images(200)

    def look(num_kinds: int, kimg: float, **options):
        net.ema, net.images_seen = Painter(data.images, num_kinds), round(kimg * 1000)
        return monitor(context(module=net, data=data, **options), num_images=150)

    return look


def test_a_planted_collapse_is_told_and_the_end_of_it(watched, tmp_path):
    seen = [watched(num, kimg) for kimg, num in enumerate((200, 200, 2, 2, 200))]
    assert [len(moment.messages) for moment in seen] == [0, 0, 1, 0, 1]
    (warning,), (info,) = seen[2].messages, seen[4].messages
    assert warning.level == "warning"
    assert warning.text.startswith("Distinct images fell from 0.72 (at 0 kimg) to 0.01 of the real images', recall ")
    assert "the generator has collapsed to few images" in warning.text
    assert info.level == "info"
    assert info.text.startswith("Back: diversity at 1.00 of the real images' (from 0.49), diversity of pixels at 1.00 ")
    assert [moment.summary["probe/health"]["value"] for moment in seen] == ["well", "well", "alarm", "alarm", "well"]
    assert [numbers(moment)["probe/health/diversity_level"] for moment in seen] == [0, 0, 2, 2, 0]
    assert numbers(seen[2])["probe/health/distinct"] < 0.05 < 0.5 < numbers(seen[1])["probe/health/distinct"]
    assert [row["kimg"] for row in json.loads((tmp_path / FILE).read_text())["readings"]] == [0, 1, 2, 3, 4]


def test_a_resumed_run_forgets_what_lies_ahead(watched, tmp_path):
    for kimg, num in enumerate((200, 200, 2)):
        watched(num, kimg)
    again = watched(2, 1)  # rewound: this moment anew, and the collapse is news again
    assert [reading.kimg for reading in read_series(tmp_path / FILE, before_kimg=9)] == [0, 1]
    assert len(again.messages) == 1
    assert len(watched(2, 1).messages) == 1  # the same moment once more
    assert not watched(2, 2).messages


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"readings": 3}', '{"readings": [{"kimg": 1}]}',
     '{"readings": [{"kimg": 1, "measures": {}, "levels": {"loss_slope": "fine"}}]}'],
)  # fmt: skip
def test_a_file_that_is_no_series_is_refused(content, watched, tmp_path):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=r"cannot be read as a series of health readings .*; delete it to start over"):
        watched(200, 0)


def test_held_out_images_are_looked_at_where_there_are_any(watched, monkeypatch, tmp_path):
    assert watched(200, 0).values.keys() & {"probe/health/r_v"} == set()
    monkeypatch.setattr("wplus.probes.probe.ProbeContext.logits", logits_of)
    found = numbers(watched(200, 1, held_out=make_images(60)))["probe/health/r_v"]
    assert found == pytest.approx(0.5, abs=0.05)
    logits = [logits_of(None, which, 150) for which in ("train", "held_out", "generated")]
    expected = overfitting_estimate(*logits, num_train=200)  # to ask 150 of these leaves less to chance
    assert read_series(tmp_path / FILE, before_kimg=9)[1].measures["r_v"] == expected


def logits_of(_, which, num):
    """Logits of an overfitting discriminator: held-out images are half way to generated ones."""
    mean = {"train": 2.0, "held_out": 0.0, "generated": -2.0}[which]
    return mean + 0.1 * torch.randn(num, generator=torch.Generator().manual_seed(len(which)))


def test_too_few_images_say_nothing(context):
    seen = monitor(context(data=make_images(10)), num_images=1000)
    assert not seen.values
    assert not seen.messages


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_looked_at(family, context):
    seen = monitor(context(family, data=make_images(40), held_out=make_images(30)), num_images=32)
    assert {name.removeprefix("probe/health/") for name in seen.values} - {"r_v"} == MEASURES | {
        "diversity_level", "overfitting_level", "gradient_level", "narrowing_level", "heads_level"
    }  # fmt: skip
    assert seen.summary["probe/health"]["value"] in ("well", "too early to say", "watch", "alarm")


class WithHeads(nn.Module):
    """A discriminator whose two heads separate real images, with a mean above 0, from others by `margin`."""

    c_dim, group_size = 0, 1

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, images: torch.Tensor, c: torch.Tensor | None) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None]

    def head_logits(self, images: torch.Tensor, c: torch.Tensor | None) -> list[torch.Tensor]:
        sign = images.mean(dim=(1, 2, 3)).sign()[:, None]
        return [self.margin * sign.expand(-1, 4), self.margin * sign]


@pytest.mark.parametrize(("margin", "loss", "level"), [(2.0, 0.0, 2), (0.5, 1.0, 0), (0.0, 2.0, 0)])
def test_heads_are_looked_at_where_the_discriminator_has_some(margin, loss, level, context):
    net = make_module()
    net.ema, net.discriminator = Painter(make_images(20).images * 0, 20), WithHeads(margin)
    data = make_images(40)
    data = ImageSet(torch.full_like(data.images, 255), None, data.names)
    found = numbers(monitor(context(module=net, data=data), num_images=32))
    assert found["probe/health/heads_loss"] == pytest.approx(loss)
    assert found["probe/health/heads_level"] == level


def test_heads_see_the_detail_that_a_growing_generator_has(context):
    """A stand-in turns fine detail into its negative: now the heads take real images for generated ones."""
    net = make_module()
    net.ema, net.discriminator = Painter(make_images(20).images * 0, 20), WithHeads(0.5)
    net.growth = SimpleNamespace(shown=lambda images, nimg: -images)
    data = make_images(40)
    data = ImageSet(torch.full_like(data.images, 255), None, data.names)
    assert numbers(monitor(context(module=net, data=data), num_images=32))["probe/health/heads_loss"] == 2.0


def test_numbers_of_a_net_that_has_taught_the_generator_are_marked(context):
    net = make_module()
    net.ema.saw = ("raw",)
    found = monitor(context(module=net, data=make_images(40)), num_images=32).values
    assert {f"probe/health/{name}_seen" for name in ("diversity", "distinct", "precision", "recall", "distance")} <= (
        found.keys()
    )
    assert "probe/health/pixels" in found


def test_a_loss_of_pairs_and_a_lost_discriminator(context):
    net = make_module("r3gan")
    net.generator_loss, net.compares = relativistic_generator, True
    assert "probe/health/loss_slope" in monitor(context(module=net), num_images=32).values
    for parameter in net.discriminator.parameters():
        parameter.data.fill_(torch.nan)
    values = monitor(context(module=net), num_images=32).values
    assert "probe/health/loss_slope" not in values
    assert "probe/health/diversity" in values
