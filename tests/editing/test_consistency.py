from __future__ import annotations

import math

import pytest
import torch

from wplus.checkpoint import Models
from wplus.core.stats import bootstrap_interval, kept_mean
from wplus.editing.consistency import consistency, errors, prior_deviation

NUM = 150


def edits() -> dict[str, torch.Tensor]:
    return {"up": torch.ones(3, 4), "one": torch.eye(3, 4) * 2}


def values(measurements: object) -> dict[str, float]:
    return {measurement.name: measurement.value for measurement in measurements}


def test_an_exact_inverter_comes_back(exact: Models) -> None:
    found = values(consistency(exact, torch.randn(NUM, 3, 4), invert=exact.generator.inverse, edits=edits()))
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5)
    assert len(found) == 8


def test_a_constant_error_is_its_norm(exact: Models) -> None:
    """An inverter that misses by c: w, w + f, w + f + c, w + c; the norm of c whatever the edit."""
    c = torch.randn(3, 4)
    found = values(
        consistency(exact, torch.randn(NUM, 3, 4), invert=lambda x: exact.generator.inverse(x) + c, edits=edits())
    )
    norm = float(c.norm())
    assert [found[name] for name in ("lec_up", "lec_up_all", "lec_one")] == pytest.approx([norm] * 3, rel=1e-5)
    assert found["lec_up_per_edit"] == pytest.approx(norm / 12**0.5, rel=1e-5)
    assert found["lec_one_per_edit"] == pytest.approx(norm / 12**0.5, rel=1e-5)  # 2 on three of twelve places


def test_an_inverter_that_ignores_the_picture_loses_the_whole_edit(exact: Models) -> None:
    ws = torch.randn(NUM, 3, 4)
    found = values(consistency(exact, ws, invert=lambda _: ws, edits=edits(), batch_size=NUM))
    assert found["lec_up"] == pytest.approx(12**0.5)
    assert found["lec_up_per_edit"] == pytest.approx(1)


def test_the_prior_deviation_of_twice_a_normal(exact: Models) -> None:
    assert prior_deviation(exact.generator) == pytest.approx(2 * 4**0.5, rel=0.02)
    c = torch.full((3, 4), 0.5)
    found = values(
        consistency(exact, torch.randn(NUM, 3, 4), invert=lambda x: exact.generator.inverse(x) + c, edits=edits())
    )
    # In all three layers: the deviation is sqrt(3) times that of w.
    expected = 0.5 * 12**0.5 / (3**0.5 * prior_deviation(exact.generator))
    assert found["lec_up_per_std"] == pytest.approx(expected, rel=1e-5)


def test_percentiles_and_intervals_are_over_images(exact: Models) -> None:
    sizes = torch.linspace(0, 1, NUM).square()
    sizes[3] = 1000.0  # one inversion went astray
    calls = []

    def invert(images: torch.Tensor) -> torch.Tensor:
        part = sizes[len(calls) * 40 : len(calls) * 40 + len(images)]
        calls.append(len(images))
        return exact.generator.inverse(images) + part[:, None, None]

    ws = torch.randn(NUM, 3, 4)
    measured = {m.name: m for m in consistency(exact, ws, invert=invert, edits={"up": edits()["up"]}, batch_size=40)}
    assert calls == [40, 40, 40, 30]
    norms = sizes.double().numpy() * math.sqrt(12)
    assert measured["lec_up"].value == pytest.approx(float(kept_mean(norms)), rel=1e-4)
    assert measured["lec_up_all"].value == pytest.approx(norms.mean(), rel=1e-4)
    assert measured["lec_up"].value < 2 < measured["lec_up_all"].value
    assert measured["lec_up"].interval == pytest.approx(bootstrap_interval(norms, kept_mean, seed=0), rel=1e-4)
    assert measured["lec_up"].protocol["num_images"] == NUM


def test_an_inverter_may_optimise(exact: Models) -> None:
    def invert(images: torch.Tensor) -> torch.Tensor:
        codes = torch.zeros(len(images), 3, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad((exact.generator.synthesis(codes) - images).square().sum() / 2, codes)
        return codes - gradient

    found = errors(exact.generator, torch.randn(5, 3, 4), invert=invert, shift=edits()["up"], batch_size=2)
    torch.testing.assert_close(found, torch.zeros(5).double(), rtol=0, atol=1e-5)
    assert not found.requires_grad


def test_no_edit_is_the_second_inversion_alone(exact: Models) -> None:
    shift = {"no_edit": torch.zeros(3, 4)}
    c = torch.full((3, 4), 0.5)
    found = values(consistency(exact, torch.randn(9, 3, 4), invert=lambda x: x[:, 0] + c, edits=shift))
    assert list(found) == ["lec_no_edit", "lec_no_edit_all", "lec_no_edit_per_std"]
    assert found["lec_no_edit"] == pytest.approx(0.5 * 12**0.5, rel=1e-5)


def test_one_image_has_no_interval(exact: Models) -> None:
    (first, *_) = consistency(exact, torch.randn(1, 3, 4), invert=exact.generator.inverse, edits=edits())
    assert first.interval is None
