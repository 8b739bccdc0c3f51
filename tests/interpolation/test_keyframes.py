from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wplus.checkpoint import fingerprint
from wplus.errors import UserError
from wplus.interpolation.keyframes import key_points
from wplus.latents.latent import Latent
from wplus.models.stylegan2 import Generator

NAMES = ("first", "second")


def latents(generator: Generator, spaces: tuple[str, str]) -> list[Latent]:
    shapes = {"z": (8,), "z+": (generator.num_ws, 8), "w": (8,), "w+": (generator.num_ws, 8)}
    return [Latent(torch.randn(shapes[space]), space, fingerprint(generator)) for space in spaces]


def own_noise(generator: Generator) -> tuple[torch.Tensor, ...]:
    return tuple(layer[0] for layer in generator.synthesis.random_noise(1))


@pytest.mark.parametrize(
    ("spaces", "common"),
    [
        ("z z", "z"), ("z w", "w"), ("w w", "w"), ("z w+", "w+"), ("w w+", "w+"), ("w+ w+", "w+"),
        ("z z+", "z+"), ("z+ z+", "z+"), ("z+ w", "w+"), ("z+ w+", "w+"),
    ],
)  # fmt: skip
def test_auto_is_the_first_space_that_holds_all(generator: Generator, spaces: str, common: str) -> None:
    points = key_points(latents(generator, tuple(spaces.split())), generator, names=NAMES)
    assert points.space == common


@pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])
def test_codes_of_their_own_space_stay_as_they_are(generator: Generator, space: str) -> None:
    pair = latents(generator, (space, space))
    points = key_points(pair, generator, names=NAMES, space=space)
    assert torch.equal(points.codes, torch.stack([latent.code for latent in pair]))


def test_z_goes_through_mapping_and_w_is_repeated(generator: Generator) -> None:
    a, b = latents(generator, ("z", "w"))
    ws = generator.mapping(a.code[None])[0]
    in_w = key_points([a, b], generator, names=NAMES, space="w")
    assert torch.equal(in_w.codes, torch.stack([ws[0], b.code]))
    in_wplus = key_points([a, b], generator, names=NAMES, space="w+")
    assert torch.equal(in_wplus.codes, torch.stack([ws, b.code.expand(generator.num_ws, -1)]))


@pytest.mark.parametrize(("space", "target"), [("w", "z"), ("w+", "z"), ("w+", "w"), ("z+", "w"), ("w", "z+")])
def test_the_way_back_is_refused(generator: Generator, space: str, target: str) -> None:
    pair = latents(generator, (space, space))
    with pytest.raises(UserError, match=f"'first' is a latent of {space[0]}.*cannot go to {target[0]}"):
        key_points(pair, generator, names=NAMES, space=target)


def test_an_unknown_space_is_refused(generator: Generator) -> None:
    with pytest.raises(UserError, match=r"space=x .*auto, z, z\+, w, w\+"):
        key_points(latents(generator, ("z", "z")), generator, names=NAMES, space="x")


def test_truncation_is_applied_on_the_way_and_kept_in_z(generator: Generator) -> None:
    pair = [replace(latent, truncation_psi=0.5) for latent in latents(generator, ("z", "z"))]
    expected = generator.mapping(torch.stack([latent.code for latent in pair]), truncation_psi=0.5)
    torch.testing.assert_close(key_points(pair, generator, names=NAMES, space="w").codes, expected[:, 0])
    points = key_points(pair, generator, names=NAMES, space="z")
    assert (points.truncation_psi, points.truncation_cutoff) == (0.5, None)


def test_a_cutoff_needs_wplus(generator: Generator) -> None:
    a, b = latents(generator, ("z", "w"))
    a = replace(a, truncation_psi=0.5, truncation_cutoff=2)
    points = key_points([a, b], generator, names=NAMES)
    assert points.space == "w+"
    expected = generator.mapping(a.code[None], truncation_psi=0.5, truncation_cutoff=2)[0]
    torch.testing.assert_close(points.codes[0], expected)
    with pytest.raises(UserError, match="'first' has a truncation cutoff"):
        key_points([a, b], generator, names=NAMES, space="w")


def test_different_truncations_cannot_meet_in_z(generator: Generator) -> None:
    a, b = latents(generator, ("z", "z"))
    with pytest.raises(UserError, match=r"differ in truncation .*in w or w\+"):
        key_points([replace(a, truncation_psi=0.7), b], generator, names=NAMES, space="z")


def test_noise_policies(generator: Generator) -> None:
    a, b = (replace(latent, noise=own_noise(generator)) for latent in latents(generator, ("w", "w")))
    points = key_points([a, b], generator, names=NAMES)
    assert [tuple(layer.shape) for layer in points.noise] == [
        (2, 1, *shape) for shape in generator.synthesis.noise_shapes
    ]
    assert torch.equal(points.noise[3][1], b.noise[3])
    assert key_points([a, b], generator, names=NAMES, noise="const").noise is None
    mixed = [a, replace(b, noise=None)]
    assert key_points(mixed, generator, names=NAMES).noise is None
    with pytest.raises(UserError, match="'second' has none"):
        key_points(mixed, generator, names=NAMES, noise="own")
    with pytest.raises(UserError, match="noise=loud"):
        key_points(mixed, generator, names=NAMES, noise="loud")
