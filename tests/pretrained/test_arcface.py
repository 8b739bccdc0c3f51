import pytest
import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.pretrained.arcface import ArcFaceNet


@pytest.fixture(scope="module")
def net() -> ArcFaceNet:
    torch.manual_seed(0)
    return ArcFaceNet().eval()


def test_names_and_shapes_are_those_of_the_public_file(net: ArcFaceNet) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes["input_layer.0.weight"] == (64, 3, 3, 3)
    assert shapes["body.23.res_layer.5.fc1.weight"] == (32, 512, 1, 1)
    assert {name for name in shapes if name.startswith("output_layer") and name.endswith("weight")} == {
        "output_layer.0.weight",
        "output_layer.3.weight",
        "output_layer.4.weight",
    }
    assert shapes["output_layer.3.weight"] == (512, 512 * 7 * 7)
    assert sum(parameter.numel() for parameter in net.parameters()) == 43_797_696


@torch.no_grad()
def test_unit_vectors_of_each_image_alone(net: ArcFaceNet) -> None:
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    embeddings: Tensor = net(images)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(net(images[1:]), embeddings[1:], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"\(1, 3, 128, 128\)"):
        net(torch.zeros(1, 3, 128, 128))
