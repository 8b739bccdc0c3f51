from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wplus.editing.directions import Directions, load_directions, save_directions
from wplus.errors import UserError
from wplus.latents.latent import Latent, save_latent

MAKER = "0123456789abcdef"


def two(a_direction: object, **changes: object) -> Directions:
    notes = {"accuracy": 0.75, "attribute": "näme=1"}
    first, second = a_direction(notes=notes, **changes), a_direction(name="f", unit=0.1, origin=-1 / 3, **changes)
    return Directions((first, second), MAKER, {"finder": "svm", "seed": 3, "layers": [0, 2]})


def assert_equal(a: Directions, b: Directions) -> None:
    assert (a.generator, a.found, a.names) == (b.generator, b.found, b.names)
    for mine, theirs in zip(a, b, strict=True):
        for field in dataclasses.fields(mine):
            x, y = getattr(mine, field.name), getattr(theirs, field.name)
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, field.name


@pytest.mark.parametrize("per_layer", [False, True])
def test_round_trip(a_direction: object, tmp_path: Path, per_layer: bool) -> None:
    changes = {"vector": torch.randn(4, 3).T} if per_layer else {}
    directions = two(a_direction, **changes)
    path = save_directions(tmp_path / "sub" / "d.safetensors", directions)
    assert_equal(directions, load_directions(path, fingerprint=MAKER))
    assert load_directions(path, fingerprint=None).vectors.shape == ((2, 3, 4) if per_layer else (2, 4))
    assert [item.name for item in path.parent.iterdir()] == ["d.safetensors"]


def test_another_generator_is_refused(a_direction: object, tmp_path: Path) -> None:
    path = save_directions(tmp_path / "d.safetensors", two(a_direction))
    with pytest.raises(UserError, match="d.safetensors' are those of generator 0123456789abcdef, not of ffff"):
        load_directions(path, fingerprint="ffff")


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_truncated_files_are_refused(a_direction: object, tmp_path: Path, length: int) -> None:
    path = save_directions(tmp_path / "d.safetensors", two(a_direction))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="truncated"):
        load_directions(path, fingerprint=None)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    latent = save_latent(tmp_path / "latent.safetensors", Latent(torch.zeros(4), "w", MAKER))
    with pytest.raises(UserError, match="holds no directions"):
        load_directions(latent, fingerprint=MAKER)
    with pytest.raises(UserError, match="does not exist"):
        load_directions(tmp_path / "absent", fingerprint=MAKER)
    for header, word in (({"version": 99}, "format 99"), ({"version": 1, "directions": [{}]}, "incomplete")):
        save_file({"vectors": torch.zeros(1, 4)}, tmp_path / "d", metadata={"wplus_directions": json.dumps(header)})
        with pytest.raises(UserError, match=word):
            load_directions(tmp_path / "d", fingerprint=None)


def test_directions_are_chosen_by_name_and_number(a_direction: object) -> None:
    directions = two(a_direction)
    assert [item.name for item in directions.choose("all")] == ["d", "f"]
    assert [item.name for item in directions.choose(["f", 0])] == ["f", "d"]
    assert directions.choose(1)[0] is directions["f"]
    for choice in ("g", 2, -1):
        with pytest.raises(UserError, match=f"no direction '{choice}'; there are d, f, or numbers from 0 to 1"):
            directions.choose(choice)


def test_other_layers(a_direction: object) -> None:
    direction = a_direction()
    assert direction.pattern.nonzero().tolist() == [[0, 1], [2, 1]]
    assert direction.on("middle").pattern.nonzero().tolist() == [[1, 1]]
    with pytest.raises(UserError, match="vector for each layer"):
        a_direction(vector=torch.ones(3, 4)).on("all")


def test_coordinates_count_units_from_the_origin(a_direction: object) -> None:
    """The mean of layers 0 and 2 along the second number, minus 0.5, in units of 2."""
    ws = torch.randn(5, 3, 4)
    expected = ((ws[:, 0, 1] + ws[:, 2, 1]) / 2 - 0.5) / 2
    torch.testing.assert_close(a_direction().coordinates(ws), expected)
    vector = torch.nn.functional.normalize(torch.randn(12), dim=0).view(3, 4)
    expected = ((ws * vector).sum(dim=(1, 2)) - 0.5) / 2
    torch.testing.assert_close(a_direction(vector=vector, layers=(0, 1, 2)).coordinates(ws), expected)


def test_no_spread_no_direction(a_direction: object) -> None:
    with pytest.raises(UserError, match="do not differ along 'd'"):
        a_direction(unit=0.0)
