"""Lines and great circles against closed forms and an independent formula in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats, integers

from wplus.latents import interpolation as geometry


def slow_slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """The formula with sines, one pair of vectors at a time."""
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    unit_a, unit_b = a / length_a, b / length_b
    angle = math.acos(float(unit_a @ unit_b))
    direction = (math.sin((1 - t) * angle) * unit_a + math.sin(t * angle) * unit_b) / math.sin(angle)
    return direction * ((1 - t) * length_a + t * length_b)


@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_slerp_equals_the_formula_with_sines_row_by_row(shape: tuple[int, ...]) -> None:
    a, b = torch.randn(4, *shape, dtype=torch.float64), torch.randn(4, *shape, dtype=torch.float64)
    t = torch.tensor([0.1, 0.35, 0.5, 0.9], dtype=torch.float64)
    result = geometry.slerp(a, b, t).reshape(4, -1, shape[-1]).numpy()
    rows_a, rows_b = a.reshape(4, -1, shape[-1]).numpy(), b.reshape(4, -1, shape[-1]).numpy()
    for sample in range(4):
        for row in range(rows_a.shape[1]):
            expected = slow_slerp(rows_a[sample, row], rows_b[sample, row], float(t[sample]))
            np.testing.assert_allclose(result[sample, row], expected, rtol=1e-12)


def test_quarter_circle_and_length() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    halfway = geometry.slerp(a, b, torch.tensor([0.5]))
    torch.testing.assert_close(halfway, torch.full((1, 2), 3 / math.sqrt(2)))


@given(seed=integers(0, 2**32), dim=integers(2, 40), t=floats(0, 1), scale=floats(1e-3, 1e3))
def test_slerp_of_any_vectors(seed: int, dim: int, t: float, scale: float) -> None:
    """Reversible; lengths are interpolated linearly; the angle from `a` is the share t of the whole."""
    rng, at = torch.Generator().manual_seed(seed), torch.tensor([t], dtype=torch.float64)
    a, b = (torch.randn(1, dim, generator=rng, dtype=torch.float64) for _ in range(2))
    b = b * scale
    point = geometry.slerp(a, b, at)
    torch.testing.assert_close(point, geometry.slerp(b, a, 1 - at), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(point.norm(), (1 - t) * a.norm() + t * b.norm())
    cosines = torch.cosine_similarity(a, torch.cat([point, b])).clamp(-1, 1)
    part, whole = torch.acos(cosines).tolist()
    assert part == pytest.approx(t * whole, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("curve", [geometry.lerp, geometry.slerp])
def test_ends_are_exact_bit_for_bit(curve: object, dtype: torch.dtype) -> None:
    a, b = torch.randn(200, 3, 33, dtype=dtype) * 1e3, torch.randn(200, 3, 33, dtype=dtype) * 1e-3
    assert torch.equal(curve(a, b, torch.zeros(200)), a)
    assert torch.equal(curve(a, b, torch.ones(200)), b)


@pytest.mark.parametrize("curve", [geometry.lerp, geometry.slerp])
def test_equal_ends_give_a_constant(curve: object) -> None:
    a = torch.randn(1, 64)
    torch.testing.assert_close(curve(a, a, torch.linspace(0, 1, 9)), a.expand(9, -1), rtol=1e-6, atol=0)


def test_vectors_without_an_angle_give_the_straight_line() -> None:
    a, t = torch.nn.functional.normalize(torch.randn(1, 16, dtype=torch.float64), dim=1), torch.linspace(0, 1, 7)
    near = torch.nn.functional.normalize(a + 1e-5 * torch.randn(1, 16, dtype=torch.float64), dim=1)
    for start, end in ((a, 5 * a), (a, near), (0 * a, a), (a, 0 * a), (0 * a, 0 * a)):
        torch.testing.assert_close(geometry.slerp(start, end, t), geometry.lerp(start, end, t), atol=1e-9, rtol=0)


def test_antipodal_vectors_take_a_half_circle_of_constant_speed() -> None:
    a, t = torch.nn.functional.normalize(torch.randn(1, 16, dtype=torch.float64), dim=1), torch.linspace(0, 1, 9)
    path = geometry.slerp(a, -a, t)
    torch.testing.assert_close(path.norm(dim=1), torch.ones(9, dtype=torch.float64))
    angles = torch.acos((path @ a[0]).clamp(-1, 1))
    torch.testing.assert_close(angles, torch.linspace(0, math.pi, 9, dtype=torch.float64))


def test_small_steps_keep_their_length_in_float32() -> None:
    """PPL's step: 1e-4 of the way between unit vectors must survive in float32, not drown in rounding noise."""
    a, b = (torch.nn.functional.normalize(torch.randn(64, 512), dim=1) for _ in range(2))
    angle = torch.acos((a.double() * b.double()).sum(dim=1))
    halfway = torch.full((64,), 0.5, dtype=torch.float64)
    step = geometry.slerp(a, b, halfway + 1e-4) - geometry.slerp(a, b, halfway)
    torch.testing.assert_close(step.double().norm(dim=1), 1e-4 * angle, rtol=1e-3, atol=0)
