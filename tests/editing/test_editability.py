from __future__ import annotations

import pytest
import torch

from wplus.checkpoint import Models
from wplus.editing.editability import editability
from wplus.errors import UserError


def test_pictures_move_in_proportion(exact: Models, distance: torch.nn.Module, a_direction: object) -> None:
    """A unit adds 2 to two of twelve numbers: their mean moves by a third."""
    measured = editability(
        exact, torch.randn(9, 3, 4), directions=[a_direction()], perceptual=distance, strengths=[-3, 0, 1], batch_size=4
    )
    (moved,) = measured
    assert moved.name == "moved_d"
    assert moved.value == pytest.approx(1 / 3, rel=1e-5)
    assert (moved.protocol["strengths"], moved.protocol["distance"]) == ([-3, 1], "mean_difference")


def test_flips_are_counted(exact: Models, distance: torch.nn.Module, a_direction: object) -> None:
    """Classes by the sign of one number, which an edit of 1 raises by 2: those between -2 and 0 change."""
    ws = torch.zeros(8, 3, 4)
    ws[:, 0, 1] = torch.tensor([-5.0, -3, -1.5, -1, -0.5, 1, 2, 3])
    options = {"perceptual": distance, "strengths": [1.0], "classify": lambda x: x[:, 0, 0, 1] > 0, "batch_size": 3}
    *_, flipped = editability(exact, ws, directions=[a_direction()], **options)
    assert flipped.name == "flipped_d"
    assert flipped.value == 3 / 8
    low, high = flipped.interval
    assert 0 <= low < 3 / 8 < high <= 1


def test_no_strength_no_measure(exact: Models, distance: torch.nn.Module, a_direction: object) -> None:
    with pytest.raises(UserError, match="a strength other than 0"):
        next(editability(exact, torch.zeros(1, 3, 4), directions=[a_direction()], perceptual=distance, strengths=[0]))
