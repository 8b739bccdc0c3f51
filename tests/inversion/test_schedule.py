"""The schedules against the lines of NVlabs' projector."""

from __future__ import annotations

import math

import pytest

from wplus.inversion.schedule import code_noise_multiplier, learning_rate_multiplier


@pytest.mark.parametrize("step", [0, 1, 10, 49, 50, 500, 749, 750, 751, 900, 999])
def test_nvlabs_schedule(step):
    t = step / 1000
    ramp = min(1.0, (1.0 - t) / 0.25)
    ramp = 0.5 - 0.5 * math.cos(ramp * math.pi)
    ramp = ramp * min(1.0, t / 0.05)
    assert learning_rate_multiplier(t) == pytest.approx(ramp)
    assert code_noise_multiplier(t) == pytest.approx(max(0.0, 1.0 - t / 0.75) ** 2)


def test_without_ramps():
    assert [learning_rate_multiplier(t, rampup=0, rampdown=0) for t in (0, 0.5, 0.99)] == [1, 1, 1]
    assert code_noise_multiplier(0.0, length=0) == 0
