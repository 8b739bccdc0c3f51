"""Every metric on a pretended GPU: no mix of devices, and the CPU's numbers, to the last digits (which LAPACK
gives as its memory lies)."""

import copy
from dataclasses import replace

import pytest

from tests.evaluation.coded import coded_context
from tests.evaluation.registry import coded_metrics, every_metric
from tests.pretended_gpu import moved, pretended_gpu
from wplus.checkpoint import Models
from wplus.evaluation.measure import measured


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


def test_numbers_of_codes_are_the_cpus():
    expected = numbers(coded_context(), coded_metrics())
    with pretended_gpu():
        assert_near(numbers(on_gpu(coded_context()), coded_metrics()), expected)
