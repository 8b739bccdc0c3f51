import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.optimize import minimize
from torch import Tensor, nn

import wplus
from tests.fakes import measured
from wplus.checkpoint import Models
from wplus.config import build
from wplus.core.metric_result import MetricResult
from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.evaluation import sampler
from wplus.evaluation.context import EvalContext
from wplus.evaluation.measure import measure
from wplus.evaluation.separability import (
    BoxFiltered,
    conditional_entropy,
    entropy,
    latents,
    linear_separability,
)
from wplus.tracking.tracker import Sink, Tracker


class Shown(nn.Module):
    """The image is w itself, a pixel for each number, and the noise: what a classifier reads off is known exactly.

    w = (z, product of the first two numbers of z), so that the sign of the product is separable in w and not in z.
    """

    z_dim, w_dim, c_dim, num_ws, resolution, img_channels = 4, 5, 0, 2, 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.num_made = 0

    def mapping(self, z: Tensor, c: Tensor | None, **_: Any) -> Tensor:
        return torch.cat([z, (z[:, 0] * z[:, 1])[:, None]], dim=1)[:, None].repeat(1, 2, 1)

    def synthesis(self, ws: Tensor, *, noise_mode: str, noise: list[Tensor] | None) -> Tensor:
        self.num_made += len(ws)
        extra = torch.zeros(len(ws), 1) if noise is None else noise[0].flatten(1)
        pixels = torch.cat([ws[:, 0], extra], dim=1) / 5  # six of 16 pixels
        return torch.cat([pixels, torch.zeros(len(ws), 10)], dim=1).view(-1, 1, 4, 4)

    synthesis.noise_shapes = [(1, 1)]  # type: ignore[attr-defined]


class Reader(nn.Module):
    """One attribute for each pixel that it names: how far that pixel is above the middle."""

    name = "reader"

    def __init__(self, **pixels: int) -> None:
        super().__init__()
        self.attributes, self.pixels = list(pixels), list(pixels.values())
        self.protocol = {"classifier": self.name, "pixels": pixels}

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, self.pixels].float() / 127.5 - 1


NUM = 2500


@pytest.fixture
def shown(shared: dict[str, Any]) -> EvalContext:
    return EvalContext(Models(generator=Shown()), None, **(shared | {"batch_size": 500}))


def score(context: EvalContext, classifier: nn.Module, space: str = "z", **options: Any) -> MetricResult:
    options = {"num_samples": NUM} | options
    (found,) = measured(context, linear_separability, classifier=classifier, space=space, **options).values()
    return found


# Closed forms


def test_what_a_plane_separates_scores_one(shown):
    """The sign of a coordinate: of the surest half, none lies near the plane. The product of two is one in w alone."""
    found = score(shown, Reader(first=0, third=2))
    assert found.value == pytest.approx(1, abs=1e-9)
    assert found.interval == pytest.approx((1, 1))
    in_z, in_w = (score(shown, Reader(product=4), space) for space in "zw")
    assert in_w.value == pytest.approx(1, abs=1e-9)
    assert in_z.value > 1.8


def test_what_latents_know_nothing_of_scores_its_entropy(shown):
    """The noise of an image, fresh for each: 2^H(Y), H of two attributes adds up."""
    found = score(shown, Reader(noise=5))
    assert found.value == pytest.approx(2, rel=5e-3)
    assert found.protocol["score_of_a_guess"] == pytest.approx(2, rel=5e-3)
    assert score(shown, Reader(noise=5, again=5)).value == pytest.approx(found.value**2, rel=1e-9)


def test_entropies_of_known_tables():
    tables = np.array([[[2, 0], [0, 6]], [[1, 1], [3, 3]], [[4, 4], [0, 0]], [[3, 1], [1, 3]]])
    of_a_quarter = -0.25 * math.log2(0.25) - 0.75 * math.log2(0.75)
    np.testing.assert_allclose(conditional_entropy(tables), [0, 1, 1, of_a_quarter], atol=1e-12)
    np.testing.assert_allclose(entropy(np.array([[8, 0], [1, 1], [1, 3]])), [0, 1, of_a_quarter], atol=1e-12)


# The whole metric against an implementation of its own


