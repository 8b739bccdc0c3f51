"""What edits achieve and preserve: closed forms, and a classifier of planted factors."""

import numpy as np
import pytest
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.editing.directions import Direction
from wplus.editing.factor_edits import Outcome, check_named, factor_edits, factor_outcomes, outcome, score_table
from wplus.errors import UserError
from wplus.latents.latent import Latent
from wplus.latents.weight_delta import WeightDelta, code_digest

NAN = float("nan")


def test_the_first_strength_that_achieves_is_judged() -> None:
    """Four images: one at the second strength, one at the first, one never, and one that has it already."""
    before = {"fur": np.array([0, 0, 0, 1]), "eyes": np.array([5, 5, 5, 5]), "mouth": np.array([1, 1, 1, 1])}
    steps = [
        {"fur": np.array([0, 1, 2, 1]), "eyes": np.array([6, 6, 5, 5]), "mouth": np.array([1, 2, 1, 1])},
        {"fur": np.array([1, 1, 2, 1]), "eyes": np.array([5, 5, 5, 5]), "mouth": np.array([2, 1, 1, 1])},
    ]
    found = outcome("fur=1", before, steps, [1.0, 2.0])
    assert found.asked.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(found.strength, [2, 1, NAN, NAN])
    np.testing.assert_array_equal(found.kept, [0.5, 0.0, NAN, NAN])  # eyes kept; neither
    np.testing.assert_array_equal(found.scores, [0.5, 0.0, 0.0, NAN])


class Planted(torch.nn.Module):
    """Two factors of `ExactGenerator`'s images: the signs of the first and of the last number."""

    name, classes = "planted", {"first": ["low", "high"], "last": ["low", "high"]}
    protocol = {"classifier": "planted", "classifier_fingerprint": "p", "attributes": {}}

    def predicted(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0], images[:, 0, 2, 3]], dim=1).gt(127).long()


@pytest.fixture
def directions() -> list[Direction]:
    """One direction moves only the first number, one moves both."""
    alone, both = torch.zeros(3, 4), torch.zeros(3, 4)
    alone[0, 0] = both[0, 0] = both[2, 3] = 1
    shared = {"layers": (0, 1, 2), "num_ws": 3, "unit": 0.1, "origin": 0.0, "notes": {"attribute": "first=high"}}
    return [Direction("alone", alone, **shared), Direction("both", both / 2**0.5, **shared)]


def test_edits_that_change_one_factor_alone_keep_the_others(exact: Models, directions: list[Direction]) -> None:
    """Numbers at -0.25 cross the boundary from 3 units of 0.1 on; both at once from 0.25 / (0.1 / sqrt 2) = 3.5."""
    latents = [Latent(torch.full((3, 4), value), "w+", exact.fingerprint) for value in (-0.25, -0.25, 0.25, -0.9)]
    shared = {"classifier": Planted(), "strengths": [4, 2, 3]}
    found = factor_outcomes(exact, latents, directions=directions, **shared)
    np.testing.assert_array_equal(found["alone"].strength, [3, 3, NAN, NAN])
    np.testing.assert_array_equal(found["both"].strength, [4, 4, NAN, NAN])
    numbers = {each.name: each for each in factor_edits(exact, found, **shared)}
    expected = {"achieved_alone": 2 / 3, "kept_alone": 1, "editable_alone": 2 / 3, "achieved_both": 2 / 3,
                "kept_both": 0, "editable_both": 0, "editable": 1 / 3}  # fmt: skip
    assert {name: each.value for name, each in numbers.items()} == pytest.approx(expected)
    assert all(each.interval is not None for each in numbers.values())
    assert numbers["editable"].protocol["num_images"] == 3
    table = score_table(found, ["a", "b", "c", "d"], {})
    assert table.rows["a"] == {"editable_alone": 1.0, "editable_both": 0.0, "editable": 0.5}
    assert table.rows["c"] == {}


def test_a_direction_must_be_named_by_a_factor(exact: Models, directions: list[Direction]) -> None:
    for name in ("pca0", "first", "other=high"):
        direction = Direction(name, directions[0].vector, (0,), 3, unit=1.0, origin=0.0)
        with pytest.raises(UserError, match=rf"names \(first, last\), such as first=VALUE, got '{name}'"):
            check_named([direction], Planted())
    with pytest.raises(UserError, match="factor_strengths must be a number of at least 1e-06, got 0"):
        factor_outcomes(exact, [], directions=directions, classifier=Planted(), strengths=[0, 1])


class Bright(torch.nn.Module):
    """Classifies whether an image is brighter than grey, and a factor with a single value."""

    name, classes = "bright", {"light": ["no", "yes"], "size": ["all"]}
    protocol = {"classifier": "bright", "classifier_fingerprint": "b", "attributes": {}}

    def predicted(self, images: Tensor) -> Tensor:
        light = images.float().mean(dim=(1, 2, 3)).gt(127).long()
        return torch.stack([light, torch.zeros_like(light)], dim=1)


def test_tuned_latents_are_judged_in_their_own_generator(models: Models) -> None:
    """One latent, bright and dark only by its weight deltas: only the dark one lacks light."""
    latent = Latent(torch.randn(8), "w", models.fingerprint)
    deltas = [
        WeightDelta({"synthesis.b16.torgb.bias": (torch.full((3,), amount),)}, models.fingerprint,
                    code_digest(latent.code))
        for amount in (5.0, -5.0, 5.0)
    ]  # fmt: skip
    layers = tuple(range(models.generator.num_ws))
    direction = Direction("light=yes", torch.eye(8)[0], layers, len(layers), unit=1e-6, origin=0.0)
    shared = {"directions": [direction], "classifier": Bright(), "strengths": [1]}
    found = factor_outcomes(models, [latent] * 3, deltas=deltas, **shared)["light=yes"]
    assert found.asked.tolist() == [False, True, False]


def test_nothing_is_said_of_an_attribute_that_all_have(exact: Models) -> None:
    outcomes = {"first=high": Outcome(np.array([False]), np.array([NAN]), np.array([NAN]))}
    assert list(factor_edits(exact, outcomes, classifier=Planted(), strengths=[1])) == []
