"""Perceptual distances: what they rank, how they are bound to their weights, what they say when weights are missing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wplus.errors import UserError
from wplus.losses import perceptual
from wplus.losses.perceptual import EffNetLite0Distance, LPIPSDistance, fit_size, unit_length
from wplus.pretrained import weights


@pytest.fixture(scope="module")
def effnet():
    return EffNetLite0Distance()


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma + 0.5)
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images, [reach] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


@pytest.mark.parametrize("size", [32, 64])
def test_shift_by_a_pixel_ranks_below_a_strong_blur(effnet, size, pictures):
    images = pictures(8, size + 2)
    a, shifted, soft = images[..., 1:-1, 1:-1], images[..., 1:-1, 2:], blurred(images, 2.0)[..., 1:-1, 1:-1]
    assert (effnet(a, shifted) < effnet(a, soft)).all()
    # Pixels see it the other way round, which is why they do not suffice.
    assert (a - shifted).square().mean() > (a - soft).square().mean()


def test_equal_images_have_distance_zero_and_a_finite_gradient(effnet, pictures):
    images = pictures(2, 32).requires_grad_()
    distance = effnet(images, images.detach())
    assert torch.equal(distance, torch.zeros(2))
    assert torch.isfinite(torch.autograd.grad(distance.sum(), images)[0]).all()


def test_is_a_slow_loop_over_positions(effnet):
    a, b = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    expected = 0.0
    for maps_a, maps_b in zip(effnet._feature_maps(a), effnet._feature_maps(b), strict=True):
        positions_a, positions_b = maps_a[0].flatten(1).T, maps_b[0].flatten(1).T
        squares = [(p / p.norm() - q / q.norm()).square().sum() for p, q in zip(positions_a, positions_b, strict=True)]
        expected += sum(squares) / len(squares)
    torch.testing.assert_close(effnet(a, b)[0], torch.as_tensor(expected))


def test_features_once_compare_often(effnet, pictures):
    target, others = pictures(3, 32)[:1], pictures(3, 32)[1:]
    once = effnet.distance(effnet.features(target), effnet.features(others))
    torch.testing.assert_close(once, effnet(target.expand(2, -1, -1, -1), others))


def test_images_do_not_mix(effnet, pictures):
    a, b = pictures(3, 32), pictures(3, 32).flip(0)
    alone = torch.cat([effnet(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(effnet(a, b), alone, atol=1e-5, rtol=1e-5)


def test_grey_counts_as_grey_colour(effnet, pictures):
    a, b = pictures(2, 32)[:, :1], pictures(2, 32)[:, 1:2]
    torch.testing.assert_close(effnet(a, b), effnet(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)))


def test_stays_in_eval_mode_and_frozen(effnet):
    holder = torch.nn.ModuleList([effnet]).train()
    assert not any(module.training for module in holder[0].modules())
    assert not any(parameter.requires_grad for parameter in effnet.parameters())


@pytest.mark.parametrize(("given", "seen"), [(16, 32), (32, 32), (48, 48), (256, 256), (512, 256)])
def test_input_sizes(given, seen):
    assert fit_size(torch.zeros(1, 3, given, given)).shape == (1, 3, seen, seen)


def test_large_images_are_averaged():
    images = torch.rand(1, 3, 512, 512)
    torch.testing.assert_close(fit_size(images), F.avg_pool2d(images, 2))


def test_unit_length_of_zero_has_a_finite_gradient():
    features = torch.zeros(1, 4, 1, 1, requires_grad=True)
    unit_length(features).sum().backward()
    assert torch.isfinite(features.grad).all()


def test_provenance_names_the_weights(effnet):
    assert effnet.name == "effnet_lite0"
    assert effnet.provenance["weights"] == "efficientnet-lite0-57934424.pth"
    assert len(effnet.provenance["sha256"]) == 64


# LPIPS


@pytest.mark.parametrize(("net", "layer"), [("alex", "slice2.3.weight"), ("squeeze", "slice3.6.squeeze.weight")])
def test_lpips_equals_the_package_on_the_same_trunk(random_trunks, pictures, net, layer):
    trunk = torch.load(random_trunks[net], weights_only=True)
    distance = LPIPSDistance(net)
    assert torch.equal(distance.lpips.net.state_dict()[layer], trunk["features." + layer.split(".", 1)[1]])
    a, b = pictures(2, 64), pictures(2, 64).flip(0)
    torch.testing.assert_close(distance(a, b), distance.lpips(a, b).flatten())
    assert distance.name == f"lpips_{net}"
    assert distance.provenance["weights"] == random_trunks[net].name
    assert not any(parameter.requires_grad for parameter in distance.parameters())


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_masked_lpips_is_a_mean_of_the_packages_maps(random_trunks, pictures, net):
    """The package's own maps per layer, upsampled by it; here before that, by a loop over positions."""
    distance, mask = LPIPSDistance(net), torch.rand(1, 1, 64, 64)
    a, b = pictures(2, 64)[:1], pictures(2, 64)[1:]
    expected = 0.0
    for lin, of_a, of_b in zip(distance.lpips.lins, distance.features(a), distance.features(b), strict=True):
        differences = lin((of_a - of_b).square())[0, 0]
        weights = F.interpolate(mask, size=tuple(differences.shape), mode="area")[0, 0]
        positions = [(y, x) for y in range(len(differences)) for x in range(len(differences))]
        expected += sum(weights[at] * differences[at] for at in positions) / sum(weights[at] for at in positions)
    torch.testing.assert_close(distance(a, b, mask)[0], expected)


def test_damaged_trunk_is_refused(monkeypatch, random_trunks, tmp_path):
    whole = random_trunks["squeeze"]
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / whole.name).write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        LPIPSDistance("squeeze")


@pytest.mark.parametrize(
    ("net", "file"),
    [("vgg", "vgg16-397923af.pth"), ("alex", "alexnet-owt-7be5be79.pth"), ("squeeze", "squeezenet1_1-b8a52dc0.pth")],
)
def test_missing_trunk_names_file_url_and_folder(monkeypatch, tmp_path, net, file):
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as error:
        LPIPSDistance(net, download=False)
    for part in (file, f"https://download.pytorch.org/models/{file}", str(tmp_path / "checkpoints")):
        assert part in str(error.value)


def test_file_names_are_those_of_torchvision():
    import torchvision.models as tv

    sources = {"vgg": tv.VGG16_Weights, "alex": tv.AlexNet_Weights, "squeeze": tv.SqueezeNet1_1_Weights}
    for net, source in sources.items():
        assert source.IMAGENET1K_V1.url == perceptual.TRUNK_URL + perceptual.TRUNK_FILES[net]


def test_failed_download_names_them_too(monkeypatch, tmp_path, capsys):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights.torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError, match=r"no route to host.*vgg16-397923af\.pth.*checkpoints"):
        LPIPSDistance("vgg", download=True)
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in capsys.readouterr().err


def test_unknown_trunk():
    with pytest.raises(UserError, match="vgg, alex, squeeze, got .resnet"):
        LPIPSDistance("resnet")
