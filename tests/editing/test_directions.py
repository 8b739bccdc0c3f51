import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wplus.checkpoint import Models
from wplus.editing.directions import (
    Direction,
    Directions,
    edit_latent,
    edit_ws,
    load_directions,
    save_directions,
    select_layers,
)
from wplus.errors import UserError
from wplus.latents.latent import Latent, synthesize

Make = Callable[..., Direction]
MAKER = "0123456789abcdef"


def two(a_direction: Make, **changes: object) -> Directions:
    notes = {"accuracy": 0.75, "attribute": "näme=1"}
    first, second = a_direction(notes=notes, **changes), a_direction(name="f", unit=0.1, origin=-1 / 3, **changes)
    return Directions((first, second), MAKER, {"finder": "svm", "seed": 3, "layers": [0, 2]})


@pytest.mark.parametrize("per_layer", [False, True])
def test_round_trip(a_direction: Make, tmp_path: Path, per_layer: bool) -> None:
    changes = {"vector": torch.randn(4, 3).T} if per_layer else {}
    directions = two(a_direction, **changes)
    path = save_directions(tmp_path / "sub" / "d.safetensors", directions)
    read = load_directions(path, fingerprint=MAKER)
    assert (read.generator, read.found) == (directions.generator, directions.found)
    for mine, theirs in zip(read, directions, strict=True):
        assert torch.equal(mine.vector, theirs.vector)
        assert dataclasses.replace(mine, vector=None) == dataclasses.replace(theirs, vector=None)
    assert load_directions(path, fingerprint=None).vectors.shape == ((2, 3, 4) if per_layer else (2, 4))
    assert [item.name for item in path.parent.iterdir()] == ["d.safetensors"]
    with pytest.raises(UserError, match="d.safetensors' are those of generator 0123456789abcdef, not of ffff"):
        load_directions(path, fingerprint="ffff")


def test_directions_are_chosen_by_name_and_number(a_direction: Make) -> None:
    directions = two(a_direction)
    assert [item.name for item in directions.choose("all")] == ["d", "f"]
    assert [item.name for item in directions.choose(["f", 0])] == ["f", "d"]
    assert directions.choose(1)[0] is directions["f"]
    for choice in ("g", 2, -1):
        with pytest.raises(
            UserError, match=f"^direction must be one of d, f, or a number from 0 to 1, got {choice!r}[.]$"
        ):
            directions.choose(choice)


def test_other_layers(a_direction: Make) -> None:
    direction = a_direction()
    assert direction.pattern.nonzero().tolist() == [[0, 1], [2, 1]]
    assert direction.on("middle").pattern.nonzero().tolist() == [[1, 1]]
    with pytest.raises(UserError, match="vector for each layer"):
        a_direction(vector=torch.ones(3, 4)).on("all")


def test_coordinates_count_units_from_the_origin(a_direction: Make) -> None:
    """The mean of layers 0 and 2 along the second number, minus 0.5, in units of 2."""
    ws = torch.randn(5, 3, 4)
    expected = ((ws[:, 0, 1] + ws[:, 2, 1]) / 2 - 0.5) / 2
    torch.testing.assert_close(a_direction().coordinates(ws), expected)
    vector = torch.nn.functional.normalize(torch.randn(12), dim=0).view(3, 4)
    expected = ((ws * vector).sum(dim=(1, 2)) - 0.5) / 2
    torch.testing.assert_close(a_direction(vector=vector, layers=(0, 1, 2)).coordinates(ws), expected)


@pytest.mark.parametrize("num_ws", range(4, 19))
def test_thirds_share_the_layers(num_ws: int) -> None:
    thirds = [select_layers(name, num_ws) for name in ("coarse", "middle", "fine")]
    assert sum(thirds, ()) == tuple(range(num_ws)) == select_layers("all", num_ws)
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1
    assert len(thirds[0]) >= len(thirds[2])
    assert select_layers([3, 0, 3], num_ws) == (0, 3)


@pytest.mark.parametrize(
    ("layers", "word"),
    [
        ("low", "all, coarse, middle, fine or a list of numbers, got 'low'"),
        ([8], r"0 to 7, .*, got \[8\]"),
        ([-1], "0 to 7"),
        ([], "0 to 7"),
    ],
)
def test_what_is_not_there_is_refused(layers: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        select_layers(layers, 8)


# --- edits ---


def test_add_moves_every_code_equally_far(a_direction: Make) -> None:
    ws = torch.randn(5, 3, 4)
    expected = ws.clone()
    expected[:, [0, 2], 1] += 1.5 * 2
    torch.testing.assert_close(edit_ws(ws, a_direction(), 1.5), expected)
    torch.testing.assert_close(edit_ws(ws, a_direction(), 1.5), ws + a_direction().shift(1.5))
    torch.testing.assert_close(edit_ws(edit_ws(ws, a_direction(), 1.5), a_direction(), -1.5), ws)


@pytest.mark.parametrize("per_layer", [False, True])
def test_set_moves_every_code_to_the_strength(a_direction: Make, per_layer: bool) -> None:
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


def a_latent(models: Models, space: str, **more: object) -> Latent:
    shape = {"z": (8,), "z+": (6, 8), "w": (8,), "w+": (6, 8)}[space]
    return Latent(torch.randn(shape), space, models.fingerprint, **more)


@pytest.mark.parametrize(("space", "layers", "becomes"), [
    ("z", "all", "w"), ("w", "all", "w"), ("w", "fine", "w+"), ("w+", "all", "w+"), ("z+", "all", "w+"),
])  # fmt: skip
def test_a_latent_of_every_space(models: Models, a_direction: Make, space: str, layers: str, becomes: str) -> None:
    direction = a_direction(vector=torch.eye(8)[1], num_ws=6).on(layers)
    given = a_latent(models, space)
    edited = edit_latent(given, models.generator, direction, 2.0)
    assert (edited.space, edited.generator, edited.truncation_psi) == (becomes, given.generator, 1)
    assert edited.metadata == {"direction": "d", "strength": "2", "mode": "add"}
    unedited = edit_latent(given, models.generator, direction, 0.0)
    torch.testing.assert_close(*(synthesize([one], models.generator) for one in (given, unedited)))


def test_truncation_and_noise_go_along(models: Models, a_direction: Make) -> None:
    noise = tuple(torch.randn(1, *shape) for shape in models.generator.synthesis.noise_shapes)
    for layer in models.generator.synthesis.noise_layers:
        layer.noise_strength.fill_(0.3)
    given = a_latent(models, "z", noise=noise, truncation_psi=0.5, truncation_cutoff=2)
    unedited = edit_latent(given, models.generator, a_direction(vector=torch.eye(8)[1], num_ws=6), 0.0)
    assert unedited.space == "w+"  # the cutoff has made its layers different
    torch.testing.assert_close(*(synthesize([one], models.generator) for one in (given, unedited)))


def test_an_unknown_mode_and_a_direction_without_spread_are_refused(a_direction: Make) -> None:
    with pytest.raises(UserError, match="^mode must be one of add, set, got 'move'[.]$"):
        edit_ws(torch.zeros(1, 3, 4), a_direction(), 1.0, mode="move")
    with pytest.raises(UserError, match="do not differ along 'd'"):
        a_direction(unit=0.0)
