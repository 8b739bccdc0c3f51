"""Scheduled growing: the published schedule, what it sets, and what is reset."""

import pytest
import torch

from wplus.data import Batches
from wplus.models.progressive import at_lod
from wplus.training import progressive as growth
from wplus.training.progressive import GrowthSchedule

STYLEGAN = GrowthSchedule(resolution=64, start_resolution=8, stable_kimg=600, fade_kimg=600)


@pytest.fixture
def growing(make_tiny):
    """growing(...): from 4 to 16 px in eight steps."""
    times = {"stable_kimg": 0.008, "fade_kimg": 0.008}
    return lambda **changes: make_tiny("stylegan1", resolution=16, **times, **changes)


@pytest.mark.parametrize(
    ("kimg", "lod"),
    [(0, 3), (599, 3), (600, 3), (900, 2.5), (1199.999, 2.0), (1200, 2), (1800, 2), (2100, 1.5), (3600, 0), (9999, 0)],
)
def test_the_published_schedule(kimg, lod):
    assert STYLEGAN.lod(round(kimg * 1000)) == pytest.approx(lod, abs=1e-5)


def test_other_times_without_a_fade_or_without_any_time():
    uneven = GrowthSchedule(resolution=16, start_resolution=4, stable_kimg=3, fade_kimg=1)
    assert [uneven.lod(nimg) for nimg in (0, 2999, 3500, 4000, 7000, 7750, 8000)] == [2, 2, 1.5, 1, 1, 0.25, 0]
    steps = GrowthSchedule(resolution=16, start_resolution=4, stable_kimg=1, fade_kimg=0)
    assert [steps.lod(nimg) for nimg in (0, 999, 1000, 1999, 2000, 5000)] == [2, 2, 1, 1, 0, 0]
    assert GrowthSchedule(resolution=16, start_resolution=4, stable_kimg=0, fade_kimg=0).lod(0) == 0


def test_optimizers_start_anew_where_a_fade_begins_or_ends():
    small = GrowthSchedule(resolution=16, start_resolution=4, stable_kimg=0.008, fade_kimg=0.008)
    assert [nimg for nimg in range(0, 60, 4) if small.begins(nimg, 4)] == [12, 16, 28, 32]


def test_the_learning_rate_rises_with_the_resolution():
    large = GrowthSchedule(resolution=1024, start_resolution=32, stable_kimg=1, fade_kimg=0)
    assert [large.lr_factor(kimg * 1000) for kimg in range(6)] == [1, 1, 1.5, 2, 3, 3]
    # 128 px are in use from their fade on
    fading = GrowthSchedule(resolution=256, start_resolution=64, stable_kimg=1, fade_kimg=2)
    assert [fading.lr_factor(kimg * 1000) for kimg in (0, 1, 2, 3, 4, 5, 6)] == [1, 1, 1.5, 1.5, 1.5, 2, 2]


def test_the_optimizers_of_both_networks_get_it(growing, play, monkeypatch):
    monkeypatch.setattr(growth, "_LR_FACTORS", ((16, 3.0), (8, 2.0)))
    module, rates = growing(), []
    optimizers = module.configure_optimizers()
    monkeypatch.setattr(module, "run_phase", lambda *_: None)
    for _ in range(9):  # lod 2, 2, 2, 1.5, 1, 1, 1, 0.5, 0
        play(module, 1, optimizers)
        rates.append([optimizer.param_groups[0]["lr"] for optimizer in optimizers])
    expected = [0.002 * factor for factor in (1, 1, 1, 2, 2, 2, 2, 3, 3)]
    assert [rate for rate, _ in rates] == [rate for _, rate in rates] == pytest.approx(expected)


def test_real_images_networks_and_average_are_at_the_same_level(growing, make_images, monkeypatch):
    module, shown = growing(), []
    monkeypatch.setattr(module, "run_phase", lambda phase, real, *_: shown.append(real))
    batches = Batches(make_images(resolution=16), 4, start_nimg=lambda: module.images_seen)
    optimizers = module.configure_optimizers()
    for step, lod in enumerate([2.0, 2.0, 2.0, 1.5, 1.0, 1.0, 1.0, 0.5, 0.0]):
        images, labels = batches.at(module.images_seen)
        shown.clear()
        module.run_step(images, labels, optimizers)
        networks = (module.generator.synthesis, module.discriminator, module.ema.synthesis)
        assert [network.growth.value for network in networks] == [lod] * 3, step
        assert torch.equal(shown[0], at_lod(images.float() / 127.5 - 1, lod)), step
    assert module.means.collect()["train/lod"] == pytest.approx(11 / 9)


def test_what_is_logged_of_growth_stands_on_the_games_device(growing):
    """The means of a step are fetched together, which requires tensors on one device."""
    module = growing()
    module._follow_clock(torch.empty(4, 3, 16, 16, device="meta"), module.configure_optimizers())
    assert module.means._sums["train/lod"].device.type == "meta"


def test_moments_are_forgotten_and_only_there(growing, play):
    module, steps = growing(), []
    optimizers = module.configure_optimizers()
    for _ in range(6):
        play(module, 1, optimizers)
        steps.append(int(optimizers[0].state[module.generator.synthesis.const]["step"]))
    assert steps == [1, 2, 3, 1, 1, 2]  # the fade begins within the step at 12 images and has ended at 16


def test_styles_are_mixed_among_the_layers_in_use(growing):
    module = growing(style_mixing_prob=1.0)
    for nimg, expected in ((0, {1}), (16, {1, 2, 3})):
        module.growth.apply([module.generator], nimg)
        assert {module.sample_inputs(2).mix_from for _ in range(40)} == expected
