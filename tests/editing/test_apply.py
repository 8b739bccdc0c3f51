from __future__ import annotations

import pytest
import torch

from wplus.checkpoint import Models
from wplus.editing.apply import edit_latent, edit_ws
from wplus.errors import UserError
from wplus.latents.latent import Latent, synthesize


def test_add_moves_every_code_equally_far(a_direction: object) -> None:
    ws = torch.randn(5, 3, 4)
    expected = ws.clone()
    expected[:, [0, 2], 1] += 1.5 * 2
    torch.testing.assert_close(edit_ws(ws, a_direction(), 1.5), expected)
    torch.testing.assert_close(edit_ws(ws, a_direction(), 1.5), ws + a_direction().shift(1.5))
    torch.testing.assert_close(edit_ws(edit_ws(ws, a_direction(), 1.5), a_direction(), -1.5), ws)


@pytest.mark.parametrize("per_layer", [False, True])
def test_set_moves_every_code_to_the_strength(a_direction: object, per_layer: bool) -> None:
    ws, strengths = torch.randn(5, 3, 4), (-2.0, 0.0, 1.5)
    vector = torch.nn.functional.normalize(torch.randn(12), dim=0).view(3, 4)
    direction = a_direction(vector=vector, layers=(0, 1, 2)) if per_layer else a_direction()
    for strength in strengths:
        edited = edit_ws(ws, direction, strength, mode="set")
        torch.testing.assert_close(direction.coordinates(edited), torch.full((5,), strength), rtol=0, atol=1e-5)
        # What does not lie along the direction stays.
        pattern = direction.pattern / direction.pattern.norm()
        rest = [x - (x * pattern).sum(dim=(1, 2), keepdim=True) * pattern for x in (ws, edited)]
        torch.testing.assert_close(*rest)


def test_set_in_closed_form(a_direction: object) -> None:
    """GANSpace: w + (target - <w, n>) n, with origin 0.5 and units of 2, in the mean over layers."""
    ws = torch.tensor([[[0.0, 1, 0, 0], [0, 9, 0, 0], [0, 3, 0, 0]]])  # mean of layers 0 and 2: 2
    edited = edit_ws(ws, a_direction(), 1.0, mode="set")  # coordinate 1 is 0.5 + 2 = 2.5: half a step up
    assert edited[0, :, 1].tolist() == [1.5, 9, 3.5]


def latent(models: Models, space: str, **more: object) -> Latent:
    shape = {"z": (8,), "z+": (6, 8), "w": (8,), "w+": (6, 8)}[space]
    return Latent(torch.randn(shape), space, models.fingerprint, **more)


@pytest.mark.parametrize(("space", "layers", "becomes"), [
    ("z", "all", "w"), ("w", "all", "w"), ("w", "fine", "w+"), ("w+", "all", "w+"), ("z+", "all", "w+"),
])  # fmt: skip
def test_a_latent_of_every_space(models: Models, a_direction: object, space: str, layers: str, becomes: str) -> None:
    direction = a_direction(vector=torch.eye(8)[1], num_ws=6).on(layers)
    given = latent(models, space)
    edited = edit_latent(given, models.generator, direction, 2.0)
    assert (edited.space, edited.generator, edited.truncation_psi) == (becomes, given.generator, 1)
    assert edited.metadata == {"direction": "d", "strength": "2", "mode": "add"}
    unedited = edit_latent(given, models.generator, direction, 0.0)
    torch.testing.assert_close(*(synthesize([one], models.generator) for one in (given, unedited)))


def test_truncation_and_noise_go_along(models: Models, a_direction: object) -> None:
    noise = tuple(torch.randn(1, *shape) for shape in models.generator.synthesis.noise_shapes)
    for layer in models.generator.synthesis.noise_layers:
        layer.noise_strength.fill_(0.3)
    given = latent(models, "z", noise=noise, truncation_psi=0.5, truncation_cutoff=2)
    unedited = edit_latent(given, models.generator, a_direction(vector=torch.eye(8)[1], num_ws=6), 0.0)
    assert unedited.space == "w+"  # the cutoff has made its layers different
    torch.testing.assert_close(*(synthesize([one], models.generator) for one in (given, unedited)))


def test_an_unknown_mode_is_refused(a_direction: object) -> None:
    with pytest.raises(UserError, match="mode=move is not known; allowed are add, set"):
        edit_ws(torch.zeros(1, 3, 4), a_direction(), 1.0, mode="move")
