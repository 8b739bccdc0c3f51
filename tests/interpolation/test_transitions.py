from __future__ import annotations

import dataclasses

import pytest
import torch

from wplus.interpolation.curve import Scene
from wplus.interpolation.keypoints import KeyPoints
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.quality.cost import cost
from wplus.interpolation.quality.fidelity import fidelity
from wplus.interpolation.quality.symmetry import symmetry
from wplus.interpolation.transitions import flipped, measure_walks, walk_between, walks_along
from wplus.interpolation.walk import Judges


@pytest.fixture
def scene(generator, perceptual) -> Scene:
    return Scene(generator, perceptual, batch_size=4, num_frames=7)


@pytest.fixture
def points(generator) -> KeyPoints:
    noise = tuple(torch.randn(3, 1, *shape) for shape in generator.synthesis.noise_shapes)
    return KeyPoints(torch.randn(3, generator.num_ws, 8), "w+", ("a", "b", "c"), noise=noise)


def pair(points: KeyPoints, first: int) -> KeyPoints:
    rows = slice(first, first + 2)
    noise = tuple(layer[rows] for layer in points.noise)
    return dataclasses.replace(points, codes=points.codes[rows], names=points.names[rows], noise=noise)


def test_a_walk_shows_its_two_points(generator, points, scene):
    two = pair(points, 0)
    walk = walk_between(two, scene, path=lerp, targets=torch.zeros(2, 3, 16, 16))
    ends = generator.synthesis(two.codes, noise_mode="const", noise=list(two.noise))
    torch.testing.assert_close(walk.images[[0, -1]], ends)
    torch.testing.assert_close(walk.ws[3], two.codes.mean(dim=0))
    torch.testing.assert_close(walk.at(walk.t), walk.images)
    assert walk.name == "a to b"
    assert walk.cost.seconds > 0
    assert walk.middle.tolist() == [3]
    torch.testing.assert_close(walk.features[0], walk.images.mean(dim=(1, 2, 3)))


def test_the_way_back_starts_at_the_second_point(points, scene):
    walk = walk_between(pair(points, 0), scene, path=slerp)
    torch.testing.assert_close(walk.back(walk.t), walk.images.flip(0))
    assert symmetry(walk, Judges(scene.perceptual))["asymmetry"] == pytest.approx(0, abs=1e-6)


def test_transitions_of_a_chain_are_the_pairs(points, scene):
    first, second = walks_along(points, scene, path=slerp)
    for walk, start in ((first, 0), (second, 1)):
        alone = walk_between(pair(points, start), scene, path=slerp)
        torch.testing.assert_close(walk.images, alone.images)
        torch.testing.assert_close(walk.ws, alone.ws)
        torch.testing.assert_close(walk.back(walk.t), alone.back(walk.t))
        torch.testing.assert_close(walk.at(torch.tensor([0.3]).double()), alone.at(torch.tensor([0.3]).double()))
    assert (first.name, second.name) == ("a to b", "b to c")


def test_a_path_that_knows_its_direction_is_found_out(points, scene):
    def stays_with_the_first(points, scene):
        curve = lerp(points, scene)
        return dataclasses.replace(curve, codes=lambda t: curve.codes(t.clamp(0, 1) ** 3))

    walk = walk_between(pair(points, 0), scene, path=stays_with_the_first)
    assert symmetry(walk, Judges(scene.perceptual))["asymmetry"] > 1e-3


def test_labels_go_along(points):
    labels = torch.eye(3)
    turned = flipped(dataclasses.replace(points, labels=labels))
    assert turned.names == ("c", "b", "a")
    assert torch.equal(turned.labels, labels.flip(0))
    assert torch.equal(turned.noise[0], points.noise[0].flip(0))
    assert torch.equal(turned.codes, points.codes.flip(0))


def test_all_metrics_in_one_row(points, scene):
    walk = walk_between(pair(points, 0), scene, path=lerp)
    walk = dataclasses.replace(walk, targets=walk.images[[0, -1]])
    (row,) = measure_walks([walk], {"fidelity": fidelity, "cost": cost}, Judges(scene.perceptual))
    assert set(row) >= {"end_mean_colour", "end_psnr_db", "seconds"}
    assert row["end_mean_colour"] == 0
