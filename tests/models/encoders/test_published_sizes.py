"""The encoders of e4e, pSp and ReStyle at their published sizes; what they compute is tested with the golden cases."""

from typing import Any

import pytest
import torch

from wplus.models.encoders import ir_se
from wplus.models.encoders.base import Encoder
from wplus.models.encoders.e4e import Encoder4Editing, GradualStyleEncoder, WEncoder


def millions(cls: type[Encoder], **arguments: Any) -> float:
    with torch.device("meta"):
        return round(sum(parameter.numel() for parameter in cls(**arguments).parameters()) / 1e6, 1)


@pytest.mark.parametrize(("num_ws", "pyramid", "last"), [(10, 151.8, 128.0), (14, 209.5, 166.8), (18, 267.1, 205.6)])
def test_numbers_of_parameters(num_ws: int, pyramid: float, last: float) -> None:
    assert millions(Encoder4Editing, num_ws=num_ws) == pyramid
    assert millions(GradualStyleEncoder, num_ws=num_ws) == pyramid
    assert millions(Encoder4Editing, num_ws=num_ws, maps="last", is_iterative=True) == last


def test_the_backbone_of_each_depth() -> None:
    assert millions(WEncoder, num_ws=18) == 31.2
    assert ir_se.taps(50) == (6, 20, 23)
    with torch.device("meta"):
        assert [len(ir_se.body(depth)) for depth in (50, 100, 152)] == [24, 49, 50]


@pytest.mark.parametrize("depth", [50, 100, 152])
def test_the_taps_end_the_stages_of_strides_4_8_and_16(depth: int) -> None:
    with torch.device("meta"):
        units = ir_se.body(depth)
        outputs = ir_se.tapped(units, torch.zeros(1, 64, 64, 64), tuple(range(len(units))))
    taps = ir_se.taps(depth)
    assert [tuple(outputs[tap].shape[1:]) for tap in taps] == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert [outputs[tap + 1].shape[-1] for tap in taps[:2]] == [8, 4]
    assert taps[2] == len(units) - 1
