"""Image operations of the augmentation pipeline (warp, recolor, band filtering, cutout) and matrices for the first two.

All take images (N, C, H, W) and are twice differentiable: the second arguments of convolutions and `grid_sample` are
constant, so PyTorch's derivatives of every order are cheap.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.training.augment.filters import DELAY, MARGIN, band_matrices, downsample2, sample_positions, upsample2


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Move the pixels by `matrices` G (N, 3, 3): the value at x moves to G x.

    The images are upsampled by two, sampled bilinearly at G^-1 x and downsampled by two, with a wavelet for which up-
    and downsampling together are the identity (ADA, appendix B). Beyond the border the image is reflected as often as
    necessary, so no margin has to be computed.
    """
    grid = _lookup(matrices.to(images.dtype), *images.shape[2:])
    return downsample2(F.grid_sample(upsample2(images), grid, mode="bilinear", align_corners=True))


@torch.no_grad()
def _lookup(matrices: Tensor, height: int, width: int) -> Tensor:
    """Return the sampling grid (N, 2H + 10, 2W + 10, 2) in the upsampled image, whose ends are at -1 and 1."""
    x = sample_positions(width, matrices) - (width - 1) / 2
    y = sample_positions(height, matrices) - (height - 1) / 2
    inverse = torch.linalg.inv_ex(matrices)[0]  # unlike inv it does not synchronise
    axes = []
    for row, size in ((0, width), (1, height)):
        a, b, c = inverse[:, row, :, None, None].unbind(dim=1)
        pixel = _reflected(a * x + (b * y[:, None] + (c + (size - 1) / 2)), size)
        axes.append((2 * pixel + DELAY) * (2 / (len(x if row == 0 else y) - 1)) - 1)
    return torch.stack(axes, dim=3)


def _reflected(pixel: Tensor, size: int) -> Tensor:
    """Fold coordinates beyond the upsampled samples (by more than rounding errors) back into 0..size-1."""
    last = size - 1
    folded = last - (pixel.abs() % (2 * last) - last).abs()
    is_beyond = (pixel < -DELAY / 2 - 1e-3) | (pixel > last + MARGIN - DELAY / 2 + 1e-3)
    return torch.where(is_beyond, folded, pixel)


def recolor(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply color `matrices` (N, 4, 4) to RGB images; grey images are treated as (y, y, y) and averaged afterwards."""
    num, channels, height, width = images.shape
    matrices = matrices[:, :3].to(images.dtype)
    if channels == 1:
        matrices = matrices.mean(dim=1, keepdim=True)
        matrices = torch.cat([matrices[:, :, :3].sum(dim=2, keepdim=True), matrices[:, :, 3:]], dim=2)
    pixels = torch.baddbmm(matrices[:, :, -1:], matrices[:, :, :-1], images.reshape(num, channels, -1))
    return pixels.view(num, channels, height, width)


def filter_bands(images: Tensor, gains: Tensor) -> Tensor:
    """Scale the four frequency bands, low to high, by `gains` (N, 4), along both axes."""
    kernels = [
        torch.einsum("nb,bij->nij", gains.to(images.dtype), band_matrices(size, images.dtype, images.device))
        for size in images.shape[2:]
    ]
    return kernels[0].unsqueeze(1) @ images @ kernels[1].unsqueeze(1).transpose(2, 3)


def cut_out(images: Tensor, windows: Tensor) -> Tensor:
    """Set a rectangle to 0 (mid grey). `windows` (N, 3): centre (x, y) and size, as fractions of the image size."""
    outside = []
    for axis, centre in ((3, windows[:, 0]), (2, windows[:, 1])):
        size = images.shape[axis]
        position = (torch.arange(size, device=images.device) + 0.5) / size
        outside.append((position - centre[:, None]).abs() >= windows[:, 2:] / 2)  # (N, size)
    keep = outside[0][:, None, None, :] | outside[1][:, None, :, None]
    return images * keep.to(images.dtype)


# --- matrices for a batch of parameters (N,) ------------------------------------------------------------------------

# Geometric matrices are (N, 3, 3) in homogeneous coordinates (x, y, 1), in pixels from the centre of the image, x to
# the right and y down. Color matrices are (N, 4, 4) on (r, g, b, 1) in [-1, 1]; luma is the direction (1, 1, 1).


def identity_matrices(num: int, size: int, device: torch.device) -> Tensor:
    """Return a batch of identity matrices (num, size, size)."""
    return torch.eye(size, device=device).repeat(num, 1, 1)


def translation(*offsets: Tensor) -> Tensor:
    """Translation by one offset per axis; (N, axes + 1, axes + 1)."""
    matrix = identity_matrices(len(offsets[0]), len(offsets) + 1, offsets[0].device)
    matrix[:, :-1, -1] = torch.stack(offsets, dim=1)
    return matrix


def scaling(*factors: Tensor) -> Tensor:
    """Scaling by one factor per axis; (N, axes + 1, axes + 1)."""
    return torch.diag_embed(torch.stack([*factors, torch.ones_like(factors[0])], dim=1))


def stretching(exponent: Tensor) -> Tensor:
    """Scaling of x by 2^e and y by 2^-e; (N, 3, 3)."""
    return scaling(exponent.exp2(), (-exponent).exp2())


def rotation(angle: Tensor) -> Tensor:
    """Rotation of x towards y by an angle in radians; (N, 3, 3)."""
    matrix = identity_matrices(len(angle), 3, angle.device)
    cos, sin = angle.cos(), angle.sin()
    matrix[:, :2, :2] = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))
    return matrix


def quarter_turns(num: Tensor) -> Tensor:
    """Exact rotation by `num` (integers, N) times 90 degrees; (N, 3, 3)."""
    matrix, turns = identity_matrices(len(num), 3, num.device), num % 4
    cos, sin = (turns - 2).abs() - 1, 1 - (turns - 1).abs()  # 1, 0, -1, 0 and 0, 1, 0, -1 without a lookup table
    matrix[:, :2, :2] = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))
    return matrix


def _on_colors(matrix: Tensor) -> Tensor:
    """Extend a matrix (N, 3, 3) on (r, g, b) to (N, 4, 4)."""
    whole = identity_matrices(len(matrix), 4, matrix.device)
    whole[:, :3, :3] = matrix
    return whole


def luma_flip(flips: Tensor) -> Tensor:
    """I - 2 v v^T where `flips` (N,) is 1, else the identity: inverts lightness and preserves hue."""
    luma = torch.full((3, 3), 1 / 3, device=flips.device)  # v v^T with v = (1, 1, 1) / sqrt(3)
    return _on_colors(torch.eye(3, device=flips.device) - 2 * flips[:, None, None] * luma)


def hue_rotation(angle: Tensor) -> Tensor:
    """Rotation of colors around the luma axis by an angle in radians (Rodrigues' formula)."""
    eye, luma = torch.eye(3, device=angle.device), torch.full((3, 3), 1 / 3, device=angle.device)
    cross = (eye.roll(1, dims=0) - eye.roll(-1, dims=0)) / 3**0.5  # x -> v x x
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return _on_colors(cos * eye + sin * cross + (1 - cos) * luma)


def saturation(factor: Tensor) -> Tensor:
    """v v^T + s (I - v v^T): scales distances from the luma axis by s."""
    eye, luma = torch.eye(3, device=factor.device), torch.full((3, 3), 1 / 3, device=factor.device)
    return _on_colors(luma + factor[:, None, None] * (eye - luma))
