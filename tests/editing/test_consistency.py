import math
from collections.abc import Callable

import pytest
import torch

from tests.fakes import Brightness
from wplus.checkpoint import Models
from wplus.core.metric_result import MetricResult
from wplus.core.stats import bootstrap_interval, kept_mean
from wplus.editing.consistency import consistency, edit_errors, editability, prior_deviation
from wplus.editing.directions import Direction
from wplus.errors import UserError
from wplus.latents.latent import Latent
from wplus.latents.space import space_of

NUM = 150


def edits() -> dict[str, torch.Tensor]:
    return {"up": torch.ones(3, 4), "one": torch.eye(3, 4) * 2}


def measured(exact: Models, invert: Callable, *, ws: torch.Tensor | None = None, **options: object) -> dict:
    """Name -> result, for latents that are random by default."""
    ws = torch.randn(NUM, 3, 4) if ws is None else ws
    shared = {"space": space_of("w+", exact.generator), "distance": Brightness(), "edits": edits(), "invert": invert}
    errors = edit_errors(exact.generator, ws, **{**shared, **options})
    return {result.name: result for result in consistency(exact, errors, space=shared["space"])}


def values(results: dict[str, MetricResult]) -> dict[str, float]:
    return {name: result.value for name, result in results.items()}


def test_an_exact_inverter_comes_back(exact: Models) -> None:
    found = measured(exact, exact.generator.inverse)
    assert values(found) == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5)
    assert len(found) == 10
    assert {result.direction for result in found.values()} == {"lower"}
    assert len({result.meaning for result in found.values()}) == 5


def test_a_constant_error_is_its_norm(exact: Models) -> None:
    """An inverter that misses by c: w, w + f, w + f + c, w + c; the result is the norm of c, whatever the edit."""
    c = torch.randn(3, 4)
    found, norm = values(measured(exact, lambda x: exact.generator.inverse(x) + c)), float(c.norm())
    assert [found[name] for name in ("lec_up", "lec_up_all", "lec_one")] == pytest.approx([norm] * 3, rel=1e-5)
    assert found["lec_up_per_edit"] == pytest.approx(norm / 12**0.5, rel=1e-5)
    assert found["lec_one_per_edit"] == pytest.approx(norm / 12**0.5, rel=1e-5)  # 2 on three of twelve places
    # In all three layers: the deviation is sqrt(3) times that of w, which is twice a normal one.
    assert prior_deviation(exact.generator) == pytest.approx(2 * 4**0.5, rel=0.02)
    assert found["lec_up_per_std"] == pytest.approx(norm / (3**0.5 * prior_deviation(exact.generator)), rel=1e-5)


def test_an_inverter_that_ignores_the_image_loses_the_whole_edit(exact: Models) -> None:
    ws = torch.randn(NUM, 3, 4)
    found = values(measured(exact, lambda _: ws, ws=ws, batch_size=NUM))
    assert found["lec_up"] == pytest.approx(12**0.5)
    assert found["lec_up_per_edit"] == pytest.approx(1)


def test_percentiles_and_intervals_are_over_images(exact: Models) -> None:
    sizes = torch.linspace(0, 1, NUM).square()
    sizes[3] = 1000.0  # one inversion went astray
    calls = []

    def invert(images: torch.Tensor) -> torch.Tensor:
        part = sizes[len(calls) * 40 : len(calls) * 40 + len(images)]
        calls.append(len(images))
        return exact.generator.inverse(images) + part[:, None, None]

    found = measured(exact, invert, edits={"up": edits()["up"]}, batch_size=40)
    assert calls == [40, 40, 40, 30]
    norms = sizes.double().numpy() * math.sqrt(12)
    assert found["lec_up"].value == pytest.approx(float(kept_mean(norms)), rel=1e-4)
    assert found["lec_up_all"].value == pytest.approx(norms.mean(), rel=1e-4)
    assert found["lec_up"].value < 2 < found["lec_up_all"].value
    assert found["lec_up"].interval == pytest.approx(bootstrap_interval(norms, kept_mean, seed=0), rel=1e-4)
    assert found["lec_up"].protocol["num_images"] == NUM


