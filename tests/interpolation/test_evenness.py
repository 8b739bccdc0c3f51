from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from wplus.interpolation.evenness import NeighbourDistances, evenness, gini, mean_evenness, plot_distances


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 13])
def test_known_steps_whatever_the_batch(perceptual: object, flat_pictures: object, batch_size: int) -> None:
    levels = torch.tensor([0.0, 0.1, 0.3, 0.6, 1.0, 0.9, 0.7, 0.4, 0.0])
    distances = NeighbourDistances(perceptual, steps_per_transition=4)
    for part in flat_pictures(levels).split(batch_size):
        distances.add(part)
    expected = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(distances.steps, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(distances.chords, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


def test_each_frame_passes_through_the_net_once(perceptual: object, flat_pictures: object) -> None:
    seen, features = [], perceptual.features
    perceptual.features = lambda images: (seen.append(len(images)), features(images))[1]
    distances = NeighbourDistances(perceptual, steps_per_transition=8)
    for part in flat_pictures(torch.linspace(0, 1, 9)).split(4):
        distances.add(part)
    assert sum(seen) == 9


def test_numbers_of_an_even_path() -> None:
    values = evenness(torch.full((10,), 0.04), chord=4.0)
    expected = {"step_cv": 0, "step_smoothness": 1, "step_jump_ratio": 1, "path_length": 2, "tortuosity": 1}
    assert values == pytest.approx(expected, abs=1e-6)


def test_numbers_of_one_jump() -> None:
    """All change in one step of n: CV sqrt(n - 1), Gini 1 - 1/n, jump ratio n."""
    steps = torch.zeros(10)
    steps[3] = 0.25
    values = evenness(steps, chord=0.25)
    assert values == pytest.approx(
        {"step_cv": 3, "step_smoothness": 0.1, "step_jump_ratio": 10, "path_length": 0.5, "tortuosity": 1}, abs=1e-6
    )


def test_gini_against_its_definition_by_pairs() -> None:
    values = torch.rand(17, dtype=torch.float64)
    pairs = (values[:, None] - values[None, :]).abs().sum() / (2 * 17**2 * values.mean())
    assert gini(values) == pytest.approx(float(pairs), rel=1e-12)


def test_a_detour_has_the_tortuosity_of_its_lengths() -> None:
    """Along the legs of a right triangle instead of its hypotenuse; distances are squares of lengths."""
    assert evenness(torch.tensor([9.0, 16.0]), chord=25.0)["tortuosity"] == pytest.approx(7 / 5)


@pytest.mark.parametrize("num_steps", [1, 10, 1000])
def test_length_and_tortuosity_do_not_depend_on_the_number_of_frames(num_steps: int) -> None:
    """A half circle of radius 1, walked in chords: length near pi, over a diameter of 2."""
    angles = torch.linspace(0, torch.pi, num_steps + 1, dtype=torch.float64)
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    values = evenness(points.diff(dim=0).square().sum(dim=1), chord=4.0)
    expected = 2 if num_steps == 1 else torch.pi
    assert (values["path_length"], values["tortuosity"]) == pytest.approx((expected, expected / 2), rel=5e-3)


def test_equal_ends_have_no_tortuosity_and_nothing_is_infinite() -> None:
    assert "tortuosity" not in evenness(torch.ones(4), chord=0.0)
    still = evenness(torch.zeros(4), chord=0.0)
    assert still == {"step_cv": 0.0, "step_smoothness": 1.0, "step_jump_ratio": 1.0, "path_length": 0.0}


def test_mean_over_transitions_keeps_what_all_have() -> None:
    steps = torch.tensor([[1.0, 1.0], [0.0, 4.0]])
    assert mean_evenness(steps, torch.tensor([4.0, 1.0])) == pytest.approx(
        {"step_cv": 0.5, "step_smoothness": 0.75, "step_jump_ratio": 1.5, "path_length": 2, "tortuosity": 1.5}
    )
    assert "tortuosity" not in mean_evenness(steps, torch.tensor([4.0, 0.0]))


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    path = plot_distances(tmp_path / "distances.png", torch.rand(2, 30), title="a to b", distance_name="mean_colour")
    with Image.open(path) as image:
        assert image.size == (960, 384)
