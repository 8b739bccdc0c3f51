"""Resolutions and widths of networks that halve or double the image block by block."""

from __future__ import annotations

import math

from wplus.errors import UserError


def block_resolutions(resolution: int) -> list[int]:
    """[4, 8, ..., resolution]; UserError unless resolution is a power of two from 8 to 1024."""
    if resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
        raise UserError(f"Resolution {resolution} is not allowed; it must be a power of two from 8 to 1024.")
    return [2**i for i in range(2, int(math.log2(resolution)) + 1)]


def num_channels(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at a resolution: min(channel_base / resolution, channel_max); UserError when none are left."""
    channels = min(channel_base // resolution, channel_max)
    if channels < 1:
        raise UserError(
            f"channel_base={channel_base} and channel_max={channel_max} leave no feature maps at {resolution} px; "
            f"they must be at least {resolution} and 1."
        )
    return channels
