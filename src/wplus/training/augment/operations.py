"""What is done to images (N, C, H, W): a resampling, a colour matrix, bands, noise, cutout. Differentiable twice.

The convolutions and `grid_sample` here have constant second arguments, so that PyTorch's own derivatives of every order
are cheap.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.training.augment.filters import DELAY, MARGIN, band_matrices, downsample2, sample_positions, upsample2


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Move the pixels by `matrices` (N, 3, 3): what was at x is then at G x (see wplus.training.augment.matrices).

    Up by two, looked up bilinearly at G^-1 x, down by two, with a wavelet that makes up and down the identity (ADA,
    appendix B). Beyond the border the image is reflected, as often as it takes: no margin has to be computed.
    """
    grid = _lookup(matrices.to(images.dtype), *images.shape[2:])
    return downsample2(F.grid_sample(upsample2(images), grid, mode="bilinear", align_corners=True))


@torch.no_grad()
def _lookup(matrices: Tensor, height: int, width: int) -> Tensor:
    """Where in the upsampled image the upsampled output is found: (N, 2H + 10, 2W + 10, 2), -1 and 1 for its ends."""
    x = sample_positions(width, matrices) - (width - 1) / 2
    y = sample_positions(height, matrices) - (height - 1) / 2
    inverse = torch.linalg.inv_ex(matrices)[0]  # unlike inv it does not wait for the device
    axes = []
    for row, size in ((0, width), (1, height)):
        a, b, c = inverse[:, row, :, None, None].unbind(dim=1)
        pixel = _reflected(a * x + (b * y[:, None] + (c + (size - 1) / 2)), size)
        axes.append((2 * pixel + DELAY) * (2 / (len(x if row == 0 else y) - 1)) - 1)
    return torch.stack(axes, dim=3)


def _reflected(pixel: Tensor, size: int) -> Tensor:
    """Fold coordinates that lie beyond the upsampled samples, by more than rounding, back into 0..size-1."""
    last = size - 1
    folded = last - (pixel.abs() % (2 * last) - last).abs()
    is_beyond = (pixel < -DELAY / 2 - 1e-3) | (pixel > last + MARGIN - DELAY / 2 + 1e-3)
    return torch.where(is_beyond, folded, pixel)


def recolour(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply `matrices` (N, 4, 4) to the colours of 3 channels; of grey images: to (y, y, y), and take the mean."""
    num, channels, height, width = images.shape
    matrices = matrices[:, :3].to(images.dtype)
    if channels == 1:
        matrices = matrices.mean(dim=1, keepdim=True)
        matrices = torch.cat([matrices[:, :, :3].sum(dim=2, keepdim=True), matrices[:, :, 3:]], dim=2)
    pixels = torch.baddbmm(matrices[:, :, -1:], matrices[:, :, :-1], images.reshape(num, channels, -1))
    return pixels.view(num, channels, height, width)


def filter_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Amplify the four bands of frequencies, low to high, by `gains` (N, 4), along either axis."""
    kernels = [
        torch.einsum("nb,bij->nij", gains.to(images.dtype), band_matrices(size, images.dtype, images.device))
        for size in images.shape[2:]
    ]
    return kernels[0].unsqueeze(1) @ images @ kernels[1].unsqueeze(1).transpose(2, 3)


def cut_out(images: Tensor, windows: Tensor) -> Tensor:
    """Set a rectangle to 0, mid grey. `windows` (N, 3): its centre (x, y) and its size, as shares of the image's."""
    outside = []
    for axis, centre in ((3, windows[:, 0]), (2, windows[:, 1])):
        size = images.shape[axis]
        position = (torch.arange(size, device=images.device) + 0.5) / size
        outside.append((position - centre[:, None]).abs() >= windows[:, 2:] / 2)  # (N, size)
    keep = outside[0][:, None, None, :] | outside[1][:, None, :, None]
    return images * keep.to(images.dtype)
