"""The wavelets against their definition, resampling against explicit sums, bands against their responses."""

import math

import numpy as np
import pytest
import torch

from wplus.training.augment import filters
from wplus.training.augment.filters import (
    DELAY,
    SYM2,
    SYM6,
    band_filters,
    band_matrices,
    downsample2,
    sample_positions,
    upsample2,
)


def daubechies(moments: int, choices: tuple[int, ...]) -> np.ndarray:
    """The orthonormal filter with this many vanishing moments; `choices` takes a root, or its inverse, of each pair.

    Spectral factorisation of Daubechies' polynomial P(y), y = (2 - z - 1/z) / 4.
    """
    polynomial = [math.comb(moments - 1 + k, k) for k in range(moments)]
    roots: list[complex] = [-1.0] * moments
    upper = [y for y in np.roots(polynomial[::-1]) if y.imag > -1e-9]
    for y, choice in zip(upper, choices, strict=True):
        inside, outside = sorted(np.roots([1, -(2 - 4 * y), 1]), key=abs)
        root = outside if choice else inside
        roots += [root, root.conjugate()] if abs(y.imag) > 1e-9 else [root]
    taps = np.poly(roots).real
    return taps * math.sqrt(2) / taps.sum()


def test_sym6_is_the_least_asymmetric_filter_of_six_moments():
    all_choices = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    frequencies = np.linspace(0.01, 0.9 * np.pi, 200)

    def asymmetry(taps: np.ndarray) -> float:
        delay = (np.arange(12) * taps).sum() / taps.sum()
        response = np.exp(-1j * np.outer(frequencies, np.arange(12) - delay)) @ taps
        return np.abs(np.angle(response)).max()

    least = sorted((daubechies(6, choice) for choice in all_choices), key=asymmetry)[:2]  # the filter and its mirror
    assert min(np.abs(taps - np.array(SYM6)).max() for taps in least) < 1e-9


def test_sym2_is_the_filter_of_two_moments():
    (taps,) = (daubechies(2, (choice,)) for choice in (1,))
    assert min(np.abs(taps - SYM2).max(), np.abs(taps[::-1] - SYM2).max()) < 1e-12


def test_upsampling_is_zero_insertion_and_a_filter():
    line = np.random.default_rng(0).normal(size=16)
    reflected = np.pad(line, 30, mode="reflect")
    spread = np.zeros(2 * len(reflected))
    spread[::2] = reflected
    expected = math.sqrt(2) * np.convolve(spread, SYM6)[60 : 60 + 2 * 16 + 10]
    rows = torch.from_numpy(line).expand(1, 2, 16, 16)
    found = upsample2(rows)
    assert found.shape == (1, 2, 42, 42)
    np.testing.assert_allclose(found[0, 1, 7], expected, atol=1e-12)
    np.testing.assert_allclose(upsample2(rows.transpose(2, 3))[0, 1, :, 7], expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (32, 32), (12, 20)])
def test_down_after_up_is_the_identity(shape):
    images = torch.randn(2, 3, *shape, dtype=torch.float64)
    torch.testing.assert_close(downsample2(upsample2(images)), images, rtol=0, atol=1e-11)


def test_samples_lie_where_they_are_said_to():
    """A ramp is upsampled to the same ramp: the filter's delay is accounted for."""
    ramp = torch.arange(32.0, dtype=torch.float64).expand(1, 1, 32, 32)
    positions = sample_positions(32, ramp)
    inner = slice(14, -14)  # away from the border, beyond which the ramp turns back
    torch.testing.assert_close(upsample2(ramp)[0, 0, 20, inner], positions[inner], rtol=0, atol=1e-9)
    assert abs(DELAY - 5.0983) < 1e-4


def test_bands_add_up_to_one_and_are_octaves():
    filters = band_filters()
    assert filters.shape == (4, 43)
    np.testing.assert_allclose(filters, filters[:, ::-1], atol=1e-15)  # zero phase
    np.testing.assert_allclose(filters.sum(axis=0), np.eye(43)[21], atol=1e-15)
    frequencies = np.linspace(0, np.pi, 50)
    # |H|^2 / 2 of two vanishing moments, at one, two and four times the frequency
    low = [np.cos(f / 2) ** 4 * (1 + 2 * np.sin(f / 2) ** 2) for f in (frequencies, 2 * frequencies, 4 * frequencies)]
    expected = [low[0] * low[1] * low[2], low[0] * low[1] * (1 - low[2]), low[0] * (1 - low[1]), 1 - low[0]]
    np.testing.assert_allclose(filters @ np.cos(np.outer(np.arange(43) - 21, frequencies)), expected, atol=1e-12)
    np.testing.assert_allclose(filters.sum(axis=1), [1, 0, 0, 0], atol=1e-14)  # the mean passes in the lowest


def test_matrices_of_bands_add_up_to_the_identity_on_any_size():
    for size in (8, 30):
        matrices = band_matrices(size, torch.float64, torch.device("cpu"))
        torch.testing.assert_close(matrices.sum(dim=0), torch.eye(size, dtype=torch.float64))


def test_small_convolutions_do_what_the_matrices_do(monkeypatch):
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    fine = upsample2(images)
    monkeypatch.setattr(filters, "MATRIX_PX", 0)
    torch.testing.assert_close(upsample2(images), fine)
    torch.testing.assert_close(downsample2(fine), images, rtol=0, atol=1e-11)
