import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wplus
from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.evaluation import sampler
from wplus.evaluation.context import EvalContext
from wplus.evaluation.ppl import ppl, ppl_name
from wplus.latents.latent import decode
from wplus.latents.space import space_of
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.models.layers import set_bf16_resolutions
from wplus.models.stylegan2 import Generator


class SquaredL2(nn.Module):
    """Sum of squared differences: with a linear generator PPL is known exactly."""

    name = "squared_l2"
    provenance = {"weights": "none"}

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().sum(dim=(1, 2, 3))


class LinearSynthesis(nn.Module):
    """Image = A times the mean w over the layers, plus the noise it is given; float64."""

    noise_shapes = [(8, 8)]

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix.double()

    def forward(self, ws, noise_mode, noise):
        image = (ws.mean(dim=1) @ self.matrix.T).reshape(-1, 1, 8, 8)
        return image if noise is None else image + noise[0]


class LinearGenerator(nn.Module):
    """w = z."""

    z_dim, c_dim, num_ws, resolution, img_channels = 24, 0, 2, 8, 1

    def __init__(self, matrix, synthesis=LinearSynthesis):
        super().__init__()
        self.synthesis = synthesis(matrix)

    def mapping(self, z, c):
        return z.double()[:, None].repeat(1, 2, 1)


def result_of(models, shared, distance=None, **options):
    (result,) = ppl(EvalContext(models, **shared), distance=distance or SquaredL2(), **options)
    return result


