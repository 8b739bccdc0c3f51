"""The preset's numbers, where they came from, and how they are overridden."""

import pytest

from wplus.errors import UserError, check_number
from wplus.training.hparams import Hparams, auto, explain, override


def values(resolution: int, batch_size: int | None = None) -> dict[str, float]:
    return {name: value for name, (value, _) in auto(resolution, batch_size).items()}


@pytest.mark.parametrize(
    ("resolution", "batch", "gamma", "lr", "ema_kimg", "channel_base"),
    [  # StyleGAN2-ADA's `auto` on one GPU: its formulas, worked out by hand
        (32, 32, 0.0064, 0.0025, 10, 16384),
        (64, 32, 0.0256, 0.0025, 10, 16384),
        (128, 32, 0.1024, 0.0025, 10, 16384),
        (256, 16, 0.8192, 0.0025, 5, 16384),
        (512, 8, 6.5536, 0.0025, 2.5, 32768),
        (1024, 4, 52.4288, 0.002, 1.25, 32768),
    ],
)
def test_auto(resolution, batch, gamma, lr, ema_kimg, channel_base):
    found = values(resolution)
    expected = {"batch_size": batch, "gamma": gamma, "lr_generator": lr, "lr_discriminator": lr, "ema_kimg": ema_kimg}
    expected |= {"channel_base": channel_base, "channel_max": 512, "num_mapping_layers": 2, "mbstd_group_size": 4}
    assert found == pytest.approx({**expected, "ema_rampup": 0.05})


def test_auto_follows_a_given_batch():
    found = values(256, 64)
    assert (found["batch_size"], found["gamma"], found["ema_kimg"]) == (64, pytest.approx(0.2048), 20)
    assert values(32, 2)["mbstd_group_size"] == 2


def test_overrides_and_reasons():
    numbers = override(auto(32, None), {"gamma": 0.5, "batch_size": None})
    assert numbers["gamma"] == (0.5, "given")
    assert numbers["batch_size"] == (32, "4096 / resolution, at most 32")
    assert list(numbers) == list(auto(32, None))


def test_zero_is_a_value():
    assert override(auto(32, None), {"gamma": 0})["gamma"] == (0, "given")


def test_explain():
    text = explain({"gamma": (0.5, "given"), "lr": (2.5e-3, "below 1024 px"), "ema_rampup": (None, "no ramp-up")})
    assert explain({"gamma_end": (None, "as published"), "pl_decay": (0.01, "as published")}) == (
        "  pl_decay = 0.01  (as published)"
    )
    assert text == "  gamma = 0.5  (given)\n  lr = 0.0025  (below 1024 px)\n  ema_rampup = none  (no ramp-up)"


def test_an_unknown_name():
    with pytest.raises(UserError, match=r"^Unknown training key 'gama'; known are batch_size, channel_base"):
        override(auto(32, None), {"gama": 1})


IMPOSSIBLE = {
    "gamma": ["much", -1.0, float("nan"), float("inf"), True],
    "channel_max": [0, 1.5],
    "batch_size": [-4, 0],
    "num_mapping_layers": [[2]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, bad in IMPOSSIBLE.items() for value in bad])
def test_numbers_that_cannot_be(name, value):
    with pytest.raises(UserError, match=rf"^{name} must be a (whole )?number of at least [01], got .*$"):
        override(auto(32, None), {name: value})


def test_a_share_is_at_most_one():
    with pytest.raises(UserError, match=r"^style_mixing_prob must be a number of at least 0 and at most 1, got 1\.5$"):
        override({"style_mixing_prob": (0.9, "as published")}, {"style_mixing_prob": 1.5})
    check_number("style_mixing_prob", 1, lowest=0, highest=1)


def test_numbers_that_move_go_on_a_cosine():
    numbers = {"batch_size": 4, "gamma": 2.0, "lr_generator": 2e-4, "lr_discriminator": 4e-4, "ema_kimg": 0.0}
    hparams = Hparams(
        **numbers, ema_rampup=None, beta2=0.9, decay_kimg=10.0, gamma_end=0.2, lr_end=5e-5, beta2_end=0.99
    )
    start, middle, end = hparams.at(0), hparams.at(5_000), hparams.at(25_000)
    assert (start.gamma, start.lr_generator, start.beta2) == (2.0, 2e-4, 0.9)
    assert middle.gamma == pytest.approx(1.1)
    assert middle.lr_discriminator == pytest.approx(2.25e-4)
    assert hparams.at(2_500).gamma == pytest.approx(2.0 - 1.8 * (1 - 2**-0.5) / 2)
    assert (end.gamma, end.lr_generator, end.lr_discriminator) == pytest.approx((0.2, 5e-5, 5e-5))
    assert (end.beta2, end.ema_kimg) == (pytest.approx(0.99), 0.0)
    still = Hparams(**numbers, ema_rampup=None, gamma_end=0.2)
    assert still.at(25_000) is still
