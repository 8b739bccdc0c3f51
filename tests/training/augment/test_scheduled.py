"""A strength that follows the clock."""

import pytest
import torch

from wplus.config import composed
from wplus.errors import UserError
from wplus.training.augment.control import ScheduledAugment
from wplus.training.augment.pipeline import Identity
from wplus.training.hparams import Hparams

IMAGES = torch.zeros(2, 3, 8, 8)


def after(nimg: int, augment: ScheduledAugment, *, batch_size: int = 4) -> float:
    augment.adapt(batch_size=batch_size, step=nimg // batch_size)
    return augment.p.item()


def test_the_cosine():
    augment = ScheduledAugment(0.1, p_end=0.5, decay_kimg=1.0)
    assert augment.p.item() == pytest.approx(0.1)
    assert after(248, augment) == pytest.approx(0.1 + 0.4 * 0.144, abs=1e-3)
    assert after(500, augment) == pytest.approx(0.3)
    assert after(1000, augment) == after(40_000, augment) == pytest.approx(0.5)
    assert ScheduledAugment(0.1, p_end=0.5, decay_kimg=0).p.item() == pytest.approx(0.5)


def test_it_is_where_the_recipe_is():
    """gamma and p, both from 0 to 1."""
    rest = {"lr_generator": 1e-3, "lr_discriminator": 1e-3, "ema_kimg": 0.0, "ema_rampup": None}
    hparams = Hparams(batch_size=4, gamma=0.0, gamma_end=1.0, decay_kimg=0.4, **rest)
    augment = ScheduledAugment(0.0, p_end=1.0, decay_kimg=0.4)
    for nimg in (0, 4, 100, 200, 396, 400, 800):
        assert after(nimg, augment) == pytest.approx(hparams.at(nimg).gamma, abs=1e-7)


def test_p_depends_on_the_images_seen_alone():
    """On the way there it makes no difference, nor is anything kept that a fixed p does not keep."""
    straight, jumped = (ScheduledAugment(0.0, p_end=0.3, decay_kimg=0.1) for _ in range(2))
    for nimg in range(4, 64, 4):
        after(nimg, straight)
    assert after(60, jumped) == straight.p.item()
    assert after(60, ScheduledAugment(0.0, p_end=0.3, decay_kimg=0.1), batch_size=12) == straight.p.item()
    assert list(straight.state_dict()) == ["p"]
    resumed = ScheduledAugment(0.0, p_end=0.3, decay_kimg=0.1)
    resumed.load_state_dict(straight.state_dict())
    assert resumed.p == straight.p
    assert not isinstance(resumed.sample(IMAGES), Identity)


def test_nothing_is_drawn_before_the_first_step():
    augment = ScheduledAugment(0.0, p_end=0.3, decay_kimg=0.1)
    assert isinstance(augment.sample(IMAGES), Identity)
    after(4, augment)
    assert not isinstance(augment.sample(IMAGES), Identity)
    assert augment.values()["train/augment/p"] > 0


def test_what_makes_it_another_run():
    augment = ScheduledAugment(0.1, p_end=0.5, decay_kimg=1, transforms="color")
    assert augment.fingerprint == {"p": 0.1, "p_end": 0.5, "decay_kimg": 1.0, "transforms": "color"}


@pytest.mark.parametrize(("name", "value"), [("p", -0.1), ("p_end", 1.5), ("decay_kimg", -1)])
def test_what_cannot_be_is_refused(name, value):
    with pytest.raises(UserError, match=rf"^augment\.{name} must be .*, got {value}"):
        ScheduledAugment(**{"p": 0.0, "p_end": 0.3, "decay_kimg": 1.0, name: value})


def test_a_transform_that_does_not_follow_p_alone():
    """R3GAN's colours happen half as often as the rest: the multipliers reach the pipeline."""
    augment = ScheduledAugment(0.0, p_end=1.0, decay_kimg=0, transforms="bgc", multipliers={"hue": 0.5, "cutout": 1.0})
    assert augment.pipeline.multipliers["hue"] == 0.5
    assert augment.sample(IMAGES).cutout is not None


def test_the_published_schedule():
    """R3GAN's on FFHQ: to 0.3 over 20 million images, colours half as often, and cutout."""
    chosen = composed("train", ["augment=scheduled"])["augment"]
    colours = dict.fromkeys(("brightness", "contrast", "lumaflip", "hue", "saturation"), 0.5)
    assert (chosen["p"], chosen["p_end"], chosen["decay_kimg"], chosen["transforms"]) == (0.0, 0.3, 20_000, "bgc")
    assert chosen["multipliers"] == {**colours, "cutout": 1.0}
