import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from wplus.checkpoint import fingerprint
from wplus.errors import UserError
from wplus.interpolation.keyframes import Keyframes, keyframes_of
from wplus.latents.latent import Latent
from wplus.models.stylegan2 import Generator

NAMES = ("first", "second")


def latents(generator: Generator, spaces: Sequence[str]) -> list[Latent]:
    shapes = {"z": (8,), "z+": (generator.num_ws, 8), "w": (8,), "w+": (generator.num_ws, 8)}
    return [Latent(torch.randn(shapes[space]), space, fingerprint(generator)) for space in spaces]


@pytest.mark.parametrize(
    ("spaces", "common"),
    [
        ("z z", "z"), ("z w", "w"), ("w w", "w"), ("z w+", "w+"), ("w w+", "w+"), ("w+ w+", "w+"),
        ("z z+", "z+"), ("z+ z+", "z+"), ("z+ w", "w+"), ("z+ w+", "w+"),
    ],
)  # fmt: skip
def test_auto_is_the_first_space_that_holds_all(generator, spaces, common):
    assert keyframes_of(latents(generator, spaces.split()), generator, names=NAMES).space == common


@pytest.mark.parametrize("space", ["z", "z+", "w", "w+"])
def test_codes_of_their_own_space_stay_as_they_are(generator, space):
    pair = latents(generator, (space, space))
    points = keyframes_of(pair, generator, names=NAMES, space=space)
    assert torch.equal(points.codes, torch.stack([latent.code for latent in pair]))


def test_z_goes_through_mapping_and_w_is_repeated(generator):
    a, b = latents(generator, ("z", "w"))
    ws = generator.mapping(a.code[None])[0]
    in_w = keyframes_of([a, b], generator, names=NAMES, space="w")
    assert torch.equal(in_w.codes, torch.stack([ws[0], b.code]))
    in_wplus = keyframes_of([a, b], generator, names=NAMES, space="w+")
    assert torch.equal(in_wplus.codes, torch.stack([ws, b.code.expand(generator.num_ws, -1)]))


@pytest.mark.parametrize(("space", "target"), [("w", "z"), ("w+", "z"), ("w+", "w"), ("z+", "w"), ("w", "z+")])
def test_the_way_back_is_refused(generator, space, target):
    pair = latents(generator, (space, space))
    words = f"space of the {re.escape(space)} latent 'first' must be one of auto, .*, got '{re.escape(target)}'"
    with pytest.raises(UserError, match=words):
        keyframes_of(pair, generator, names=NAMES, space=target)
    with pytest.raises(UserError, match="space must be one of z, .*, got 'x'"):
        keyframes_of(pair, generator, names=NAMES, space="x")


def test_truncation_is_applied_on_the_way_and_kept_in_z(generator):
    pair = [replace(latent, truncation_psi=0.5) for latent in latents(generator, ("z", "z"))]
    expected = generator.mapping(torch.stack([latent.code for latent in pair]), truncation_psi=0.5)
    torch.testing.assert_close(keyframes_of(pair, generator, names=NAMES, space="w").codes, expected[:, 0])
    points = keyframes_of(pair, generator, names=NAMES, space="z")
    assert (points.truncation_psi, points.truncation_cutoff) == (0.5, None)


def test_a_cutoff_needs_wplus_and_different_truncations_cannot_meet_in_z(generator):
    a, b = latents(generator, ("z", "w"))
    a = replace(a, truncation_psi=0.5, truncation_cutoff=2)
    points = keyframes_of([a, b], generator, names=NAMES)
    assert points.space == "w+"
    expected = generator.mapping(a.code[None], truncation_psi=0.5, truncation_cutoff=2)[0]
    torch.testing.assert_close(points.codes[0], expected)
    with pytest.raises(UserError, match=r"'first': space must be w\+.*cutoff"):
        keyframes_of([a, b], generator, names=NAMES, space="w")
    with pytest.raises(UserError, match=r"the same truncation, got .*in w or w\+"):
        keyframes_of([a, *latents(generator, ("z",))], generator, names=NAMES, space="z")


def test_noise_policies(generator):
    a, b = (replace(latent, noise=tuple(layer[0] for layer in generator.synthesis.random_noise(1)))
            for latent in latents(generator, ("w", "w")))  # fmt: skip
    points = keyframes_of([a, b], generator, names=NAMES)
    for layer, first, second in zip(points.noise, a.noise, b.noise, strict=True):
        assert torch.equal(layer, torch.stack([first, second]))
    assert keyframes_of([a, b], generator, names=NAMES, noise="const").noise is None
    mixed = [a, replace(b, noise=None)]
    assert keyframes_of(mixed, generator, names=NAMES).noise is None
    with pytest.raises(UserError, match=r"noise must be auto or const .*'second'"):
        keyframes_of(mixed, generator, names=NAMES, noise="own")
    with pytest.raises(UserError, match="noise must be one of auto, const, own, got 'loud'"):
        keyframes_of(mixed, generator, names=NAMES, noise="loud")


def test_a_loop_ends_with_the_first_keyframe_and_its_weights(generator):
    a, b = latents(generator, ("w", "w"))
    points = keyframes_of([a, b], generator, names=NAMES, deltas=["change", None], closed=True)
    assert (points.names, points.deltas) == (("first", "second", "first"), ("change", None, "change"))
    assert torch.equal(points.codes, torch.stack([a.code, b.code, a.code]))
    assert keyframes_of([a, b], generator, names=NAMES, deltas=[None, None]).deltas is None


def test_backwards_everything_goes_along():
    noise, deltas = (torch.randn(3, 1, 4, 4),), (None, "second", "third")
    keyframes = Keyframes(torch.randn(3, 8), "z", ("a", "b", "c"), noise=noise, labels=torch.eye(3), deltas=deltas)
    back = keyframes.reversed()
    assert (back.names, back.deltas) == (("c", "b", "a"), ("third", "second", None))
    for there, turned in ((keyframes.codes, back.codes), (keyframes.labels, back.labels), (noise[0], back.noise[0])):
        assert torch.equal(turned, there.flip(0))
