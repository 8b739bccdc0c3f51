"""Networks without allocated memory, and the tensors that they take over."""

import pytest
import torch

from wplus.errors import UserError
from wplus.models.mlp_gan import Generator
from wplus.models.network import assign, meta_init

SIZE = {"resolution": 8, "z_dim": 4, "width": 8}


def test_a_network_without_memory_takes_the_tensors_of_another():
    other = Generator(**SIZE)
    network = meta_init(Generator, SIZE)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assign(network, {name: tensor.double() for name, tensor in other.state_dict().items()})
    z = torch.randn(2, 4)
    assert torch.equal(network(z), other(z))
    assert network.arguments == other.arguments
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_each_tensor_has_memory_of_its_own():
    shared = torch.arange(6.0)
    with torch.device("meta"):
        layer = torch.nn.Linear(2, 2)
    assign(layer, {"weight": shared[:4].view(2, 2).t(), "bias": shared[4:]})
    shared.zero_()
    assert layer.weight.tolist() == [[0, 2], [1, 3]]
    assert layer.bias.tolist() == [4, 5]
    assert layer.weight.is_contiguous()


def test_what_does_not_fit_is_named():
    tensors = Generator(**SIZE).state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for synthesis\.out\.weight"):
        assign(meta_init(Generator, {**SIZE, "img_channels": 1}), tensors)
    with pytest.raises(UserError, match=r"^num_layers must be at most 1000 in a file, got 1001[.]$"):
        meta_init(Generator, {**SIZE, "num_layers": 1001})
