"""ST-LPIPS against the published implementation, and what it says when its weights are missing or others."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from wplus.config import CONFIG_FOLDER, build, plain
from wplus.errors import UserError
from wplus.losses.perceptual import STLPIPSDistance

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
    assert distance.name == distance.provenance["name"] == f"stlpips_{net}"
    assert distance.provenance["weights"] == path.name
    assert len(distance.provenance["sha256"]) == 64


@both
@pytest.mark.skipif(not INSTALLED, reason="the published weights: pip install --no-deps stlpips-pytorch")
def test_with_the_published_weights_too(net):
    distance, (a, b, expected) = STLPIPSDistance(net), golden(net)
    with torch.no_grad():
        torch.testing.assert_close(distance(a, b), expected["published"], atol=0, rtol=1e-5)


@both
def test_every_layer_counts(stlpips_package, net):
    """So that the golden numbers tell a layer that is wrong: each map alone changes the distance by far more."""
    stlpips_package(net)
    distance, (a, b, _) = STLPIPSDistance(net), golden(net)
    with torch.no_grad():
        of_a, of_b = distance.features(a), distance.features(b)
        whole = distance.distance(of_a, of_b)
        for layer in range(5):
            without = distance.distance(of_a, [*of_b[:layer], of_a[layer], *of_b[layer + 1 :]])
            assert ((whole - without) / whole > 0.01).all()


@both
@pytest.mark.parametrize("group", ["perceptual", "image_loss"])
def test_the_groups_build_it_by_its_name(stlpips_package, net, group):
    stlpips_package(net)
    config = plain(OmegaConf.load(CONFIG_FOLDER / group / f"stlpips_{net}.yaml"))
    built = build(config)
    distance = built if group == "perceptual" else built[f"stlpips_{net}"]
    assert isinstance(distance, STLPIPSDistance)
    assert distance.name == f"stlpips_{net}"


# Refusals


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])
    with pytest.raises(UserError, match=r"alex_shift_tolerant\.pth.*pip install --no-deps stlpips-pytorch"):
        STLPIPSDistance("alex")


def test_unknown_trunk():
    with pytest.raises(UserError, match=r"alex, vgg, got .squeeze"):
        STLPIPSDistance("squeeze")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must map names to tensors"),
        ({"net.slice1.0.weight": torch.zeros(2)}, "weights of another net"),
        ({"other": torch.zeros(2)}, "weights of another net"),
    ],
)
def test_other_files_are_refused(monkeypatch, tmp_path, content, message):
    path = tmp_path / "stlpips_pytorch" / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
    path.parent.mkdir(parents=True)
    (tmp_path / "stlpips_pytorch" / "__init__.py").touch()  # else an installed package comes first
    torch.save(content, path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message):
        STLPIPSDistance("alex")
