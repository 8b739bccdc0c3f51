from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.labelled import image_set
from wplus.errors import UserError
from wplus.pretrained.attributes import binary_attributes, class_indices, contrasts, known_factors, mean_pictures


def test_scales_and_constants_are_no_factors() -> None:
    assert list(known_factors(image_set(50))) == ["corner", "ground"]
    assert list(known_factors(image_set(50), ["ground"])) == ["ground"]


def test_labels_are_a_factor_where_there_are_no_attributes() -> None:
    labels = torch.eye(3)[torch.arange(6) % 3]
    images = image_set(6, attributes=None, labels=labels, label_names=["cat", "dog", "owl"])
    assert known_factors(images)["label"].tolist() == ["cat", "dog", "owl"] * 2


@pytest.mark.parametrize(
    ("changes", "factors", "word"),
    [({}, ["tail"], "no attribute 'tail'; they have corner, ground"), ({}, ["same"], r"'same' has 1 value\(s\)"),
     ({}, ["number"], r"'number' has 30 value\(s\)"), ({"attributes": None}, None, "neither labels nor attributes"),
     ({"attributes": None, "labels": torch.ones(30, 2)}, None, "neither labels nor attributes"),
     ({"attributes": None, "labels": torch.tensor([[1, 0.5]] * 30)}, None, "neither labels nor attributes")],
)  # fmt: skip
def test_nothing_to_learn_is_refused(changes: dict[str, Any], factors: Any, word: str) -> None:
    with pytest.raises(UserError, match=word):
        known_factors(image_set(30, **changes), factors)


def test_values_become_positions() -> None:
    assert class_indices(np.array(["b", "z", "a"]), ["a", "b"]).tolist() == [1, -1, 0]


# Binary attributes


def attributes_of(images: Any, **options: Any) -> dict[str, tuple[str, list[str]]]:
    values = known_factors(images)
    classes = {factor: [str(value) for value in np.unique(column)] for factor, column in values.items()}
    return binary_attributes(images, values, classes, **({"min_share": 0.2, "num_contrasts": 3} | options))


def test_frequent_classes_are_attributes_and_of_two_the_second() -> None:
    corners = {f"corner={index}": ("corner", [str(index)]) for index in range(4)}
    assert attributes_of(image_set(400), min_share=0.15) == {**corners, "ground=1": ("ground", ["1"])}


def test_a_factor_of_rare_classes_is_cut_into_halves() -> None:
    found = attributes_of(image_set(400), min_share=0.3)
    assert {"corner_contrast1", "corner_contrast2", "ground=1"} <= set(found)
    halves = {tuple(group) for name, (_, group) in found.items() if name.startswith("corner")}
    assert halves <= {("0", "1"), ("0", "2"), ("0", "3")}  # the three ways to pair four alike corners
    assert len(halves) == len(found) - 1
    assert len(attributes_of(image_set(400), min_share=0.3, num_contrasts=1)) == 2


def test_nothing_frequent_and_no_contrasts_is_refused() -> None:
    with pytest.raises(UserError, match="min_share=0.499"):
        attributes_of(image_set(11), min_share=0.499, num_contrasts=0)


def test_contrasts_follow_the_directions_of_largest_spread() -> None:
    """Brightness spreads most, then the second pixel; the cut balances the images, not the classes."""
    means = np.array([[0.0, 0.0], [1.0, 3.0], [10.0, 0.0], [11.0, 3.0]])
    even = np.full(4, 0.25)
    assert contrasts(means, even, 3) == [[0, 1], [0, 2]]
    assert contrasts(means, even, 1) == [[0, 1]]
    assert contrasts(means, np.array([0.5, 0.2, 0.2, 0.1]), 1) == [[0]]
    assert contrasts(-means, even, 2) == [[0, 1], [0, 2]]


def test_mean_pictures_are_those_of_the_classes() -> None:
    images = image_set(60)
    targets = images.attributes["ground"]
    expected = [images.images[targets == ground].double().mean(dim=0).flatten().numpy() for ground in (0, 1)]
    np.testing.assert_allclose(mean_pictures(images, targets, 2), expected)
    small = mean_pictures(images, targets, 2, max_px=4)
    assert small.shape == (2, 48)
    np.testing.assert_allclose(small.mean(axis=1), np.mean(expected, axis=1))
