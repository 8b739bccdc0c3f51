"""The peak memory of the outermost block covers blocks within it that reset the peak."""

import torch

from tests.pretended_gpu import pretended_gpu
from wplus.core.memory import peak_gib, peak_memory

GPU = torch.device("cuda", 0)


def test_the_peak_so_far_is_that_of_the_outermost_block(monkeypatch):
    held = {"most": 0}
    with pretended_gpu():
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: held["most"])
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: held.update(most=0))
        with peak_memory(GPU) as outer:
            held["most"] = 3 * 2**30
            with peak_memory(GPU) as inner:
                held["most"] = 2**30
                assert peak_gib(GPU) == 3
            assert peak_gib(GPU) == 3
        monkeypatch.undo()
    assert (inner.most, outer.most) == (1024, 3072)


def test_of_a_process_it_is_more_than_nothing():
    assert 0.01 < peak_gib() < 1000
    with peak_memory():
        assert 0.01 < peak_gib() < 1000
