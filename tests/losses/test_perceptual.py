"""Perceptual distances: their rankings, binding to their weights, and messages when weights are missing."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torchvision import models
from torchvision.transforms.functional import gaussian_blur

from wplus.config import CONFIG_FOLDER, build, plain
from wplus.errors import UserError
from wplus.losses.perceptual import EffNetLite0Distance, LPIPSDistance, STLPIPSDistance, fit_size
from wplus.pretrained import weights


@pytest.fixture(scope="module")
def effnet():
    return EffNetLite0Distance()


@pytest.mark.parametrize("size", [32, 64])
def test_shift_by_a_pixel_ranks_below_a_strong_blur(effnet, size, pictures):
    images = pictures(8, size + 2)
    a, shifted, soft = images[..., 1:-1, 1:-1], images[..., 1:-1, 2:], gaussian_blur(images, [13, 13], [2.0, 2.0])
    soft = soft[..., 1:-1, 1:-1]
    assert (effnet(a, shifted) < effnet(a, soft)).all()
    # Pixels see it the other way round, which is why they do not suffice.
    assert (a - shifted).square().mean() > (a - soft).square().mean()


def test_is_a_slow_loop_over_positions(effnet):
    a, b = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    expected = 0.0
    for maps_a, maps_b in zip(effnet._feature_maps(a), effnet._feature_maps(b), strict=True):
        positions_a, positions_b = maps_a[0].flatten(1).T, maps_b[0].flatten(1).T
        squares = [(p / p.norm() - q / q.norm()).square().sum() for p, q in zip(positions_a, positions_b, strict=True)]
        expected += sum(squares) / len(squares)
    torch.testing.assert_close(effnet(a, b)[0], torch.as_tensor(expected))


@pytest.mark.parametrize(("given", "seen"), [(16, 32), (32, 32), (48, 48), (256, 256), (512, 256)])
def test_input_sizes(given, seen):
    images = torch.rand(1, 3, given, given)
    found = fit_size(images)
    assert found.shape == (1, 3, seen, seen)
    assert given <= seen or torch.equal(found, F.avg_pool2d(images, given // seen))


# LPIPS


@pytest.mark.parametrize(("net", "layer"), [("alex", "slice2.3.weight"), ("squeeze", "slice3.6.squeeze.weight")])
def test_lpips_equals_the_package_on_the_same_trunk(random_trunks, pictures, net, layer):
    trunk = torch.load(random_trunks[net], weights_only=True)
    distance = LPIPSDistance(net)
    assert torch.equal(distance.lpips.net.state_dict()[layer], trunk["features." + layer.split(".", 1)[1]])
    a, b = pictures(2, 64), pictures(2, 64).flip(0)
    torch.testing.assert_close(distance(a, b), distance.lpips(a, b).flatten())
    assert (distance.name, distance.provenance["weights"]) == (f"lpips_{net}", random_trunks[net].name)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_masked_lpips_is_a_mean_of_the_packages_maps(random_trunks, pictures, net):
    """Compare with the package's own maps per layer, upsampled by the package, and with a loop over positions."""
    distance, mask = LPIPSDistance(net), torch.rand(1, 1, 64, 64)
    a, b = pictures(2, 64)[:1], pictures(2, 64)[1:]
    expected = 0.0
    for lin, of_a, of_b in zip(distance.lpips.lins, distance.features(a), distance.features(b), strict=True):
        differences = lin((of_a - of_b).square())[0, 0]
        weights = F.interpolate(mask, size=tuple(differences.shape), mode="area")[0, 0]
        positions = [(y, x) for y in range(len(differences)) for x in range(len(differences))]
        expected += sum(weights[at] * differences[at] for at in positions) / sum(weights[at] for at in positions)
    torch.testing.assert_close(distance(a, b, mask)[0], expected)


@pytest.mark.parametrize(("net", "source"), [
    ("vgg", models.VGG16_Weights), ("alex", models.AlexNet_Weights), ("squeeze", models.SqueezeNet1_1_Weights),
])  # fmt: skip
def test_missing_trunk_names_torchvisions_file_and_url_and_the_folder(monkeypatch, tmp_path, net, source):
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    url, term = source.IMAGENET1K_V1.url, f"lpips_{net}"
    config = plain(OmegaConf.load(CONFIG_FOLDER / "image_loss" / f"{term}.yaml"))
    with pytest.raises(UserError) as error:
        build({term: {**config[term], "download": False}})
    for part in (url.rpartition("/")[2], url, str(tmp_path / "checkpoints")):
        assert part in str(error.value)


def test_failed_download_names_them_too(monkeypatch, tmp_path, capsys):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights.torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError, match=r"no route to host.*vgg16-397923af\.pth.*checkpoints"):
        LPIPSDistance("vgg", download=True)
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in capsys.readouterr().err


# ST-LPIPS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
INSTALLED = importlib.util.find_spec("stlpips_pytorch") is not None

both = pytest.mark.parametrize("net", ["alex", "vgg"])


def golden(net: str) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Two images, two others, and the distances between them."""
    arrays = {name: torch.from_numpy(array) for name, array in np.load(GOLDEN / f"stlpips_{net}.npz").items()}
    images = arrays.pop("images").float() / 127.5 - 1
    return images[:2], images[2:], arrays


@both
def test_distances_are_those_of_the_published_implementation(stlpips_package, net):
    path = stlpips_package(net)
    distance, (a, b, expected) = STLPIPSDistance(net), golden(net)
    with torch.no_grad():
        torch.testing.assert_close(distance(a, b), expected["distances"], atol=0, rtol=1e-5)
    assert (distance.name, distance.provenance["weights"]) == (f"stlpips_{net}", path.name)


@both
@pytest.mark.skipif(not INSTALLED, reason="the published weights: pip install --no-deps stlpips-pytorch")
def test_with_the_published_weights_too(net):
    distance, (a, b, expected) = STLPIPSDistance(net), golden(net)
    with torch.no_grad():
        torch.testing.assert_close(distance(a, b), expected["published"], atol=0, rtol=1e-5)


# Refusals


def test_unknown_trunks():
    with pytest.raises(UserError, match="vgg, alex, squeeze, got .resnet"):
        LPIPSDistance("resnet")
    with pytest.raises(UserError, match=r"alex, vgg, got .squeeze"):
        STLPIPSDistance("squeeze")


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    with pytest.raises(UserError, match=r"alex_shift_tolerant\.pth.*pip install --no-deps stlpips-pytorch"):
        STLPIPSDistance("alex")


@pytest.mark.parametrize(("content", "message"), [
    ([1, 2], "must map names to tensors"), ({"other": torch.zeros(2)}, "weights of another net"),
    ({"net.slice1.0.weight": torch.zeros(2)}, "weights of another net"),
])  # fmt: skip
def test_other_files_are_refused(monkeypatch, tmp_path, content, message):
    path = tmp_path / "stlpips_pytorch" / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
    path.parent.mkdir(parents=True)
    (tmp_path / "stlpips_pytorch" / "__init__.py").touch()  # else an installed package comes first
    torch.save(content, path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message):
        STLPIPSDistance("alex")
