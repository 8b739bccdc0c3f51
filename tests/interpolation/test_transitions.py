import dataclasses
import functools

import pytest
import torch

import wplus
from tests.fakes import SquaredPixels
from wplus.config import CONFIG_FOLDER, build, composed
from wplus.core.progress import silent
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import PathContext, is_for
from wplus.interpolation.path_metrics.discriminator_score import DiscriminatorScore, discriminator_score
from wplus.interpolation.path_metrics.frames import fidelity
from wplus.interpolation.path_metrics.ppl import pair_ppl
from wplus.interpolation.path_metrics.shape import steps, symmetry
from wplus.interpolation.paths import lerp, slerp
from wplus.interpolation.retime import arc_length, retimed
from wplus.interpolation.trajectory import MetricTools, cross_dissolve, measure
from wplus.interpolation.transitions import trajectories_along, trajectory_between
from wplus.losses.perceptual import EffNetLite0Distance


@pytest.fixture
def context(generator, perceptual):
    return PathContext(generator, perceptual, batch_size=4, num_frames=7)


@pytest.fixture
def keyframes(generator):
    noise = tuple(torch.randn(3, 1, *shape) for shape in generator.synthesis.noise_shapes)
    return Keyframes(torch.randn(3, generator.num_ws, 8), "w+", ("a", "b", "c"), noise=noise)


def pair(keyframes, first):
    rows = slice(first, first + 2)
    noise = tuple(layer[rows] for layer in keyframes.noise)
    return dataclasses.replace(keyframes, codes=keyframes.codes[rows], names=keyframes.names[rows], noise=noise)


def named(scores):
    return {number.name: value for number, value in scores.items()}


def test_a_trajectory_shows_its_two_keyframes(generator, keyframes, context):
    two = pair(keyframes, 0)
    found = trajectory_between(two, context, path=lerp, targets=torch.zeros(2, 3, 16, 16))
    ends = generator.synthesis(two.codes, noise_mode="const", noise=list(two.noise))
    torch.testing.assert_close(found.images[[0, -1]], ends)
    torch.testing.assert_close(found.ws[3], two.codes.mean(dim=0))
    torch.testing.assert_close(found.at(found.t), found.images)
    assert (found.name, found.middle.tolist()) == ("a to b", [3])
    assert found.cost.seconds > 0
    torch.testing.assert_close(found.features[0], found.images.mean(dim=(1, 2, 3)))


@functools.cache
def registry():
    """Every path of configs/path, plain and re-timed, in every space that it supports."""
    names = sorted(file.stem for file in (CONFIG_FOLDER / "path").glob("*.yaml"))
    few = ["path.geodesic.num_steps=2", "path.geodesic.num_points=3"]
    chosen = [f"path=[{','.join(names)}]", "retime=[none,arc_length]", *few]
    config = composed("interpolate", ["checkpoint=none", "inputs=[a,b]", *chosen])
    return retimed(build(config["path"]), build(config["retime"]))


@pytest.mark.filterwarnings("ignore:The steps from")
@pytest.mark.parametrize(("name", "space"), [(name, space) for name, path in registry().items()
                                             for space in ("z", "z+", "w", "w+") if is_for(path, space)])  # fmt: skip
def test_no_path_depends_on_the_batch_size_and_all_pass_through_their_keyframes(generator, name, space):
    codes = torch.randn(2, *((generator.num_ws, 8) if "+" in space else (8,)))
    two, found = Keyframes(codes, space, ("a", "b")), []
    for size in (64, 5):
        context = PathContext(generator, SquaredPixels(), batch_size=size, num_frames=18, progress=silent)
        found.append(trajectory_between(two, context, path=registry()[name]))
    assert torch.equal(found[0].images, found[1].images)
    assert torch.equal(found[0].ws, found[1].ws)
    still = trajectory_between(two, context, path=lerp)
    torch.testing.assert_close(found[0].images[[0, -1]], still.images[[0, -1]])


def test_what_is_said_of_a_trajectory_does_not_depend_on_the_batch_size(repository):
    """33 frames in one batch, in batches of 16 with one left over, and of seven; of real nets, whose kernels for small
    batches round otherwise, on an even path, and at the steps of 1e-4 of path length."""
    generator = wplus.load(repository / "experiments/models/cats32.safetensors").generator
    discriminator = wplus.load(repository / "experiments/models/cats32_discriminator.safetensors").discriminator
    context = PathContext(generator, EffNetLite0Distance(), num_frames=33)
    score = DiscriminatorScore(discriminator, torch.rand(3, 3, 32, 32) * 2 - 1)
    two, said = Keyframes(generator.mapping(torch.randn(2, generator.z_dim))[:, 0], "w", ("a", "b")), {}
    for size in (64, 16, 7):
        found = trajectory_between(
            two, dataclasses.replace(context, batch_size=size), path=functools.partial(arc_length, path=lerp),
            targets=torch.zeros(2, 3, 32, 32),
        )  # fmt: skip
        tools = MetricTools(context.perceptual, discriminator=score, batch_size=size)
        metrics = {"fidelity": fidelity, "steps": steps, "discriminator": discriminator_score, "ppl": pair_ppl}
        said[size] = named(measure(found, metrics, tools))
    assert len(said[64]) > 8
    for size in (16, 7):
        assert said[size] == pytest.approx(said[64], rel=1e-6)


def stays_with_the_first(keyframes, context):
    curve = lerp(keyframes, context)
    return dataclasses.replace(curve, codes=lambda t: curve.codes(t.clamp(0, 1) ** 3))


@pytest.mark.parametrize(("path", "is_symmetric"), [(slerp, True), (stays_with_the_first, False)])
def test_the_way_back_starts_at_the_second_keyframe(keyframes, context, path, is_symmetric):
    found = trajectory_between(pair(keyframes, 0), context, path=path)
    torch.testing.assert_close(found.back(found.t)[[0, -1]], found.images[[-1, 0]])
    (asymmetry,) = measure(found, {"symmetry": symmetry}, MetricTools(context.perceptual)).values()
    assert (asymmetry < 1e-6) if is_symmetric else (asymmetry > 1e-3)


def test_transitions_of_a_chain_are_the_pairs(keyframes, context):
    first, second = trajectories_along(keyframes, context, path=slerp, curve=slerp(keyframes, context))
    for found, start in ((first, 0), (second, 1)):
        alone = trajectory_between(pair(keyframes, start), context, path=slerp)
        torch.testing.assert_close((found.images, found.ws), (alone.images, alone.ws))
        torch.testing.assert_close(found.back(found.t), alone.back(found.t))
        torch.testing.assert_close(found.at(found.t[2:3]), alone.at(found.t[2:3]))
    assert (first.name, second.name) == ("a to b", "b to c")


def test_the_baseline_is_a_dissolve():
    ends = torch.rand(2, 3, 16, 16) * 2 - 1
    found = cross_dissolve("a to b", ends, PathContext(None, SquaredPixels(), num_frames=10))
    assert torch.equal(found.images[[0, -1]], ends)
    torch.testing.assert_close(found.images[3], ends[0] * 2 / 3 + ends[1] / 3)
    torch.testing.assert_close(found.back(found.t), found.images.flip(0))
