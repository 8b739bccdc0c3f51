import gc
import sys

import pytest
import torch

from tests.fakes import straight, trajectory_of
from wplus.core.memory import MIB
from wplus.interpolation.path_metrics.cost import Cost, cost, measured

linux = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_left_over():
    """What earlier tests left in cycles would be freed within a block, which then seems to need less."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def hold(mib):
    torch.ones(mib * MIB // 4).sum()


def test_reported_as_measured(scores):
    assert scores(cost, trajectory_of(straight, cost=Cost(2.5, 300.0))) == {"seconds": 2.5, "memory_mib": 300}
    assert scores(cost, trajectory_of(straight, cost=Cost(2.5))) == {"seconds": 2.5}
    assert scores(cost, trajectory_of(straight)) == {}


@linux
def test_the_peak_is_that_of_the_block_above_what_was_held_before():
    costs, held = [], torch.ones(100 * MIB // 4)
    for mib in (0, 100, 0, 40):
        with measured(CPU) as found:
            hold(mib)
        costs.append(found.memory_mib)
    assert costs == pytest.approx([0, 100, 0, 40], abs=10)
    assert found.seconds > 0
    assert len(held)


@linux
def test_the_same_work_again_takes_the_same():
    """Small pieces, which the allocator keeps when they are freed."""
    for _ in range(3):
        with measured(CPU) as found:
            pieces = [torch.ones(10_000) for _ in range(1000)]
        del pieces
        assert found.memory_mib == pytest.approx(38, abs=8)


@linux
def test_blocks_within_each_other():
    with measured(CPU) as outer:
        hold(100)
        with measured(CPU) as inner:
            hold(40)
    assert [inner.memory_mib, outer.memory_mib] == pytest.approx([40, 100], abs=10)
    with measured(CPU) as outer, measured(CPU) as inner:
        hold(60)
    assert [inner.memory_mib, outer.memory_mib] == pytest.approx([60, 60], abs=10)
