import copy
import doctest

import pytest
import torch

from tests.fakes import measured
from wplus.core.images import to_float
from wplus.evaluation import torch_metrics
from wplus.evaluation.frechet import fd
from wplus.evaluation.kernel import kd
from wplus.evaluation.manifold import dc, pr
from wplus.evaluation.sampler import generate
from wplus.evaluation.torch_metrics import DensityCoverage, FrechetDistance, KernelDistance, PrecisionRecall


@pytest.fixture(autouse=True)
def like_real(context):
    """So that balls meet."""
    context.real.images = generate(context.generator, range(40), seed=1)


METRICS = [
    (FrechetDistance, fd, {"num_groups": 0, "floor": "none"}),
    (KernelDistance, kd, {"num_groups": 0}),
    (PrecisionRecall, pr, {}),
    (DensityCoverage, dc, {}),
]


def values(found):
    return [float(value) for value in (found.values() if isinstance(found, dict) else [found])]


def shown(metric, real, generated, batch_size):
    for images, is_real in ((real, True), (generated, False)):
        for batch in images.split(batch_size):
            metric.update(batch, real=is_real)
    return metric


@pytest.mark.parametrize(("metric_class", "metric", "options"), METRICS)
def test_numbers_are_those_of_the_command_whatever_the_batches(context, extractor, metric_class, metric, options):
    expected = measured(context, metric, extractor=extractor, num_generated=40, **options)
    expected = [result.value for name, result in expected.items()]
    generated = generate(context.generator, range(40), seed=0)
    for batch_size in (40, 7):
        found = values(shown(metric_class(extractor), context.real.images, generated, batch_size).compute())
        assert found[: len(expected)] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    floats = values(shown(metric_class(extractor), to_float(context.real.images), generated, 16).compute())
    assert floats == pytest.approx(found, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("metric_class", [metric_class for metric_class, *_ in METRICS])
def test_states_of_two_processes_add_up_and_reset_forgets(context, extractor, metric_class):
    real, generated = context.real.images, generate(context.generator, range(40), seed=0)
    whole = shown(metric_class(extractor), real, generated, 20)
    expected = values(whole.compute())
    one, other = (
        shown(metric_class(extractor), r, g, 20) for r, g in zip(real.split(20), generated.split(20), strict=True)
    )
    one.merge_state(copy.deepcopy(other))
    assert values(one.compute()) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    whole.reset()
    again = values(shown(whole, real, generated, 20).compute())
    assert again == expected


def test_options_reach_the_functions(context, extractor):
    real, generated = context.real.images, generate(context.generator, range(30), seed=0)
    for metric_class, options in ((KernelDistance, {"subset_size": 9, "num_subsets": 3, "seed": 5}),
                                  (PrecisionRecall, {"k": 9}), (DensityCoverage, {"k": 9})):  # fmt: skip
        usual, other = (values(shown(metric_class(extractor, **given), real, generated, 30).compute())
                        for given in ({}, options))  # fmt: skip
        assert usual != other


def test_the_example_runs():
    torch.manual_seed(0)
    assert doctest.testmod(torch_metrics).failed == 0
    assert doctest.testmod(torch_metrics).attempted == 6
