"""The strength p: fixed, or moved by the signs of the discriminator's logits."""

import copy

import pytest
import torch

from wplus.errors import UserError
from wplus.training.augment import control
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, NoAugment
from wplus.training.augment.pipeline import Identity


def play(augment: AdaptiveAugment, logits: list[float], *, steps: int = 4, batch_size: int = 64) -> AdaptiveAugment:
    """So many steps in each of which D answers `logits` for real images, in two micro-batches."""
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


def test_the_state_resumes_between_updates():
    straight = play(AdaptiveAugment(0.3, speed_kimg=1), SURE, steps=6)
    first = play(AdaptiveAugment(0.3, speed_kimg=1), SURE, steps=3)
    second = AdaptiveAugment(0.3, speed_kimg=1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in (4, 5, 6):
        second.observe(torch.tensor(SURE)[:, None])
        second.adapt(batch_size=64, step=step)
    assert {name: value.tolist() for name, value in second.state_dict().items()} == {
        name: value.tolist() for name, value in straight.state_dict().items()
    }


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
    images = torch.randn(2, 3, 8, 8)
    for augment in (NoAugment(), FixedAugment(0.0), AdaptiveAugment()):
        before = torch.get_rng_state()
        view = augment.sample(images)
        assert isinstance(view, Identity)
        assert view.take(torch.tensor([0]))(images) is images
        assert torch.equal(torch.get_rng_state(), before)
    assert not isinstance(play(AdaptiveAugment(), SURE).sample(images), Identity)


def test_what_is_known_of_p_comes_with_the_state():
    augment = AdaptiveAugment()
    augment.load_state_dict(AdaptiveAugment(0.7).state_dict())
    assert not isinstance(augment.sample(torch.randn(2, 3, 8, 8)), Identity)


def test_a_fixed_p_stays():
    augment = FixedAugment(0.25, transforms="color")
    augment.observe(torch.ones(4, 1))
    augment.adapt(batch_size=4, step=4)
    assert augment.values() == {"train/augment/p": torch.tensor(0.25)}
    assert augment.summary() == {}
    assert augment.fingerprint == {"p": 0.25, "transforms": "color"}
    assert augment.sample(torch.randn(2, 3, 8, 8)).geometry is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedAugment(1.5), "augment.p must be a number of at least 0 and at most 1, got 1.5"),
        (lambda: AdaptiveAugment(target=2), "augment.target must be .*, got 2"),
        (lambda: AdaptiveAugment(interval=0), "augment.interval must be .*, got 0"),
        (lambda: AdaptiveAugment(speed_kimg=0), "augment.speed_kimg must be .*, got 0"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
