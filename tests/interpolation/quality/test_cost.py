from __future__ import annotations

import sys

import pytest
import torch

from wplus.interpolation.cost import MIB, Cost, measured
from wplus.interpolation.quality.cost import cost


def test_reported_as_measured(make_walk, ways, judges):
    at = ways["straight"].at
    assert cost(make_walk(at, cost=Cost(2.5, 300.0)), judges) == {"seconds": 2.5, "memory_mib": 300}
    assert cost(make_walk(at, cost=Cost(2.5)), judges) == {"seconds": 2.5}
    assert cost(make_walk(at), judges) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_the_peak_is_that_of_the_block():
    with measured(torch.device("cpu")) as before:
        pass
    with measured(torch.device("cpu")) as large:
        torch.ones(100 * MIB // 4).sum()
    with measured(torch.device("cpu")) as after:
        pass
    assert large.memory_mib > before.memory_mib + 90
    assert after.memory_mib < large.memory_mib - 90
    assert large.seconds > 0
