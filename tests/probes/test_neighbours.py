"""A planted copy is found; distances are those of a loop."""

from __future__ import annotations

import pytest
import torch

from tests.probes.conftest import make_images
from wplus.core.images import to_float, to_uint8
from wplus.errors import UserError
from wplus.probes import neighbours as module
from wplus.probes.neighbours import nearest_of, neighbours


@pytest.fixture
def drawn(monkeypatch):
    """What was to be drawn, in place of the drawing."""
    calls = []
    monkeypatch.setattr(module, "matrix", lambda rows, **words: calls.append((rows, words)))
    return calls


def test_a_planted_copy_comes_first(scene, drawn):
    here = scene(held_out=make_images(20))
    copy = to_float(here.data.images[23])
    make = here._make
    mean = to_float(here.data.images).mean(dim=0)  # nearer to all others than the copy is
    here._make = lambda number: torch.cat([mean[None], make(number)[1:5], copy[None], make(number)[6:]])
    seen = neighbours(here, num_images=32, k=3, num_rows=2)
    ((rows, words),) = drawn
    assert len(rows) == 4
    (image, _), (nearest, distance), *others = rows[0]
    assert torch.equal(image, copy)
    assert nearest[0, 0, 0] == 23
    assert distance == "0"
    assert len(others) == 2
    assert float(others[0][1]) > 0
    assert [len(row) for row in rows] == [4] * 4
    assert words["left"] == ["closest\nof 32"] * 2 + ["as they\ncome"] * 2
    assert "all 40 training images, with distances by raw" in seen.pictures[0].caption


def test_copies_of_the_data_are_told_from_new_images(scene, drawn):
    here = scene(held_out=make_images(20))
    assert neighbours(here, num_images=20).values["watch/nearest_raw"] > 0.5
    here = scene(held_out=make_images(20))
    here._make = lambda number: to_float(here.data.images[:32])
    assert neighbours(here, num_images=20).values == {"watch/nearest_raw": 0}
    assert neighbours(scene(), num_images=20).values == {}


def test_the_number_is_a_ratio_of_medians(scene, drawn):
    here = scene(held_out=make_images(19))
    real = here.real(40).flatten(1).double()
    sides = [to_uint8(here.generated(19)), here.held_out_images(19)]
    generated, held_out = (
        torch.tensor([min((row - other).norm().item() for other in real) for row in side.flatten(1).double()])
        for side in sides
    )
    found = neighbours(here, num_images=19).values["watch/nearest_raw"]
    assert found == pytest.approx((generated.median() / held_out.median()).item(), rel=1e-5)


def test_nearest_as_a_loop_finds_them():
    vectors, real = torch.randn(5, 3), torch.randn(11, 3)
    distances, numbers = nearest_of(vectors, real, 4)
    for row, vector in enumerate(vectors):
        expected = sorted((float((vector - other).norm()), number) for number, other in enumerate(real))[:4]
        assert numbers[row].tolist() == [number for _, number in expected]
        assert distances[row].tolist() == pytest.approx([distance for distance, _ in expected], rel=1e-5)


def test_a_part_of_the_data_is_said_to_be_one(scene, drawn):
    seen = neighbours(scene(), num_images=3, num_real=7, k=9)
    assert "nearest of 7 of 40 training images" in seen.pictures[0].caption
    assert [len(row) for row in drawn[0][0]] == [8] * 6  # three images: as the closest, and as they come
    with pytest.raises(UserError, match=r"^k must be .*, got 0"):
        neighbours(scene(), k=0)
