"""The schedules of NVlabs' projector (StyleGAN2, appendix D); t is the share of the steps done, from 0 to 1."""

from __future__ import annotations

import math


def learning_rate_multiplier(t: float, *, rampup: float = 0.05, rampdown: float = 0.25) -> float:
    """Linear ramp up over the first `rampup` of the steps, cosine ramp down over the last `rampdown`."""
    up = min(1.0, t / rampup) if rampup > 0 else 1.0
    down = min(1.0, (1 - t) / rampdown) if rampdown > 0 else 1.0
    return up * (0.5 - 0.5 * math.cos(math.pi * down))


def code_noise_multiplier(t: float, *, length: float = 0.75) -> float:
    """Strength of the noise on the code: falls with the square of the time, reaches 0 at `length`."""
    return max(0.0, 1 - t / length) ** 2 if length > 0 else 0.0