def slow_score(logits: np.ndarray, codes: np.ndarray) -> float:
    """As the original goes about it, one attribute and one image at a time; the machine by a general optimiser."""
    bits = 0.0
    for column in logits.T.astype(np.float64):
        probabilities = np.exp([column, -column]) / np.exp([column, -column]).sum(axis=0)
        kept = np.argsort(-probabilities.max(axis=0), kind="stable")[: len(column) // 2]
        x = np.concatenate([codes[kept], np.ones((len(kept), 1))], axis=1)
        y = (probabilities.argmax(axis=0) == 0)[kept]
        sign = np.where(y, 1.0, -1.0)

        def objective(v: np.ndarray, x: np.ndarray = x, sign: np.ndarray = sign) -> tuple[float, np.ndarray]:
            slack = np.maximum(1 - sign * (x @ v), 0)  # squared hinge; liblinear's penalty takes in the bias
            return 0.5 * v @ v + (slack**2).sum(), v - 2 * x.T @ (sign * slack)

        fitted = minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"ftol": 1e-15})
        cases = list(zip(x @ fitted.x > 0, y, strict=True))
        p = [[np.mean([case == (bool(row), bool(col)) for case in cases]) for col in (0, 1)] for row in (0, 1)]
        bits -= sum(p[r][c] * math.log2(p[r][c] / sum(p[r])) for r in (0, 1) for c in (0, 1) if p[r][c] > 0)
    return 2**bits


class Mixture(nn.Module):
    """Attributes that a plane separates in part, of which one is rare."""

    name, attributes, protocol = "mixture", ("both", "rare", "plain"), {"classifier": "mixture"}

    def forward(self, images: Tensor) -> Tensor:
        a, b, c, _, product, noise = (images.flatten(1)[:, :6].float() / 127.5 - 1).T
        return torch.stack([a + 3 * product, b + noise - 0.2, c + 0.2 * noise], dim=1)


@pytest.mark.parametrize("space", ["z", "w"])
def test_against_a_slow_implementation(shown, space):
    num, sampling = 1200, sampler.Sampling(noise_mode="random")
    images = sampler.generate(shown.models.generator, range(num), sampling=sampling, seed=0)
    z = sampler.normal(0, sampler.LATENT, range(num), 4)
    codes = z if space == "z" else shown.models.generator.mapping(z, None)[:, -1]
    expected = slow_score(Mixture()(images).numpy(), codes.double().numpy())
    found = score(shown, Mixture(), space, num_samples=num)
    assert 1.2 < expected < 8
    assert found.value == pytest.approx(expected, rel=5e-3)  # an image in a thousand may fall on the other side


# What must not matter


def test_both_spaces_share_one_pass(shown):
    options = {"classifier": Mixture(), "num_samples": 600}
    list(measure(shown, {space: partial(linear_separability, space=space, **options) for space in "zw"}))
    assert shown.models.generator.num_made == 600


@pytest.mark.parametrize("network", ["models", "conditional"])
def test_latents_are_those_of_the_images_also_of_a_conditional_generator(request, network, real, shared):
    real.labels = torch.eye(3)[torch.arange(40) % 3]
    context = EvalContext(request.getfixturevalue(network), real, **shared)
    z = torch.from_numpy(latents(context, 11, "z")).float()
    assert torch.equal(z, sampler.normal(0, sampler.LATENT, range(11), 8))
    expected = context.generator.mapping(z, context.labels(range(11)))[:, -1]
    torch.testing.assert_close(torch.from_numpy(latents(context, 11, "w")).float(), expected)


def test_latents_of_a_real_net_do_not_depend_on_the_batch_size(repository):
    """Its kernels for small batches, such as the last one, round otherwise."""
    models = wplus.load(repository / "experiments/models/cats32.safetensors")
    found = [latents(EvalContext(models, batch_size=size, progress=silent), 33, "w") for size in (64, 32, 3, 1)]
    for each in found[1:]:
        np.testing.assert_allclose(each, found[0], rtol=1e-6, atol=1e-7)


# The interval, the table, the protocol


def test_the_interval_holds_what_fresh_samples_give(shown):
    found = score(shown, Mixture())
    low, high = found.interval
    others = [score(replace(shown, seed=seed), Mixture(), num_groups=0).value for seed in (1, 2, 3)]
    assert low < found.value < high
    assert high - low < 0.3 * found.value
    assert sum(low < other < high for other in others) >= 2


