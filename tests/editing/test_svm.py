import numpy as np
import pytest
import torch

from wplus.checkpoint import Models
from wplus.editing.samples import LabelledLatents
from wplus.editing.svm import fit, separation, svm, without
from wplus.errors import UserError

NUM = 1200


def unit(*shape: int, seed: int) -> torch.Tensor:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return numbers / numbers.norm()


TALL, DARK = unit(8, seed=1), unit(8, seed=2)


@pytest.fixture
def samples() -> LabelledLatents:
    """Latents that are tall beyond 0.7 along one vector and dark beyond 0 along another, with a gap at the boundary."""
    w = torch.randn(NUM, 8, generator=torch.Generator().manual_seed(3))
    w += 0.4 * (w @ TALL - 0.7).sign()[:, None] * TALL
    attributes = {"tall": (w @ TALL > 0.7).int().numpy(), "dark": (w @ DARK > 0).int().numpy()}
    jitter = 0.01 * torch.randn(NUM, 6, 8, generator=torch.Generator().manual_seed(4))
    return LabelledLatents(w[:, None] + jitter, attributes, {"latents": "made up"})


def find(models: Models, samples: LabelledLatents, **options: object) -> object:
    chosen = {"attributes": ["tall"], "regularisation": 100.0, **options}
    return svm(models, labelled=lambda: samples, **chosen)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / a.norm() / b.norm())


def test_the_normal_and_the_place_of_a_boundary_are_recovered(models: Models, samples: LabelledLatents) -> None:
    (found,) = find(models, samples)
    assert cosine(found.vector, TALL) > 0.99
    assert float(found.vector.norm()) == pytest.approx(1, abs=1e-6)
    assert found.origin == pytest.approx(0.7, abs=0.15)
    assert found.notes["accuracy"] > 0.98
    assert found.notes["num_held_out"] == 360
    settings = find(models, samples).found
    assert (settings["num_latents"], settings["latents"]) == (NUM, "made up")
    assert found.notes["accuracy_of_a_guess"] == pytest.approx(1 - samples.attributes["tall"].mean(), abs=0.05)


def test_coordinates_have_the_sign_of_the_attribute(models: Models, samples: LabelledLatents) -> None:
    (found,) = find(models, samples, layers="middle")
    assert found.layers == (2, 3)
    assert ((found.coordinates(samples.ws) > 0).numpy() == samples.attributes["tall"]).mean() > 0.98


def test_a_vector_for_each_layer(models: Models, samples: LabelledLatents) -> None:
    """The attribute lives only in layer 3: the other layers' vectors are nearly zero, layer 0 is not used."""
    ws = torch.randn(NUM, 6, 8, generator=torch.Generator().manual_seed(5))
    tall = ws[:, 3] @ TALL > 0
    given = LabelledLatents(ws, {"tall": tall.int().numpy()})
    (found,) = find(models, given, space="w+", layers=[1, 2, 3, 4, 5])
    assert found.vector.shape == (6, 8)
    assert cosine(found.vector[3], TALL) > 0.97
    assert float(found.vector[0].norm()) == 0
    assert float(found.vector[3].norm()) > 0.95
    # With a vector for each layer, units come from the codes themselves.
    assert found.unit == pytest.approx(float((ws * found.vector).sum(dim=(1, 2)).std()), rel=1e-3)


def test_units_in_w_come_from_the_prior(models: Models, samples: LabelledLatents) -> None:
    (found,) = find(models, samples, num_samples=2000, seed=7)
    with torch.no_grad():
        w = models.generator.mapping(torch.randn(2000, 8, generator=torch.Generator().manual_seed(7)))[:, 0]
    assert found.unit == pytest.approx(float((w @ found.vector).std()), rel=1e-3)


