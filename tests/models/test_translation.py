"""U-Net, ResNet and PatchGAN: published sizes, and images that do not depend on a mode or on the batch."""

import pytest
import torch

from wplus.errors import UserError
from wplus.models.network import meta_init
from wplus.models.translation.base import Norm
from wplus.models.translation.patch import PatchDiscriminator
from wplus.models.translation.resnet import ResNet
from wplus.models.translation.unet import UNet

TINY_UNET = {"num_downs": 5, "width": 4}
TINY_RESNET = {"num_blocks": 2, "width": 4}
NETWORKS = [(UNet, TINY_UNET), (ResNet, TINY_RESNET), (ResNet, {**TINY_RESNET, "num_downs": 1})]


@pytest.mark.parametrize(("network", "options", "millions"), [
    (UNet, {"num_downs": 8, "norm": "batch", "upsample": "transposed"}, 54.4),
    (ResNet, {"num_blocks": 9, "upsample": "transposed"}, 11.4),
    (PatchDiscriminator, {"num_layers": 3, "norm": "batch"}, 2.8),
])  # fmt: skip
def test_published_sizes(network, options, millions):
    assert sum(p.numel() for p in meta_init(network, options).parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_patch_is_70_px():
    """One logit depends on this many rows of the image."""
    torch.manual_seed(0)
    network, image = (
        PatchDiscriminator(in_channels=1, width=2, norm="none"),
        torch.zeros(1, 1, 256, 256, requires_grad=True),
    )
    logits = network(image)
    (gradient,) = torch.autograd.grad(logits[0, 0, 15, 15], image)
    rows = gradient[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 70


@pytest.mark.parametrize(("network", "options"), NETWORKS)
@torch.no_grad()
def test_the_picture_of_training_is_the_picture_of_inference(network, options):
    """By default: instance norm, and no dropout at these sizes; independent of `train()`, `eval()` and the batch.

    In float64: kernels of other batch sizes round otherwise, which is not what is asked here.
    """
    net, x = network(**options).double(), torch.randn(3, 3, 32, 32, dtype=torch.float64)
    inference = net.eval()(x)
    assert torch.equal(net.train()(x, mode="train"), inference)
    for i in range(3):
        torch.testing.assert_close(net(x[i : i + 1]), inference[i : i + 1], rtol=0, atol=1e-12)


@torch.no_grad()
def test_modes_of_batch_norm():
    """Compare with torch's own in each mode; only training updates the running statistics."""
    ours, theirs, x = Norm(4, "batch"), torch.nn.BatchNorm2d(4), torch.randn(5, 4, 3, 3) * 2 + 1
    theirs.load_state_dict(ours.state_dict() | {"num_batches_tracked": torch.tensor(0)})
    before = ours.running_mean.clone()
    expected = theirs(x)
    torch.testing.assert_close(ours(x, "batch"), expected)
    assert torch.equal(ours.running_mean, before)
    torch.testing.assert_close(ours(x, "train"), expected)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours(x, "inference"), theirs.eval()(x))


@torch.no_grad()
def test_dropout_is_of_training_alone():
    torch.manual_seed(0)
    net = UNet(num_downs=6, width=2)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(net(x, mode="batch"), net(x))
    assert not torch.equal(net(x, mode="train"), net(x, mode="train"))


@torch.no_grad()
@pytest.mark.parametrize("network", [UNet, ResNet])
def test_resizing_leaves_no_checkerboard(network):
    """Power at the Nyquist frequency of untrained networks' outputs for grey, against that of their published form."""

    def nyquist(upsample: str) -> float:
        total = 0.0
        for seed in range(8):
            torch.manual_seed(seed)
            options = TINY_UNET if network is UNet else TINY_RESNET
            net = network(**options, norm="none", upsample=upsample)
            for parameter in net.parameters():
                parameter.mul_(5)
            image = net(torch.full((1, 3, 64, 64), 0.5))[..., 16:48, 16:48]
            total += (
                torch.fft.fft2(image - image.mean(dim=(2, 3), keepdim=True))[..., 16, 16].abs().square().sum().item()
            )
        return total

    assert nyquist("resize") < 1e-3 * nyquist("transposed")


def test_bad_input():
    net = UNet(**TINY_UNET)
    with pytest.raises(UserError, match=r"\(N, 3, H, W\) with H and W multiples of 32, got \(1, 3, 48, 48\)"):
        net(torch.zeros(1, 3, 48, 48))
    with pytest.raises(UserError, match="mode must be one of inference, batch, train, got 'eval'"):
        net(torch.zeros(1, 3, 32, 32), mode="eval")
    with pytest.raises(UserError, match="more than one number a channel"):
        Norm(4, "batch")(torch.zeros(1, 4, 1, 1), "train")
    for options in ({"num_downs": 1}, {"upsample": "bilinear"}, {"norm": "layer"}):
        with pytest.raises(UserError, match="must be"):
            UNet(**{**TINY_UNET, **options})
