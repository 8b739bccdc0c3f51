"""The encoders at their published sizes; the golden cases test what they compute."""

from functools import partial

import pytest
import torch

from wplus.models.encoders import ir_se
from wplus.models.encoders.e4e import Encoder4Editing, GradualStyleEncoder, WEncoder
from wplus.models.encoders.small import SmallEncoder
from wplus.models.layers import outputs_at

RESTYLE = partial(Encoder4Editing, maps="last", is_iterative=True)


@pytest.mark.parametrize(("kind", "size", "millions"), [
    *((kind, {"num_ws": num_ws}, millions) for num_ws, pyramid, last in [(10, 151.8, 128.0), (18, 267.1, 205.6)]
      for kind, millions in ((Encoder4Editing, pyramid), (GradualStyleEncoder, pyramid), (RESTYLE, last))),
    (WEncoder, {"num_ws": 18}, 31.2),
    (SmallEncoder, {"w_dim": 128, "num_ws": 8, "input_size": 32}, 2.9),
    (SmallEncoder, {"w_dim": 512, "num_ws": 8, "input_size": 32}, 4.4),
    (SmallEncoder, {"w_dim": 512, "num_ws": 14, "input_size": 256}, 6.0),
])  # fmt: skip
def test_numbers_of_parameters(kind, size, millions):
    with torch.device("meta"):
        assert round(sum(parameter.numel() for parameter in kind(**size).parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(("depth", "num_units"), [(50, 24), (100, 49), (152, 50)])
def test_the_taps_end_the_stages_of_strides_4_8_and_16(depth, num_units):
    with torch.device("meta"):
        units = ir_se.body(depth)
        outputs = outputs_at(units, torch.zeros(1, 64, 64, 64), tuple(range(len(units))))
    taps = ir_se.taps(depth)
    assert len(units) == num_units == taps[2] + 1
    assert [tuple(outputs[tap].shape[1:]) for tap in taps] == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert [outputs[tap + 1].shape[-1] for tap in taps[:2]] == [8, 4]