def test_the_table_has_a_row_for_each_attribute(shown, tmp_path):
    tables = []

    class Kept(Sink):
        def table(self, key: str, columns: Any, rows: Any) -> None:
            tables.append((key, list(columns), [list(row) for row in rows]))

    context = replace(shown, tracker=Tracker([Kept()]), output_dir=tmp_path)
    found = score(context, Reader(first=0, noise=5))
    ((key, columns, rows),) = tables
    assert key == "evaluate/ls_z_reader"
    assert [row[0] for row in rows] == ["first", "noise"]
    content = json.loads((tmp_path / "ls_z_reader.json").read_text())
    assert content["left_out"] == []
    assert [list(row.values()) for row in content["attributes"]] == rows
    sums = {column: sum(row[index] for row in rows) for index, column in enumerate(columns) if index}
    assert 2 ** sums["conditional_entropy_bits"] == pytest.approx(found.value)
    assert rows[0][columns.index("accuracy")] == 1
    assert 0.45 < rows[0][columns.index("share")] < 0.55
    assert found.protocol["bits"] == pytest.approx(sums["conditional_entropy_bits"])
    assert {"classifier": "reader", "num_kept": NUM // 2, "num_generated": NUM, "noise_mode": "random", "space": "z",
            "truncation_psi": 1.0, "regularisation": 1.0}.items() <= found.protocol.items()  # fmt: skip
    assert "in z:" in found.meaning


def test_larger_images_are_box_filtered():
    seen = []
    reader = Reader(first=0)
    reader.forward = lambda images: (seen.append(images), torch.zeros(len(images), 1))[1]  # type: ignore[method-assign]
    images = torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8)
    BoxFiltered(reader)(images)
    BoxFiltered(reader)(images[:, :, :256, :256])
    expected = images.double().unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)).round().to(torch.uint8)
    assert torch.equal(seen[0], expected)
    assert torch.equal(seen[1], images[:, :, :256, :256])


@pytest.mark.parametrize("space", ["z", "w"])
def test_the_config_takes_the_classifier_of_the_project(repository, space):
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        overrides = [f"metrics=[ls_{space}]", "checkpoint=none", "run_dir=none"]
        cfg = OmegaConf.to_container(compose("evaluate", overrides), resolve=True)
    node = cfg["metrics"][f"ls_{space}"]
    assert {"space": space, "num_samples": 20_000, "noise_mode": "random"}.items() <= node.items()
    classifier = build(node["classifier"])
    assert (classifier.name, classifier.dim) == ("cats32_attributes", 16)


# Refusals


class Lopsided(Reader):
    """`never` is an attribute that no image has."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) - torch.tensor([0.0, 9.0])


def test_an_attribute_that_nothing_has_is_no_success(shown):
    classifier = Lopsided(noise=5, never=0)
    with pytest.raises(UserError, match=r"For 1 of 2 attributes \(never\), fewer than 10 .* rare=leave_out"):
        score(shown, classifier, rare="refuse")
    with pytest.warns(UserWarning, match="never"):
        found = score(shown, classifier, rare="leave_out")
    assert found.value == pytest.approx(2, rel=5e-3)
    assert (found.protocol["left_out"], found.protocol["num_attributes"]) == (["never"], 1)
    with pytest.raises(UserError, match="2 of 2 attributes"):
        score(shown, Lopsided(first=3, never=0), min_per_class=1500)
    with pytest.raises(UserError, match="'both' did not converge within max_iterations=1"):
        score(shown, Mixture(), max_iterations=1)


@pytest.mark.parametrize(("space", "fewest"), [("z", 12), ("w", 14)])
def test_images_that_any_boundary_separates_are_refused(shown, space, fewest):
    """In 4 dimensions 5 random labels are always separable, 6 are not."""
    options = {"classifier": Reader(noise=5), "space": space, "num_groups": 0, "min_per_class": 1}
    linear_separability(shown, num_samples=fewest, **options)
    with pytest.raises(UserError, match=f"take more than {fewest - 1}, better"):
        linear_separability(shown, num_samples=fewest - 1, **options)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"space": "w+"}, r"space must be one of z, w, got 'w\+'"), ({"rare": "skip"}, "rare must be one of refuse"),
     ({"num_groups": 1}, "got 1 for 20000 generated images"), ({"num_samples": 30}, "got 20 for 30 generated images"),
     ({"min_per_class": 0}, "min_per_class must be .* got 0")],
)  # fmt: skip
def test_bad_options_are_refused_in_a_sentence(shown, options, word):
    with pytest.raises(UserError, match=word):
        linear_separability(shown, **{"classifier": Mixture(), "space": "z"} | options)
