"""Distances between images, pixel by pixel: one number per image, for images (N, C, H, W) in [-1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

DATA_RANGE = 2.0  # from -1 to 1
MAX_PSNR_DB = 100.0


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference per image: (N,), from 0 to 2."""
    return (a - b).abs().mean(dim=(1, 2, 3))


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference per image: (N,), from 0 to 4."""
    return (a - b).square().mean(dim=(1, 2, 3))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio per image in dB: (N,), 10 log10(range^2 / mse) with the range 2 of [-1, 1].

    Capped at 100 dB, so that equal images have a finite score that can be averaged.
    """
    smallest = DATA_RANGE**2 * 10 ** (-MAX_PSNR_DB / 10)
    return 10 * torch.log10(DATA_RANGE**2 / l2(a, b).clamp_min(smallest))
