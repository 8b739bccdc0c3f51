"""The strength p: fixed, scheduled, or controlled by the signs of the discriminator's logits."""

import copy

import pytest
import torch

from wplus.config import composed
from wplus.training.augment import control
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, NoAugment, ScheduledAugment
from wplus.training.augment.pipeline import Identity
from wplus.training.hparams import Hparams

IMAGES = torch.zeros(2, 3, 8, 8)


def play(augment: AdaptiveAugment, logits: list[float], *, steps: int = 4, batch_size: int = 64) -> AdaptiveAugment:
    """Run steps in each of which D answers `logits` for real images, in two micro-batches."""
    for step in range(1, steps + 1):
        for part in torch.tensor(logits)[:, None].chunk(2):
            augment.observe(part)
        augment.adapt(batch_size=batch_size, step=step)
    return augment


SURE = [3.0, 0.2, 5.0, 1.0]  # r_t = 1
DOUBTFUL = [3.0, 0.2, -5.0, 1.0]  # r_t = 0.5


def test_p_rises_while_d_memorises_and_falls_otherwise():
    """64 images x 4 steps / 500 kimg, the published speed."""
    assert play(AdaptiveAugment(0.5), SURE).p.item() == pytest.approx(0.5 + 64 * 4 / 500_000)
    assert play(AdaptiveAugment(0.5), DOUBTFUL).p.item() == pytest.approx(0.5 - 64 * 4 / 500_000)
    assert play(AdaptiveAugment(0.5, target=0.5), DOUBTFUL).p.item() == 0.5
    assert play(AdaptiveAugment(0.5, speed_kimg=100), SURE, steps=8).p.item() == pytest.approx(0.5 + 64 * 8 / 100_000)


def test_rt_is_the_mean_sign_of_all_steps_since_the_last_update():
    augment = play(AdaptiveAugment(), SURE, steps=2)
    for _ in range(2):
        augment.observe(torch.tensor([[-1.0], [-2.0], [0.5], [-0.1]]))
        augment.adapt(batch_size=4, step=3)
    assert augment.signs.tolist() == [4 * 2 - 2 * 2, 16]
    augment.adapt(batch_size=4, step=4)
    assert augment.values()["train/augment/rt"].item() == 0.25
    assert augment.signs.tolist() == [0, 0]


def test_p_moves_every_interval_steps_only():
    augment = AdaptiveAugment(interval=3, speed_kimg=1)
    found = []
    for step in range(1, 8):
        augment.observe(torch.ones(4, 1))
        augment.adapt(batch_size=4, step=step)
        found.append(round(augment.p.item(), 6))
    assert found == [0, 0, 0.012, 0.012, 0.012, 0.024, 0.024]


@pytest.mark.parametrize(("logits", "start", "end"), [(SURE, 0.9, 1.0), (DOUBTFUL, 0.1, 0.0)])
def test_p_stays_within_0_and_1(logits, start, end):
    augment = play(AdaptiveAugment(start, speed_kimg=0.1), logits, steps=40)
    assert augment.p.item() == end


def test_a_lost_step_does_not_lose_p():
    augment = play(AdaptiveAugment(0.5), [float("nan"), 1.0, 2.0, float("inf")])
    assert augment.p.item() == pytest.approx(0.5 + 64 * 4 / 500_000)
    assert augment.rt.item() == 0.75


def test_processes_that_see_halves_agree_with_one_that_sees_all(monkeypatch):
    whole = play(AdaptiveAugment(0.5), [*SURE, *DOUBTFUL, -1.0, -1.0])
    halves = [AdaptiveAugment(0.5), AdaptiveAugment(0.5)]
    parts = ([*SURE, -1.0], [*DOUBTFUL, -1.0])
    for step in range(1, 5):
        for augment, part in zip(halves, parts, strict=True):
            augment.observe(torch.tensor(part)[:, None])
        exchanged = sum(augment._seen for augment in halves) / 2
        monkeypatch.setattr(control, "mean_over_ranks", lambda seen, mean=exchanged: mean)
        for augment in halves:
            augment.adapt(batch_size=64, step=step)
    for augment in halves:
        assert augment.p.item() == whole.p.item()
        assert augment.rt.item() == whole.rt.item() == pytest.approx(0.4)


def test_saturation_is_said_once_in_words_and_logged():
    augment = play(AdaptiveAugment(0.9499, speed_kimg=1000, alarm_kimg=1), SURE, steps=12)  # at 0.95 after 4 steps
    assert augment.p.item() > 0.95
    assert augment.summary() == {"train/augment/saturated": 0.0}
    play(augment, SURE)
    with pytest.warns(UserWarning, match="p has been above 0.95 for 1.024 kimg: the discriminator overfits faster"):
        assert augment.summary() == {"train/augment/saturated": 1.0}
    assert augment.summary() == {"train/augment/saturated": 1.0}  # a second warning would be an error here
    play(augment, DOUBTFUL, steps=20)
    assert augment.summary() == {"train/augment/saturated": 0.0}


def test_how_long_p_has_been_near_1_comes_with_the_state():
    first, second = (AdaptiveAugment(0.9499, speed_kimg=1000, alarm_kimg=1) for _ in range(2))
    play(first, SURE, steps=12)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    play(second, SURE)
    with pytest.warns(UserWarning, match=r"p has been above 0\.95 for 1\.024 kimg"):
        assert second.summary() == {"train/augment/saturated": 1.0}


# What is drawn


def test_nothing_is_drawn_where_p_is_known_to_be_0():
    for augment in (NoAugment(), FixedAugment(0.0), AdaptiveAugment()):
        before = torch.get_rng_state()
        view = augment.sample(IMAGES)
        assert isinstance(view, Identity)
        assert view.take(torch.tensor([0]))(IMAGES) is IMAGES
        assert torch.equal(torch.get_rng_state(), before)
    assert not isinstance(play(AdaptiveAugment(), SURE).sample(IMAGES), Identity)


def test_what_is_known_of_p_comes_with_the_state():
    augment = AdaptiveAugment()
    augment.load_state_dict(AdaptiveAugment(0.7).state_dict())
    assert not isinstance(augment.sample(IMAGES), Identity)


def test_a_fixed_p_stays():
    augment = FixedAugment(0.25, transforms="color")
    augment.observe(torch.ones(4, 1))
    augment.adapt(batch_size=4, step=4)
    assert augment.values() == {"train/augment/p": torch.tensor(0.25)}
    assert augment.summary() == {}
    assert augment.fingerprint == {"p": 0.25, "transforms": "color"}
    assert augment.sample(IMAGES).geometry is None


# --- a strength that follows the clock -------------------------------------------------------------------------------


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
    """The path makes no difference, and nothing is stored that a fixed p does not store."""
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
