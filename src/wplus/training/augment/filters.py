"""Wavelet filters of the augmentation pipeline: resampling by two (sym6) and frequency bands (sym2).

Both are orthonormal, so that upsampling followed by downsampling is the identity, and the bands sum to the identity.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.models.ops import constant

# Daubechies' least asymmetric wavelet with six vanishing moments ("Ten Lectures on Wavelets", 1992, table 6.3).
SYM6 = (
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
)  # fmt: skip
SYM2 = tuple(x / (4 * math.sqrt(2)) for x in (1 - 3**0.5, 3 - 3**0.5, 3 + 3**0.5, 1 + 3**0.5))
NUM_BANDS = 4  # [0, pi/8], [pi/8, pi/4], [pi/4, pi/2], [pi/2, pi]

DELAY = sum(n * tap for n, tap in enumerate(SYM6)) / sum(SYM6)  # delay of the filter for a slow signal, in samples: 5.1
MARGIN = (len(SYM6) - 1) / 2  # pixels, both sides together, by which the upsampled samples exceed the image
MATRIX_PX = 256  # up to this size matrix products beat small convolutions, tenfold at 32 px on a CPU
_PAD = len(SYM6) // 2 - 1  # padding in pixels that the kept samples need


def upsample2(x: Tensor) -> Tensor:
    """Upsample by two with reflection padding, (N, C, H, W) -> (N, C, 2H + 10, 2W + 10); needs H, W >= 6.

    Sample n lies at pixel (n - DELAY) / 2. The extra samples beyond the image are needed by `downsample2`.
    """
    if max(x.shape[2:]) > MATRIX_PX:
        return _up(_up(x, axis=3), axis=2)
    across, down = (_matrix("up", size, x.dtype, x.device) for size in (x.shape[3], x.shape[2]))
    return down @ (x @ across.t())


def downsample2(x: Tensor) -> Tensor:
    """The inverse of `upsample2`: (N, C, 2H + 10, 2W + 10) -> (N, C, H, W)."""
    if max(x.shape[2:]) > 2 * MATRIX_PX + 2 * _PAD:
        return _down(_down(x, axis=3), axis=2)
    across, down = (_matrix("down", size, x.dtype, x.device) for size in (x.shape[3], x.shape[2]))
    return down @ (x @ across.t())


def sample_positions(size: int, like: Tensor) -> Tensor:
    """Return the positions, in pixels, of the 2 size + 10 upsampled samples of a line of pixels."""
    return (torch.arange(2 * size + 2 * _PAD, dtype=like.dtype, device=like.device) - DELAY) / 2


def _up(x: Tensor, axis: int) -> Tensor:
    channels = x.shape[1]
    padded = F.pad(x, [_PAD, _PAD, 0, 0] if axis == 3 else [0, 0, _PAD, _PAD], mode="reflect")
    phases = F.conv2d(padded, _taps("up", axis, channels, x.dtype, x.device), groups=channels)  # even, odd samples
    return phases.unflatten(1, (channels, 2)).movedim(2, axis + 1).flatten(axis, axis + 1)


def _down(x: Tensor, axis: int) -> Tensor:
    stride = (1, 2) if axis == 3 else (2, 1)
    return F.conv2d(x, _taps("down", axis, x.shape[1], x.dtype, x.device), stride=stride, groups=x.shape[1])


@constant
def _matrix(direction: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the filter as a matrix acting on a line of `size` samples, from its response to each unit vector."""
    with torch.inference_mode(False), torch.no_grad():  # inference tensors cannot be saved for a later backward pass
        alone = torch.eye(size, dtype=torch.float64)[None, None]
        matrix = _up(alone, axis=2) if direction == "up" else _down(alone, axis=2)
        return matrix[0, 0].to(dtype=dtype, device=device)


@constant
def _taps(direction: str, axis: int, channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return kernels (channels, 1, ...) for downsampling; (2 channels, 1, ...) for even and odd upsampled samples."""
    filters, gain = ([SYM6], math.sqrt(0.5)) if direction == "down" else ([SYM6[-2::-2], SYM6[::-2]], math.sqrt(2))
    with torch.inference_mode(False):
        taps = (torch.tensor(filters, dtype=torch.float64)[:, None] * gain).unsqueeze(2 if axis == 3 else 3)
        return taps.repeat(channels, 1, 1, 1).to(dtype=dtype, device=device)


# --- bands ----------------------------------------------------------------------------------------------------------


def band_filters() -> np.ndarray:
    """Return centred impulse responses (4, 43) of the bands, low to high; they sum to a unit impulse.

    With L(z) = H(z) H(1/z) / 2 and its complement 1 - L(z), both zero-phase, the bands are L(z) L(z^2) L(z^4),
    L(z) L(z^2) (1 - L(z^4)), L(z) (1 - L(z^2)) and 1 - L(z): one octave each (ADA, appendix B, "Image-space
    filtering").
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2
    passed, bands = np.ones(1), list[np.ndarray]()
    for octave in range(NUM_BANDS - 1):
        dilated = np.zeros((len(low) - 1) * 2**octave + 1)
        dilated[:: 2**octave] = low
        rest = (np.arange(len(dilated)) == len(dilated) // 2) - dilated
        bands.insert(0, np.convolve(passed, rest))
        passed = np.convolve(passed, dilated)
    bands.insert(0, passed)
    return np.stack([np.pad(band, (len(passed) - len(band)) // 2) for band in bands])


@constant
def band_matrices(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the band filters as matrices (4, size, size) on a line of pixels, with reflection at both ends."""
    filters = band_filters()
    reach = filters.shape[1] // 2
    matrices = np.zeros((NUM_BANDS, size, size))
    for pixel in range(size):
        sources = reflected(np.arange(pixel - reach, pixel + reach + 1), size)
        for band in range(NUM_BANDS):
            np.add.at(matrices[band, pixel], sources, filters[band])
    with torch.inference_mode(False):
        return torch.from_numpy(matrices).to(dtype=dtype, device=device)


def reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Fold arbitrary indices back to 0..size-1 by reflection at the centres of the first and last pixel."""
    folded = np.abs(index) % (2 * (size - 1))
    return np.minimum(folded, 2 * (size - 1) - folded)
