"""A run starts only if the requested device exists."""

import contextlib
import ctypes

import pytest
import torch

from wplus.core import runtime as devices
from wplus.core.runtime import Runtime, eval_mode, keep_freed_memory, now, resolve_device
from wplus.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has so many GPUs."""

    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)

    return pretend


def test_auto_takes_a_gpu_where_there_is_one_and_what_exists_is_taken_by_name(gpus):
    gpus(0)
    assert resolve_device("auto") == torch.device("cpu")
    gpus(2)
    names = ("auto", "cpu", "cuda", "cuda:1")
    assert [str(resolve_device(name)) for name in names] == ["cuda", "cpu", "cuda", "cuda:1"]


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_absent_gpus_are_refused(gpus, name, count):
    gpus(count)
    message = rf"^device={name} needs more than this machine has, {count} device\(s\) of type cuda; use device=cpu"
    with pytest.raises(UserError, match=message):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "xla", "cpu:3"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match=rf"^device(=| must be .*'){name}"):
        resolve_device(name)


@pytest.mark.parametrize("threads", [0, -3, 2.5, True, 10**9])
def test_threads_are_counted_from_one(threads):
    with pytest.raises(UserError, match=f"threads must be a whole number of at least 1 .*, got {threads}"):
        Runtime.prepare("cpu", threads=threads)


def test_keeping_memory_is_harmless_and_optional(monkeypatch):
    def absent(name: str) -> None:
        raise OSError(name)

    for library in (devices.ctypes.CDLL, absent, lambda name: ctypes):  # the last one has no mallopt
        monkeypatch.setattr(devices.ctypes, "CDLL", library)
        keep_freed_memory()
    assert torch.ones(1 << 20).sum() == 1 << 20


@pytest.mark.parametrize(("device", "rank", "current"), [("cuda:1", "0", 1), ("cuda", "1", 1), ("auto", "0", 0)])
def test_the_device_asked_for_is_the_current_one(gpus, monkeypatch, device, rank, current):
    """Streams, graphs and Triton's kernels go to the current one."""
    gpus(2)
    made = list[int]()
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setenv("LOCAL_RANK", rank)
    assert Runtime.prepare(device).device == torch.device("cuda" if device == "auto" else device)
    assert Runtime.prepare("cpu").device.type == "cpu"
    assert made == [current]


def test_eval_mode_leaves_every_module_as_it_was():
    network = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2).eval())
    for error in (None, KeyError):
        with contextlib.suppress(KeyError), eval_mode(network) as inside:
            assert not any(module.training for module in inside.modules())
            if error:
                raise error
        assert [module.training for module in network.modules()] == [True, True, False]


def test_the_clock_goes_forward():
    assert now(torch.device("cpu")) <= now(torch.device("cpu"))
