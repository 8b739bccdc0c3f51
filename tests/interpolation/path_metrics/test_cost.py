from __future__ import annotations

import sys

import pytest
import torch

from wplus.interpolation.cost import MIB, Cost, measured
from wplus.interpolation.path_metrics.cost import cost


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
    assert large.memory_mib == pytest.approx(100, abs=10)
    assert before.memory_mib < 10
    assert after.memory_mib < 10
    assert large.seconds > 0


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_what_was_held_before_does_not_count():
    held = torch.ones(100 * MIB // 4)
    with measured(torch.device("cpu")) as found:
        torch.ones(40 * MIB // 4).sum()
    assert found.memory_mib == pytest.approx(40, abs=10)
    assert len(held)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_the_same_work_again_takes_the_same():
    """Small pieces, which the allocator keeps when they are freed."""
    peaks = []
    for _ in range(3):
        with measured(torch.device("cpu")) as found:
            pieces = [torch.ones(10_000) for _ in range(1000)]
        del pieces
        peaks.append(found.memory_mib)
    assert peaks == pytest.approx([38] * 3, abs=8)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_blocks_within_each_other():
    with measured(torch.device("cpu")) as outer:
        torch.ones(100 * MIB // 4).sum()
        with measured(torch.device("cpu")) as inner:
            torch.ones(40 * MIB // 4).sum()
    assert inner.memory_mib == pytest.approx(40, abs=10)
    assert outer.memory_mib == pytest.approx(100, abs=10)
    with measured(torch.device("cpu")) as outer, measured(torch.device("cpu")) as inner:
        torch.ones(60 * MIB // 4).sum()
    assert [inner.memory_mib, outer.memory_mib] == pytest.approx([60, 60], abs=10)
