import dataclasses
import functools

import pytest
import torch

import wplus
from tests.fakes import SquaredPixels
from wplus.config import CONFIG_FOLDER, build, composed
from wplus.core.images import to_float, to_uint8
from wplus.core.progress import silent
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import PathContext, even_positions, is_for
from wplus.interpolation.path_metrics.cost import cost
from wplus.interpolation.path_metrics.discriminator_score import DiscriminatorScore, discriminator_score
from wplus.interpolation.path_metrics.frames import fidelity
from wplus.interpolation.path_metrics.ppl import squared_speeds
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


def registry():
    """Every path of configs/path, plain and re-timed, in every space that it is for."""
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
    """33 frames in one batch, in batches of 16 with one left over, and of seven; of real nets, on an even path."""
    models = repository / "experiments" / "models"
    generator = wplus.load(models / "cats32.safetensors").generator
    discriminator = wplus.load(models / "cats32_discriminator.safetensors").discriminator
    context = PathContext(generator, EffNetLite0Distance(), num_frames=33)
    references = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    score = DiscriminatorScore(discriminator, references)
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(1))
    two, said = Keyframes(generator.mapping(z)[:, 0], "w", ("a", "b")), {}
    for size in (64, 16, 7):
        found = trajectory_between(
            two, dataclasses.replace(context, batch_size=size), path=functools.partial(arc_length, path=lerp),
            targets=torch.zeros(2, 3, 32, 32),
        )  # fmt: skip
        tools = MetricTools(context.perceptual, discriminator=score, batch_size=size)
        metrics = {"fidelity": fidelity, "steps": steps, "discriminator_score": discriminator_score}
        said[size] = named(measure(found, metrics, tools))
    assert len(said[64]) > 8
    assert said[16] == pytest.approx(said[64], rel=1e-6)
    assert said[7] == pytest.approx(said[64], rel=1e-6)


def test_path_length_does_not_depend_on_the_batch_size(repository):
    """Of real nets, whose kernels for small batches round otherwise: seen at a step of 1e-4."""
    generator = wplus.load(repository / "experiments/models/cats32.safetensors").generator
    context, t = PathContext(generator, EffNetLite0Distance(), batch_size=64, num_frames=2), even_positions(9) * 0.9
    two, speeds = Keyframes(generator.mapping(torch.randn(2, generator.z_dim))[:, 0], "w", ("a", "b")), {}
    for size in (64, 50, 7, 1):
        found = trajectory_between(two, dataclasses.replace(context, batch_size=size), path=lerp)
        speeds[size] = squared_speeds(found, MetricTools(context.perceptual, batch_size=size), t, epsilon=1e-4)
        torch.testing.assert_close(speeds[size], speeds[64], rtol=1e-6, atol=0)


def test_the_way_back_starts_at_the_second_keyframe(keyframes, context):
    found = trajectory_between(pair(keyframes, 0), context, path=slerp)
    torch.testing.assert_close(found.back(found.t), found.images.flip(0))
    (asymmetry,) = measure(found, {"symmetry": symmetry}, MetricTools(context.perceptual)).values()
    assert asymmetry == pytest.approx(0, abs=1e-6)


def test_transitions_of_a_chain_are_the_pairs(keyframes, context):
    first, second = trajectories_along(keyframes, context, path=slerp)
    for found, start in ((first, 0), (second, 1)):
        alone = trajectory_between(pair(keyframes, start), context, path=slerp)
        torch.testing.assert_close(found.images, alone.images)
        torch.testing.assert_close(found.ws, alone.ws)
        torch.testing.assert_close(found.back(found.t), alone.back(found.t))
        torch.testing.assert_close(found.at(torch.tensor([0.3]).double()), alone.at(torch.tensor([0.3]).double()))
    assert (first.name, second.name) == ("a to b", "b to c")


def test_a_path_that_knows_its_direction_is_found_out(keyframes, context):
    def stays_with_the_first(keyframes, context):
        curve = lerp(keyframes, context)
        return dataclasses.replace(curve, codes=lambda t: curve.codes(t.clamp(0, 1) ** 3))

    found = trajectory_between(pair(keyframes, 0), context, path=stays_with_the_first)
    (asymmetry,) = measure(found, {"symmetry": symmetry}, MetricTools(context.perceptual)).values()
    assert asymmetry > 1e-3


def test_all_metrics_in_one_row_which_know_where_they_come_from(keyframes, context):
    found = trajectory_between(pair(keyframes, 0), context, path=lerp)
    found = dataclasses.replace(found, targets=to_float(to_uint8(found.images[[0, -1]])))
    scores = measure(found, {"fidelity": fidelity, "cost": cost}, MetricTools(context.perceptual))
    assert set(named(scores)) >= {"endpoint_brightness", "endpoint_psnr_db", "seconds"}
    assert named(scores)["endpoint_brightness"] == 0
    assert {number.metric for number in scores} == {"fidelity", "cost"}


def test_the_baseline_is_a_dissolve():
    ends = torch.rand(2, 3, 16, 16) * 2 - 1
    found = cross_dissolve("a to b", ends, perceptual=SquaredPixels(), num_frames=10, batch_size=4)
    assert torch.equal(found.images[[0, -1]], ends)
    torch.testing.assert_close(found.images[3], ends[0] * 2 / 3 + ends[1] / 3)
    torch.testing.assert_close(found.back(found.t), found.images.flip(0))
