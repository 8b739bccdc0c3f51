from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import pytest
import torch

import wplus
from wplus.core.images import to_float, to_uint8
from wplus.interpolation.curve import PathContext
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path_metrics.cost import cost
from wplus.interpolation.path_metrics.critic import Critic, logit
from wplus.interpolation.path_metrics.fidelity import fidelity
from wplus.interpolation.path_metrics.ppl import squared_speeds
from wplus.interpolation.path_metrics.prior import prior
from wplus.interpolation.path_metrics.steps import steps
from wplus.interpolation.path_metrics.symmetry import symmetry
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.retime import even
from wplus.interpolation.run import interpolate
from wplus.interpolation.transitions import flipped, measure_walks, walk_between, walks_along
from wplus.interpolation.walk import MetricTools, even_positions
from wplus.latents.latent import Latent
from wplus.latents.w_stats import Whitened
from wplus.losses.perceptual import EffNetLite0Distance


@pytest.fixture
def scene(generator, perceptual) -> PathContext:
    return PathContext(generator, perceptual, batch_size=4, num_frames=7)


@pytest.fixture
def points(generator) -> Keyframes:
    noise = tuple(torch.randn(3, 1, *shape) for shape in generator.synthesis.noise_shapes)
    return Keyframes(torch.randn(3, generator.num_ws, 8), "w+", ("a", "b", "c"), noise=noise)


def pair(points: Keyframes, first: int) -> Keyframes:
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


def test_what_is_said_of_a_walk_does_not_depend_on_the_batch_size(repository):
    """33 frames in one batch, in batches of 16 with one left over, and of seven; of real nets, on an even path."""
    models = repository / "experiments" / "models"
    generator = wplus.load(models / "cats32.safetensors").generator
    discriminator = wplus.load(models / "cats32_discriminator.safetensors").discriminator
    scene = PathContext(generator, EffNetLite0Distance(), num_frames=33)
    critic = Critic(discriminator, torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(1))
    two = Keyframes(generator.mapping(z)[:, 0], "w", ("a", "b"))
    said = {}
    for size in (64, 16, 7):
        walk = walk_between(
            two, dataclasses.replace(scene, batch_size=size), path=functools.partial(even, path=lerp),
            targets=torch.zeros(2, 3, 32, 32),
        )  # fmt: skip
        judges = MetricTools(scene.perceptual, critic=critic, batch_size=size)
        (said[size],) = measure_walks([walk], {"fidelity": fidelity, "evenness": steps, "logit": logit}, judges)
    assert len(said[64]) > 8
    assert said[16] == pytest.approx(said[64], rel=1e-6)
    assert said[7] == pytest.approx(said[64], rel=1e-6)


def test_path_length_does_not_depend_on_the_batch_size(repository):
    """Of real nets, whose kernels for small batches round otherwise: seen at a step of 1e-4."""
    generator = wplus.load(repository / "experiments/models/cats32.safetensors").generator
    scene, t = PathContext(generator, EffNetLite0Distance(), batch_size=64, num_frames=2), even_positions(9) * 0.9
    two = Keyframes(generator.mapping(torch.randn(2, generator.z_dim))[:, 0], "w", ("a", "b"))
    speeds = {}
    for size in (64, 50, 7, 1):
        walk = walk_between(two, dataclasses.replace(scene, batch_size=size), path=lerp)
        speeds[size] = squared_speeds(walk, MetricTools(scene.perceptual, batch_size=size), t, epsilon=1e-4)
        torch.testing.assert_close(speeds[size], speeds[64], rtol=1e-6, atol=0)


def test_the_way_back_starts_at_the_second_point(points, scene):
    walk = walk_between(pair(points, 0), scene, path=slerp)
    torch.testing.assert_close(walk.back(walk.t), walk.images.flip(0))
    assert symmetry(walk, MetricTools(scene.perceptual))["asymmetry"] == pytest.approx(0, abs=1e-6)


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
    assert symmetry(walk, MetricTools(scene.perceptual))["asymmetry"] > 1e-3


def test_labels_go_along(points):
    labels = torch.eye(3)
    turned = flipped(dataclasses.replace(points, labels=labels))
    assert turned.names == ("c", "b", "a")
    assert torch.equal(turned.labels, labels.flip(0))
    assert torch.equal(turned.noise[0], points.noise[0].flip(0))
    assert torch.equal(turned.codes, points.codes.flip(0))


def test_all_metrics_in_one_row(points, scene):
    walk = walk_between(pair(points, 0), scene, path=lerp)
    walk = dataclasses.replace(walk, targets=to_float(to_uint8(walk.images[[0, -1]])))
    (row,) = measure_walks([walk], {"fidelity": fidelity, "cost": cost}, MetricTools(scene.perceptual))
    assert set(row) >= {"end_mean_colour", "end_psnr_db", "seconds"}
    assert row["end_mean_colour"] == 0


@pytest.mark.parametrize("alpha", ["b_at_one", "a_at_one"])
def test_films_tell_what_metrics_say_of_their_transitions(points, scene, tmp_path, alpha):
    latents = [Latent(code, "w+", "f" * 16) for code in points.codes]
    models = SimpleNamespace(generator=scene.generator, fingerprint="f" * 16)
    tables, numbers = {}, {}
    tracker = SimpleNamespace(
        video=lambda *_, **__: None, image=lambda *_, **__: None, summary=numbers.update,
        table=lambda key, columns, rows: tables.update({key: [dict(zip(columns, row, strict=True)) for row in rows]}),
    )  # fmt: skip
    films = interpolate(
        models, latents, paths={"lerp": lerp}, perceptual=scene.perceptual, output_dir=tmp_path, names=points.names,
        tracker=tracker, num_frames=7, alpha=alpha, path_metrics={"prior": prior},
    )  # fmt: skip
    rows = tables["interpolation/transitions"]
    whitened = Whitened.of(scene.generator)
    for row, (first, second) in zip(rows, [(0, 1), (1, 2)] if alpha == "b_at_one" else [(1, 2), (0, 1)], strict=True):
        ends = whitened.distance(points.codes[[first, second]])
        assert row["prior_max"] >= float(ends.max()) * (1 - 1e-5)
        assert row["prior_mean"] <= row["prior_max"]
        names = {points.names[first], points.names[second]}
        assert set(row["transition"].split(":")[0].split(" to ")) == names
    mean = sum(row["prior_mean"] for row in rows) / 2
    assert numbers["interpolation/prior_mean"]["value"] == pytest.approx(mean)
    assert films["lerp"].values["prior_mean"] == pytest.approx(mean)
    assert "step_cv" in films["lerp"].values
