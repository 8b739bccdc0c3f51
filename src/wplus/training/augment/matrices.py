"""The matrices of geometric and colour transforms, for a batch of parameters (N,).

Geometric ones are (N, 3, 3) in homogeneous coordinates (x, y, 1) in pixels from the centre of the image, x to the
right and y down. Colour ones are (N, 4, 4) on (r, g, b, 1) with values in [-1, 1]; luma is the direction (1, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Tensor


def identity(num: int, size: int, device: torch.device) -> Tensor:
    """(num, size, size)."""
    return torch.eye(size, device=device).repeat(num, 1, 1)


def translation(*offsets: Tensor) -> Tensor:
    """Moves by one offset per axis; (N, axes + 1, axes + 1)."""
    matrix = identity(len(offsets[0]), len(offsets) + 1, offsets[0].device)
    matrix[:, :-1, -1] = torch.stack(offsets, dim=1)
    return matrix


def scaling(*factors: Tensor) -> Tensor:
    """Multiplies by one factor per axis; (N, axes + 1, axes + 1)."""
    return torch.diag_embed(torch.stack([*factors, torch.ones_like(factors[0])], dim=1))


def rotation(angle: Tensor) -> Tensor:
    """Turns x towards y by an angle in radians; (N, 3, 3)."""
    matrix = identity(len(angle), 3, angle.device)
    cos, sin = angle.cos(), angle.sin()
    matrix[:, :2, :2] = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))
    return matrix


def quarter_turns(num: Tensor) -> Tensor:
    """Turns by `num` (whole, N) times 90 degrees, without rounding; (N, 3, 3)."""
    matrix, turns = identity(len(num), 3, num.device), num % 4
    cos, sin = (turns - 2).abs() - 1, 1 - (turns - 1).abs()  # 1, 0, -1, 0 and 0, 1, 0, -1: no table to be uploaded
    matrix[:, :2, :2] = torch.stack([cos, -sin, sin, cos], dim=1).unflatten(1, (2, 2))
    return matrix


def _on_colours(matrix: Tensor) -> Tensor:
    """(N, 3, 3) on (r, g, b) as (N, 4, 4)."""
    whole = identity(len(matrix), 4, matrix.device)
    whole[:, :3, :3] = matrix
    return whole


def luma_flip(flips: Tensor) -> Tensor:
    """I - 2 v v^T where `flips` (N,) is 1, the identity where it is 0: light becomes dark, colours keep their hue."""
    luma = torch.full((3, 3), 1 / 3, device=flips.device)  # v v^T with v = (1, 1, 1) / sqrt(3)
    return _on_colours(torch.eye(3, device=flips.device) - 2 * flips[:, None, None] * luma)


def hue_rotation(angle: Tensor) -> Tensor:
    """Turns colours around the luma axis by an angle in radians (Rodrigues' formula)."""
    eye, luma = torch.eye(3, device=angle.device), torch.full((3, 3), 1 / 3, device=angle.device)
    cross = (eye.roll(1, dims=0) - eye.roll(-1, dims=0)) / 3**0.5  # x -> v x x
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    return _on_colours(cos * eye + sin * cross + (1 - cos) * luma)


def saturation(factor: Tensor) -> Tensor:
    """v v^T + s (I - v v^T): distances from the luma axis times s."""
    eye, luma = torch.eye(3, device=factor.device), torch.full((3, 3), 1 / 3, device=factor.device)
    return _on_colours(luma + factor[:, None, None] * (eye - luma))
