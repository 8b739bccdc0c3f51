"""Every metric on a pretended GPU: no mix of devices, and the CPU's numbers, to the last digits (which LAPACK
gives as its memory lies)."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch

from tests.evaluation.coded import coded_context
from tests.evaluation.conftest import TINY
from tests.evaluation.registry import TESTED_ALONE, Bodies, Pixels, coded_metrics, every_metric
from tests.pretended_gpu import moved, pretended_gpu
from wplus.checkpoint import Models
from wplus.config import build, composed
from wplus.data import ImageSet
from wplus.data.digits import digit_images
from wplus.data.reader import one_hot
from wplus.evaluation.classification_score import cas
from wplus.evaluation.context import EvalContext
from wplus.evaluation.factors import factors
from wplus.evaluation.fd_per_class import fd_per_class
from wplus.evaluation.measure import measured
from wplus.models.stylegan2 import Generator


def numbers(context, metrics) -> dict[str, tuple[float, ...]]:
    """By metric and name, a number with the ends of its interval."""
    found = zip(metrics, measured(context, metrics), strict=True)
    return {f"{name}: {each.name}": (each.value, *(each.interval or ())) for name, results in found for each in results}


def assert_near(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-12, abs=1e-15), name


def on_gpu(context):
    """The same context there."""
    networks = {role: moved(copy.deepcopy(network)) for role, network in context.models.networks.items()}
    return replace(context, models=Models(**networks), device="cuda:0")


def test_numbers_are_the_cpus(monkeypatch, context):
    monkeypatch.setattr("wplus.models.ops.prefers_per_sample_weights", lambda *_: False)
    expected = numbers(context, every_metric())
    with pretended_gpu():
        assert_near(numbers(on_gpu(context), every_metric()), expected)


def classes(num: int, seed: int) -> ImageSet:
    """Noise of three classes, which is what its first pixel tells."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num, 3, 16, 16), dtype=torch.uint8, generator=rng)
    bodies = images[:, 0, 0, 0].long() % 3
    names = [f"{seed}-{index}" for index in range(num)]
    return ImageSet(images, one_hot(bodies, 3), names, attributes={"body": bodies})


def named_context(name: str, shared) -> EvalContext:
    """A conditional generator of classes, with data that has them."""
    if name == "digits":
        real = digit_images(resolution=32, split="held_out").subset(torch.arange(50))
        networks = {"generator": Generator(**TINY | {"resolution": 32, "img_channels": real.img_channels}).eval()}
        return EvalContext(Models(**networks), real, **shared)
    generator = Generator(**TINY, c_dim=3).eval().requires_grad_(False)
    return EvalContext(Models(generator=generator), classes(40, 0), classes(30, 1), **shared)


def digits():
    node = composed("evaluate", ["metrics=[digits]", "checkpoint=none", "run_dir=none"])["metrics"]["digits"]
    return build({**node, "num_generated": 30, "num_compared": 10, "num_groups": 2})


OF_CLASSES = {
    "factors": lambda: partial(factors, classifier=Bodies(), num_generated=30, num_compared=20, num_groups=3),
    "digits": digits,
    "cas": lambda: partial(cas, num_generated=30, num_real=(20,), kimg=0.5, width=16),
    "fd_per_class": lambda: partial(fd_per_class, extractor=Pixels(), num_generated=60, num_groups=2),
}


def test_every_other_metric_is_among_those_of_classes():
    assert {*OF_CLASSES, "interpolation"} == {*TESTED_ALONE}  # that one is a command's


@pytest.mark.parametrize("name", OF_CLASSES)
def test_numbers_of_classes_are_the_cpus(monkeypatch, shared, name):
    monkeypatch.setattr("wplus.models.ops.prefers_per_sample_weights", lambda *_: False)
    context = named_context(name, shared)
    expected = numbers(context, {name: OF_CLASSES[name]()})
    with pretended_gpu() as gpu:
        assert_near(numbers(on_gpu(context), {name: OF_CLASSES[name]()}), expected)
    assert gpu.operations


def test_numbers_of_codes_are_the_cpus():
    expected = numbers(coded_context(), coded_metrics())
    with pretended_gpu():
        assert_near(numbers(on_gpu(coded_context()), coded_metrics()), expected)
