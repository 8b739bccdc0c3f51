"""A planted copy is found; distances are those of a loop."""

import pytest
import torch

from tests.probes.conftest import make_images, numbers
from wplus.core.images import to_float, to_uint8
from wplus.errors import UserError
from wplus.probes import neighbours as module
from wplus.probes.neighbours import nearest_of, neighbours


@pytest.fixture
def drawn(monkeypatch):
    """Record what would have been drawn, instead of drawing."""
    calls = []
    monkeypatch.setattr(module, "labelled_grid", lambda rows, **text: calls.append((rows, text)))
    return calls


def test_a_planted_copy_comes_first(context, drawn):
    here, data = context(held_out=make_images(20)), make_images()
    copy, mean = to_float(data.images[23]), to_float(data.images).mean(dim=0)  # nearer to all others than the copy is
    made = here.images("generated", 32)
    here._generated = lambda number: torch.cat([mean[None], made[1:5], copy[None], made[6:]])
    result = neighbours(here, num_images=32, k=3, num_rows=2)
    ((rows, text),) = drawn
    assert [len(row) for row in rows] == [4] * 4
    assert torch.equal(rows[0][0], copy)
    assert rows[0][1][0, 0, 0] == 23
    assert text["captions"][0][:2] == ["", "0"]
    assert float(text["captions"][0][2]) > 0
    assert text["left"] == ["closest\nof 32"] * 2 + ["as they\ncome"] * 2
    assert text["top"] == ["generated", "nearest", "2", "3"]
    assert "all 40 training images, with distances by raw" in result.pictures[0].caption


def test_the_number_is_a_ratio_of_medians(context, drawn):
    copies = to_float(make_images().images[:32])
    here = context(held_out=make_images(20), images=lambda number: copies)
    assert numbers(neighbours(here, num_images=20)) == {"probe/nearest_raw": 0}
    assert numbers(neighbours(context(), num_images=20)) == {}
    here = context(held_out=make_images(19))
    real = here.images("train", 40).flatten(1).double()
    sides = [to_uint8(here.images("generated", 19)), here.images("held_out", 19)]
    generated, held_out = (
        torch.tensor([min((row - other).norm().item() for other in real) for row in side.flatten(1).double()])
        for side in sides
    )
    found = numbers(neighbours(here, num_images=19))["probe/nearest_raw"]
    assert found == pytest.approx((generated.median() / held_out.median()).item(), rel=1e-5)


def test_nearest_as_a_loop_finds_them():
    vectors, real = torch.randn(5, 3), torch.randn(11, 3)
    distances, numbers = nearest_of(vectors, real, 4)
    for row, vector in enumerate(vectors):
        expected = sorted((float((vector - other).norm()), number) for number, other in enumerate(real))[:4]
        assert numbers[row].tolist() == [number for _, number in expected]
        assert distances[row].tolist() == pytest.approx([distance for distance, _ in expected], rel=1e-5)


def test_a_part_of_the_data_is_said_to_be_one(context, drawn):
    result = neighbours(context(), num_images=3, num_real=7, k=9)
    assert "nearest of 7 of 40 training images" in result.pictures[0].caption
    assert [len(row) for row in drawn[0][0]] == [8] * 6  # three images: as the closest, and as they come
    with pytest.raises(UserError, match=r"^k must be .*, got 0"):
        neighbours(context(), k=0)
