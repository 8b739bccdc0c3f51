"""Perceptual distances: what they rank, how they are bound to their weights, what they say when weights are missing."""

from __future__ import annotations

import hashlib

import pytest
import torch
import torch.nn.functional as F

from wplus.errors import UserError
from wplus.losses import perceptual
from wplus.losses.perceptual import EffNetLite0Distance, LPIPSDistance, fit_size, unit_length


@pytest.fixture(scope="module")
def effnet():
    return EffNetLite0Distance()


def pictures(num: int, size: int) -> torch.Tensor:
    """Soft-edged coloured discs on plain ground: (num, 3, size, size) in [-1, 1]."""
    rng = torch.Generator().manual_seed(1)
    grid = torch.stack(torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij"))
    canvas = (torch.rand(num, 3, 1, 1, generator=rng) * 2 - 1).expand(-1, -1, size, size)
    for _ in range(5):
        centre, radius = torch.rand(num, 2, 1, 1, generator=rng), torch.rand(num, 1, 1, generator=rng) * 0.25 + 0.08
        inside = torch.sigmoid((radius - (grid - centre).norm(dim=1)) * size)[:, None]
        canvas = canvas * (1 - inside) + inside * (torch.rand(num, 3, 1, 1, generator=rng) * 2 - 1)
    return canvas


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = int(3 * sigma + 0.5)
    kernel = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images, [reach] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


@pytest.mark.parametrize("size", [32, 64])
def test_shift_by_a_pixel_ranks_below_a_strong_blur(effnet, size):
    images = pictures(8, size + 2)
    a, shifted, soft = images[..., 1:-1, 1:-1], images[..., 1:-1, 2:], blurred(images, 2.0)[..., 1:-1, 1:-1]
    assert (effnet(a, shifted) < effnet(a, soft)).all()
    # Pixels see it the other way round, which is why they do not suffice.
    assert (a - shifted).square().mean() > (a - soft).square().mean()


def test_equal_images_have_distance_zero_and_a_finite_gradient(effnet):
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


def test_features_once_compare_often(effnet):
    target, others = pictures(3, 32)[:1], pictures(3, 32)[1:]
    once = effnet.distance(effnet.features(target), effnet.features(others))
    torch.testing.assert_close(once, effnet(target.expand(2, -1, -1, -1), others))


def test_images_do_not_mix(effnet):
    a, b = pictures(3, 32), pictures(3, 32).flip(0)
    alone = torch.cat([effnet(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(effnet(a, b), alone, atol=1e-5, rtol=1e-5)


def test_grey_counts_as_grey_colour(effnet):
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


@pytest.fixture
def random_alex(monkeypatch, tmp_path):
    """A trunk with random weights where torch's cache would have AlexNet, under a name that fits its hash."""
    import torchvision

    state = torchvision.models.alexnet(num_classes=1).state_dict()
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save(state, folder / "file")
    name = f"alexnet-owt-{hashlib.sha256((folder / 'file').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "file").rename(folder / name)
    monkeypatch.setattr(perceptual.torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(perceptual.TRUNK_FILES, "alex", name)
    return state


def test_lpips_equals_the_package_on_the_same_trunk(random_alex):
    distance = LPIPSDistance("alex")
    assert torch.equal(distance.lpips.net.state_dict()["slice2.3.weight"], random_alex["features.3.weight"])
    a, b = pictures(2, 64), pictures(2, 64).flip(0)
    torch.testing.assert_close(distance(a, b), distance.lpips(a, b).flatten())
    assert distance.name == "lpips_alex"
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_damaged_trunk_is_refused(random_alex, monkeypatch):
    path = perceptual._trunk_path("alex", download=False)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        LPIPSDistance("alex")


@pytest.mark.parametrize(("net", "file"), [("vgg", "vgg16-397923af.pth"), ("alex", "alexnet-owt-7be5be79.pth")])
def test_missing_trunk_names_file_url_and_folder(monkeypatch, tmp_path, net, file):
    monkeypatch.setattr(perceptual.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as error:
        LPIPSDistance(net)
    for part in (file, f"https://download.pytorch.org/models/{file}", str(tmp_path / "checkpoints")):
        assert part in str(error.value)


def test_failed_download_names_them_too(monkeypatch, tmp_path, capsys):
    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(perceptual.torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(perceptual.torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError, match=r"no route to host.*vgg16-397923af\.pth.*checkpoints"):
        LPIPSDistance("vgg", download=True)
    assert "https://download.pytorch.org/models/vgg16-397923af.pth" in capsys.readouterr().err


def test_unknown_trunk():
    with pytest.raises(UserError, match=r"resnet.*vgg, alex"):
        LPIPSDistance("resnet")
