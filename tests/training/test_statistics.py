import pytest
import torch

from wplus.training.module import RunningMeans


def test_means_since_the_last_collection():
    means = RunningMeans()
    assert means.collect() == {}
    for value in (1.0, 2.0, 6.0):
        means.add("a", torch.tensor(value))
    means.add("b", torch.tensor(5))
    assert means.collect() == pytest.approx({"a": 3.0, "b": 5.0})
    means.add("a", torch.tensor(7.0))
    assert means.collect() == {"a": 7.0}


def test_adding_keeps_no_graph_and_no_reference():
    means = RunningMeans()
    value = torch.tensor(1.0, requires_grad=True)
    means.add("a", value * 2)
    with torch.no_grad():
        value.fill_(100)
    assert means.collect() == {"a": 2.0}
    tensor = torch.tensor(1.0)
    means.add("b", tensor)
    tensor.fill_(5)
    assert means.collect() == {"b": 1.0}