def draws(num: int, z_dim: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    z0, z1 = (sampler.normal(seed, stream, range(num), z_dim) for stream in (sampler.LATENT, sampler.SECOND_LATENT))
    return z0.double(), z1.double(), sampler.uniform(seed, sampler.POSITION, range(num))


def layer_draws(num: int, num_ws: int, z_dim: int) -> list[Tensor]:
    """Both ends in z+, (num, num_ws, z_dim) float64."""
    streams = (sampler.LATENT, sampler.SECOND_LATENT)
    return [sampler.normal(0, s, range(num), num_ws * z_dim).view(num, num_ws, z_dim).double() for s in streams]


def slow_mean(values: np.ndarray) -> float:
    """Mean from the next lower of the 1st to the next higher of the 99th percentile, by sorting."""
    ordered = np.sort(values)
    low, high = ordered[math.floor(0.01 * (len(values) - 1))], ordered[math.ceil(0.99 * (len(values) - 1))]
    return float(np.mean([value for value in values if low <= value <= high]))


# Closed forms


@pytest.mark.parametrize("sampling", ["full", "end"])
@pytest.mark.parametrize("space", ["w", "w+"])
def test_w_of_a_linear_generator_is_the_squared_length(shared, space, sampling):
    """g(t) = A (w0 + t (w1 - w0)): every pair gives |A (w1 - w0)|^2, wherever t is and however the noise falls.

    In w+ both layers of each end have a code of their own, whose mean the generator sees.
    """
    matrix = torch.randn(64, 24).double()
    z0, z1 = draws(150, 24)[:2] if space == "w" else (z.mean(dim=1) for z in layer_draws(150, 2, 24))
    expected = slow_mean(((z1 - z0) @ matrix.T).square().sum(dim=1).numpy())
    models = Models(generator=LinearGenerator(matrix))
    found = result_of(models, shared, space=space, sampling=sampling, num_samples=150)
    # The step 1e-4 leaves 8 of float32's digits to the codes' rounding.
    assert found.value == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_z_of_an_isometry_is_the_squared_angle(shared, sampling):
    """At the prior's radius r = sqrt(z_dim) the speed is r times the angle between the codes:
    (2 r sin(eps angle / 2) / eps)^2 = z_dim angle^2. Nothing here normalises z but the metric.
    """
    z0, z1, _ = draws(150, 24)
    angles = torch.acos((z0 * z1).sum(dim=1) / z0.norm(dim=1) / z1.norm(dim=1))
    models = Models(generator=LinearGenerator(torch.linalg.qr(torch.randn(64, 24, dtype=torch.float64)).Q))
    found = result_of(models, shared, space="z", sampling=sampling, num_samples=150)
    assert found.value == pytest.approx(slow_mean(24 * angles.square().numpy()), rel=1e-3)


# The whole metric against loops


@pytest.fixture
def without_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for float32 gets float64: then the metric and a loop differ by what they do alone."""
    normal = sampler.normal
    monkeypatch.setattr(sampler, "normal", lambda *args: normal(*args).double())
    monkeypatch.setattr(torch, "float32", torch.float64)


@pytest.mark.usefixtures("without_rounding")
@pytest.mark.parametrize("space", ["z", "w", "w+", "pn", "pn+"])
@pytest.mark.parametrize("sampling", ["full", "end"])
def test_stylegan2_against_a_loop_over_pairs(shared, space, sampling):
    """Of 200 samples the smallest and the largest value are cut off. P_N is affine in P, so lines are those of P.

    The loop's z have length 1, as NVlabs' have: a mapping that normalises them answers as at any other length.
    """
    net = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=32, channel_max=4, num_mapping_layers=2).double()
    net.eval().requires_grad_(False)
    for module in net.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = torch.float64
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.3)
    num, eps, ws = 200, 1e-4, []
    (z0s, z1s, ts), layers = draws(num, 4), layer_draws(num, net.num_ws, 4)
    for index in range(num):
        start = float(ts[index]) if sampling == "full" else 0.0
        z0, z1 = (z[index].numpy() / np.linalg.norm(z[index].numpy()) for z in (z0s, z1s))
        angle = math.acos(float(z0 @ z1))
        if space.endswith("+"):
            w0, w1 = (torch.stack([net.mapping(z[None])[0, 0] for z in end[index]])[None] for end in layers)
        else:
            w0, w1 = (net.mapping(z[index : index + 1]) for z in (z0s, z1s))
        for t in (start, start + eps):
            z = (math.sin((1 - t) * angle) * z0 + math.sin(t * angle) * z1) / math.sin(angle)
            if space.startswith("pn"):
                p0, p1 = (torch.where(w < 0, 5 * w, w) for w in (w0, w1))
                p = (1 - t) * p0 + t * p1
                ws.append(torch.where(p < 0, p / 5, p))
                continue
            ws.append(net.mapping(torch.from_numpy(z)[None]) if space == "z" else (1 - t) * w0 + t * w1)
    noise = sampler.noise_maps(0, range(num), net.synthesis.noise_shapes)
    near, far = (net.synthesis(torch.cat(side), noise=noise).numpy() for side in (ws[0::2], ws[1::2]))
    expected = slow_mean(((far - near) ** 2).sum(axis=(1, 2, 3)) / eps**2)
    found = result_of(Models(generator=net), shared, space=space, sampling=sampling, num_samples=num)
    assert found.value == pytest.approx(expected, rel=1e-6)


class Patterned(LinearSynthesis):
    """512 px: every pixel of the linear generator's image is a patch of a pattern."""

    pattern = torch.rand(512, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def forward(self, ws, noise_mode, noise):
        small = super().forward(ws, noise_mode, noise)
        return small.repeat_interleave(64, dim=2).repeat_interleave(64, dim=3) * Patterned.pattern


@pytest.mark.parametrize("crop", ["none", "face"])
def test_images_are_cropped_then_brought_to_256_px(shared, crop):
    """512 px are averaged in blocks of 2 x 2; the crop of 256 px that is made of them is not averaged."""
    matrix = torch.randn(64, 24).double()
    z0, z1, _ = draws(3, 24)
    expected = []
    for change in ((z1 - z0) @ matrix.T).numpy():
        image = np.kron(change.reshape(8, 8), np.ones((64, 64))) * Patterned.pattern.numpy()
        blocks = (image[0::2, 0::2] + image[0::2, 1::2] + image[1::2, 0::2] + image[1::2, 1::2]) / 4
        expected.append(float(((image[192:448, 128:384] if crop == "face" else blocks) ** 2).sum()))
    way = {"space": "w", "sampling": "full", "noise_mode": "const", "crop": crop}
    found = result_of(Models(generator=LinearGenerator(matrix, Patterned)), shared, num_samples=3, **way)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-3)
    assert found.protocol["downsampling"] == "box, by a factor of what is left after the crop"


def test_a_straight_line_of_styles_is_that_of_w(models):
    """So path lengths in s are those in w+ (in w, where layers are alike)."""
    generator = models.generator
    ends = [torch.randn(2, generator.num_ws, generator.w_dim) for _ in range(2)]
    s, t = space_of("s", generator), torch.tensor([0.3, 0.8])[:, None, None]
    styles = torch.lerp(*[s.from_ws(ws, generator) for ws in ends], t[:, 0])
    expected = generator.synthesis(torch.lerp(*ends, t))
    torch.testing.assert_close(generator.synthesis(decode(styles, "s", generator)), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("space", ["z", "w", "w+", "pn+"])
def test_the_batch_size_changes_nothing_of_real_nets_and_the_seed_does(repository, shared, space):
    """A step of 1e-4 sees how kernels for other batch sizes round."""
    models, distance = wplus.load(repository / "experiments/models/cats32.safetensors"), EffNetLite0Distance()
    options = {"distance": distance, "space": space, "sampling": "full", "num_samples": 18}
    changes = [{"batch_size": 64}, {"batch_size": 7}, {"batch_size": 1}, {"seed": 1}]
    *values, other = (result_of(models, shared | each, **options).value for each in changes)
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)
    assert other != pytest.approx(values[0], rel=1e-3)


def test_low_precision_networks_are_measured_in_float32(models, shared):
    """A step of 1e-4 is far below what bfloat16 can tell."""
    options = {"space": "w", "sampling": "end", "num_samples": 8}
    expected = result_of(models, shared, **options).value
    set_bf16_resolutions(models.generator, 2)
    assert result_of(models, shared, **options).value == pytest.approx(expected, rel=1e-6)
    assert models.generator.synthesis.b16.compute_dtype == torch.bfloat16


def test_conditional_generators_use_one_label_for_both_sides(conditional, real, shared):
    real.labels = torch.eye(3)[torch.arange(40) % 3]
    seen = []
    mapping = conditional.generator.mapping.forward
    conditional.generator.mapping.forward = lambda z, c, *rest: (seen.append(c), mapping(z, c, *rest))[1]
    result_of(conditional, shared | {"real": real}, space="w", sampling="end", num_samples=16)
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0].sum(dim=1), torch.ones(16))


