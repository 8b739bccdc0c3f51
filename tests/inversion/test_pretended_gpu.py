"""Every inverter on a pretended GPU: no mix of devices, the CPU's numbers bit for bit, no wait or upload for a step."""

import copy
import dataclasses
import inspect
from collections import Counter
from functools import partial

import pytest
import torch

from tests.fakes import PIXELS_ONLY, generated, tiny_generator
from tests.inversion.test_inverters import NAMES, inverter, shortened, spaces_of, task_of
from tests.pretended_gpu import GPU, OnGpu, moved, pretended_gpu
from wplus.inversion.lbfgs import lbfgs
from wplus.inversion.optimize import optimize
from wplus.inversion.task import InversionTask, unwrapped

FURTHER = {
    "restarts": shortened(optimize, restarts=1, early_stop={"patience": 2, "tolerance": 0.5}),
    "restarts of L-BFGS": shortened(lbfgs, restarts=1),
    "noise": shortened(optimize, noise="optimize", loss_weights={**PIXELS_ONLY, "noise": 1.0, "prior": 0.1}),
    "preconditioned noise": shortened(lbfgs, noise="optimize", init="best_of_n"),
}
ONCE = "models/ops.py:_fir"  # uploads a filter when it is first used
INVERTERS = {name: inverter(name) for name in NAMES} | FURTHER
CASES = [(name, "w+") for name in INVERTERS] + [("lbfgs", space) for space in spaces_of("lbfgs") if space != "w+"]


def on_gpu(task: InversionTask) -> InversionTask:
    """The same task on the GPU."""
    masks, labels = (None if each is None else OnGpu(each) for each in (task.masks, task.labels))
    networks = {"generator": moved(copy.deepcopy(task.generator)), "encoder": moved(copy.deepcopy(task.encoder))}
    return dataclasses.replace(task, images=OnGpu(task.images), masks=masks, labels=labels, **networks)


@pytest.mark.parametrize(("name", "space"), CASES)
def test_an_inversion_is_the_cpus(monkeypatch, name, space):
    monkeypatch.setattr("wplus.models.ops.prefers_per_sample_weights", lambda *_: False)
    generator, invert = tiny_generator(c_dim=3), INVERTERS[name]
    labels = torch.eye(3)[[0, 2, 0]]
    task = task_of(generator, generated(tiny_generator(), 3), space, name=name, labels=labels)
    plain = invert(task)
    waits = []
    for num_steps in (5, 7):
        with pretended_gpu() as gpu:
            there = on_gpu(task)
            gpu.forget()
            found = partial(invert, **{"num_steps": num_steps} if takes_steps(invert) else {})(there)
            waits.append(Counter({lines: num for (_, lines), num in gpu.waits.items() if not lines.startswith(ONCE)}))
            if num_steps == 5:
                assert_equal(found, plain)
    assert waits[0] == waits[1]


def takes_steps(invert) -> bool:
    """Whether an inverter makes as many steps as requested."""
    return "num_steps" in inspect.signature(unwrapped(invert)[0]).parameters


def assert_equal(found, plain) -> None:
    """Check that latents, images, noise and history are equal."""
    assert found.latents.device == found.images.device == GPU
    assert torch.equal(found.latents.numbers, plain.latents)
    assert torch.equal(found.images.numbers, plain.images)
    for mine, theirs in zip(found.noise or [], plain.noise or [], strict=True):
        assert torch.equal(mine.numbers, theirs)
    for term, rows in plain.history.items():
        torch.testing.assert_close(found.history[term], rows, rtol=0, atol=0, equal_nan=True)