def test_an_inverter_may_optimise(exact: Models) -> None:
    def invert(images: torch.Tensor) -> torch.Tensor:
        ws = torch.zeros(len(images), 3, 4, requires_grad=True)
        (gradient,) = torch.autograd.grad((exact.generator.synthesis(ws) - images).square().sum() / 2, ws)
        return ws - gradient

    found = measured(exact, invert, ws=torch.randn(5, 3, 4), batch_size=2)
    assert values(found) == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-5)


def test_no_edit_is_the_second_inversion_alone(exact: Models) -> None:
    found = measured(exact, lambda x: x[:, 0] + 0.5, edits={"no_edit": torch.zeros(3, 4)}, ws=torch.randn(1, 3, 4))
    assert list(found) == ["lec_no_edit", "lec_no_edit_all", "lec_no_edit_per_std", "lec_no_edit_image"]
    assert found["lec_no_edit"].value == pytest.approx(0.5 * 12**0.5, rel=1e-5)
    assert found["lec_no_edit_image"].value == pytest.approx(0.5, rel=1e-5)  # brightness
    assert {result.interval for result in found.values()} == {None}  # of one image


@pytest.mark.parametrize("space", ["s", "f8/w+"])
def test_spaces_without_ws_are_compared_in_their_own_deviations(models: Models, space: str) -> None:
    """One inverter returns the old latent, one follows the edit and misses by half a deviation in every number."""
    generator, found = models.generator, space_of(space, models.generator)
    codes = found.from_ws(generator.mapping(torch.randn(3, 8)), generator)
    shift, scale = 0.5 * torch.randn(generator.num_ws, 8), found.scale(generator)
    there = found.edited(codes, shift, generator)
    lec = {}
    for name, again in {"old": codes, "follows": there + 0.5 * scale}.items():
        errors = edit_errors(generator, codes, space=found, distance=Brightness(), edits={"e": shift},
                             invert=lambda _, again=again: again)  # fmt: skip
        length = ((there - codes) / scale).double().norm(dim=1)
        torch.testing.assert_close(errors["e"].lengths, length, rtol=1e-4, atol=1e-4)
        lec[name] = {each.name: each for each in consistency(models, errors, space=found)}
    if space == "s":  # undone exactly, from wherever; a map's edit depends on the w that it is made at
        assert lec["old"]["lec_e_per_edit"].value == pytest.approx(1, rel=1e-4)
        assert lec["follows"]["lec_e_per_std"].value == pytest.approx(0.5, rel=1e-3)
    assert lec["old"]["lec_e_in_s" if space == "s" else "lec_e_in_f8wplus"].protocol["compared_in"] == space
    assert lec["old"]["lec_e_per_std"].protocol["prior_deviation"] == pytest.approx(codes.shape[1] ** 0.5)


# --- how far images move ---


def latents_of(models: Models, ws: torch.Tensor) -> list[Latent]:
    return [Latent(each, "w+", models.fingerprint) for each in ws]


def test_pictures_move_in_proportion(exact: Models, a_direction: Callable[..., Direction]) -> None:
    """A unit adds 2 to two of twelve numbers: their mean moves by a third."""
    options = {"perceptual": Brightness(), "strengths": [-3, 0, 1], "batch_size": 4}
    (moved,) = editability(exact, latents_of(exact, torch.randn(9, 3, 4)), directions=[a_direction()], **options)
    assert moved.name == "moved_d"
    assert moved.value == pytest.approx(1 / 3, rel=1e-5)
    assert (moved.protocol["strengths"], moved.protocol["distance"]) == ([-3, 1], "brightness")


def test_no_strength_no_measure(exact: Models, a_direction: Callable[..., Direction]) -> None:
    options = {"perceptual": Brightness(), "strengths": [0]}
    with pytest.raises(UserError, match="^strengths must have one other than 0, got"):
        next(editability(exact, latents_of(exact, torch.zeros(1, 3, 4)), directions=[a_direction()], **options))
