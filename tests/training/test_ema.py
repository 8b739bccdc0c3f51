"""The moving average against its closed form."""

import copy
import math

import pytest
import torch
from torch import nn

from wplus.training.module import ema_decay, update_ema


@pytest.mark.parametrize(("batch", "half_life_kimg"), [(32, 10.0), (4, 0.5), (64, 20.0)])
def test_half_life_is_counted_in_images(batch, half_life_kimg):
    """After half_life images a weight that has changed is half way."""
    decay = ema_decay(batch, 10**9, half_life_kimg=half_life_kimg, rampup=None)
    steps = half_life_kimg * 1000 / batch
    assert decay**steps == pytest.approx(0.5)
    assert decay == pytest.approx(math.exp(-math.log(2) * batch / (half_life_kimg * 1000)))


def test_ramp_up_shortens_the_half_life_at_first():
    def decay(nimg: int) -> float:
        return ema_decay(32, nimg, half_life_kimg=10, rampup=0.05)

    assert decay(0) == 0.0
    assert decay(32_000) == pytest.approx(0.5 ** (32 / 1600))
    assert decay(200_000) == pytest.approx(0.5 ** (32 / 10_000))
    assert decay(10**9) == decay(200_000)
    assert ema_decay(32, 0, half_life_kimg=10, rampup=None) == pytest.approx(0.5 ** (32 / 10_000))


def test_a_half_life_of_zero_copies():
    assert ema_decay(32, 5000, half_life_kimg=0, rampup=None) == 0.0


def make_network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_update_is_the_weighted_sum_and_copies_buffers():
    network, average = make_network(), make_network()
    network[1].running_mean.normal_()
    before = copy.deepcopy(average)
    update_ema(average, network, 0.9)
    for mean, old, new in zip(average.parameters(), before.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mean, 0.9 * old + 0.1 * new)
    for mean, new in zip(average.buffers(), network.buffers(), strict=True):
        assert torch.equal(mean, new)
        assert mean is not new


def test_many_updates_follow_the_geometric_series():
    network, average = make_network(), make_network()
    start = average[0].weight.detach().clone()
    values = []
    for step in range(10):
        network[0].weight.data.fill_(float(step))
        values.append(float(step))
        update_ema(average, network, 0.8)
    expected = 0.8**10 * start + sum(0.2 * 0.8 ** (9 - step) * value for step, value in enumerate(values))
    torch.testing.assert_close(average[0].weight.detach(), expected)


def test_decay_zero_and_one():
    network, average = make_network(), make_network()
    before = average[0].weight.detach().clone()
    update_ema(average, network, 1.0)
    assert torch.equal(average[0].weight, before)
    update_ema(average, network, 0.0)
    assert torch.equal(average[0].weight, network[0].weight)