def test_conditional_directions_leave_the_others_alone(models: Models, samples: LabelledLatents) -> None:
    plain = find(models, samples, attributes=["tall", "dark"])
    assert abs(cosine(plain[0].vector, plain[1].vector)) > 0.2  # the two are entangled
    for option in ("others", ["dark"]):
        chosen = find(models, samples, attributes=["tall"] if option != "others" else ["tall", "dark"],
                      orthogonal_to=option)  # fmt: skip
        tall = chosen["tall=1"]
        assert abs(cosine(tall.vector, plain["dark=1"].vector)) < 1e-6
        assert tall.notes["orthogonal_to"] == ["dark=1"]
        assert tall.notes["accuracy"] <= tall.notes["accuracy_unconditional"] == plain["tall=1"].notes["accuracy"]
        assert tall.notes["balanced_accuracy"] > 0.7
    # Values of one attribute exclude each other: never orthogonal among themselves.
    colours = LabelledLatents(samples.ws, {"colour": np.arange(NUM) % 3})
    for item in find(models, colours, attributes=["colour"], orthogonal_to="others"):
        assert "orthogonal_to" not in item.notes


def test_held_out_latents_are_not_learned_from(models: Models) -> None:
    """With meaningless labels, training latents would be separated far better than by chance."""
    rng = torch.Generator().manual_seed(6)
    noise = LabelledLatents(
        torch.randn(60, 6, 8, generator=rng), {"luck": torch.randint(2, (60,), generator=rng).numpy()}
    )
    (found,) = find(models, noise, attributes=["luck"], space="w+", held_out_fraction=0.5)
    assert found.notes["num_held_out"] == 30
    assert 0.2 < found.notes["balanced_accuracy"] < 0.8


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"min_per_class": 900}, "holds for .* to learn from; both must be at least 900"),
        ({"attributes": ["tall=7"]}, "'tall=7' holds for 0"),
        ({"held_out_fraction": 1.0}, "held_out_fraction must be above 0 and below 1, got 1.0"),
        ({"space": "z"}, "space must be one of w, w\\+, got 'z'"),
        ({"orthogonal_to": "all"}, "orthogonal_to must be none, others or a list of comparisons, got 'all'"),
        ({"attributes": ["tall"], "orthogonal_to": ["copy"]}, "No part of 'tall=1' is orthogonal to copy=1"),
    ],
)
def test_what_cannot_be_is_refused(models: Models, samples: LabelledLatents, options: dict, word: str) -> None:
    samples.attributes["copy"] = samples.attributes["tall"]
    with pytest.raises(UserError, match=word):
        find(models, samples, **options)


# Parts


def test_the_boundary_of_two_clouds_lies_half_way() -> None:
    rng = np.random.default_rng(0)
    offset = np.array([3.0, 4, 0]) / 5
    vectors = np.concatenate([rng.normal(size=(300, 3)) * 0.1 + sign * 2 * offset + 10 for sign in (-1, 1)])
    normal, threshold = fit(vectors, np.arange(600) >= 300, seed=0, regularisation=10)
    np.testing.assert_allclose(normal, offset, atol=0.08)
    assert threshold == pytest.approx(normal @ np.full(3, 10.0), abs=0.3)


def test_projections_in_closed_form() -> None:
    x, y, z = np.eye(3)
    np.testing.assert_allclose(without((x + y) / 2**0.5, y[None]), x, atol=1e-12)
    np.testing.assert_allclose(without((x + y + z) / 3**0.5, np.stack([y, (y + z) / 2**0.5])), x, atol=1e-12)
    assert without(x, np.stack([x, y])) is None


def test_separation_counts() -> None:
    projections, labels = np.array([0.0, 1, 2, 3, 4]), np.array([0, 0, 1, 1, 0], dtype=bool)
    found = separation(projections, labels, 1.5)
    assert found == {
        "accuracy": 0.8,
        "balanced_accuracy": pytest.approx((1 + 2 / 3) / 2),
        "accuracy_of_a_guess": 0.6,
        "num_held_out": 5,
    }
