"""Options of the metrics of a walk that make no sense."""

from __future__ import annotations

import pytest

from wplus.errors import UserError
from wplus.interpolation.path_metrics.ppl import pair_ppl
from wplus.interpolation.path_metrics.steps import curvature
from wplus.interpolation.path_metrics.symmetry import symmetry


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        (pair_ppl, {"num_samples": 0}),
        (pair_ppl, {"epsilon": 0}),
        (curvature, {"num_pieces": 1}),
        (symmetry, {"num_frames": 1}),
        (symmetry, {"share": 2}),
        (symmetry, {"share": -0.1}),
    ],
)
def test_refused_in_a_sentence(ways, judges, metric, options):
    ((name, value),) = options.items()
    with pytest.raises(UserError, match=f"{name}={value}.* not allowed"):
        metric(ways["straight"], judges, **options)