# Names, protocol, refusals


FAMOUS = {"space": "w", "sampling": "end", "num_samples": 50_000, "crop": "face", "epsilon": 1e-4,
          "noise_mode": "random"}  # fmt: skip


@pytest.mark.parametrize(
    ("distance", "changes", "name"),
    [
        ("lpips_vgg", {}, "ppl_wend"),
        ("lpips_vgg", {"space": "z", "sampling": "full"}, "ppl_zfull"),
        ("lpips_vgg", {"crop": "none"}, "ppl2_wend"),
        ("lpips_vgg", {"crop": "none", "num_samples": 10_000}, "ppl2_wend_10000"),
        ("lpips_vgg", {"num_samples": 100_000}, "ppl_wend_100000"),
        ("lpips_vgg", {"sampling": "full", "crop": "none"}, "ppl_wfull_uncropped"),
        ("lpips_vgg", {"epsilon": 1e-3}, "ppl_wend_step0.001"),
        ("lpips_vgg", {"noise_mode": "const"}, "ppl_wend_const_noise"),
        ("lpips_vgg", {"space": "w+", "crop": "none"}, "ppl_wplusend"),
        ("lpips_vgg", {"space": "pn", "crop": "none"}, "ppl_pnend"),
        ("lpips_vgg", {"space": "pn+", "crop": "face", "num_samples": 7}, "ppl_pnplusend_7_face"),
        ("squared_l2", {}, "ppl_wend_squared_l2_face"),
        ("squared_l2", {"crop": "none", "num_samples": 7}, "ppl_wend_squared_l2"),
        ("squared_l2", {"space": "w+", "sampling": "full", "crop": "none"}, "ppl_wplusfull_squared_l2"),
        ("lpips_alex", {}, "ppl_wend_lpips_alex_face"),
    ],
)
def test_a_famous_name_stands_for_its_protocol_alone(distance, changes, name):
    assert ppl_name(distance, **(FAMOUS | changes)) == name


def test_the_measurement_has_the_name_of_its_protocol(models, shared):
    options, official = {"space": "w", "sampling": "end", "num_samples": 4}, SquaredL2()
    official.name = "lpips_vgg"
    found = result_of(models, shared, official, **options)
    assert found.name == "ppl2_wend_4"
    assert "at the start of straight lines" in found.meaning
    models.metadata = {"weights": "live"}
    assert result_of(models, shared, official, **options).name == "ppl2_wend_4_live"


def test_the_protocol_says_how(models, shared):
    found = result_of(models, shared, space="w", sampling="full", num_samples=6, crop="face")
    expected = {
        "space": "w", "sampling": "full", "epsilon": 1e-4, "crop": "face", "num_samples": 6, "seed": 0,
        "noise_mode": "random", "distance": "squared_l2", "distance_provenance": {"weights": "none"},
        "generator": models.fingerprint, "weights": "moving average", "truncation_psi": 1.0,
    }  # fmt: skip
    assert expected.items() <= found.protocol.items()
    assert found.interval[0] <= found.value <= found.interval[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"space": "z+"}, r"space must be one of z, w, w\+, pn, pn\+, got 'z\+'"),
     ({"sampling": "mid"}, "sampling must be"), ({"crop": "ear"}, "crop must be one of none, face"),
     ({"noise_mode": "none"}, "noise_mode must be one of random"),
     ({"epsilon": 0}, "epsilon must be .* got 0"), ({"num_samples": 0}, "num_samples must be .* got 0")],
)  # fmt: skip
def test_bad_options_are_refused_before_anything_runs(context, options, words):
    with pytest.raises(UserError, match=words):
        ppl(context, distance=SquaredL2(), **{"space": "w", "sampling": "end", "num_samples": 4} | options)
