"""The bundled ImageNet net against the published implementation, and a slow one with explicit batch normalisation."""

import pytest
import torch
import torch.nn.functional as F

from wplus.pretrained.effnet_lite0 import STAGES, WEIGHTS, EffNetLite0Features, load_effnet_lite0
from wplus.pretrained.weights import from_package, read_tensors

# Every 125th logit of `pattern(size)`, from the package efficientnet-lite-pytorch 0.1.0 with the same weights.
PUBLISHED_LOGITS = {
    224: [-0.82318, 0.83895, -0.168, -1.90053, -1.13028, -1.1331, 1.6174, 0.64093],
    64: [-3.29962, 1.58813, -0.15281, -2.33618, -3.52892, 0.74775, 3.6015, 0.43159],
}


def pattern(size: int) -> torch.Tensor:
    """A smooth picture that is easy to reproduce: (1, 3, size, size) in [-1, 1]."""
    y, x = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    channels = [torch.sin(0.05 * x + 0.11 * y), torch.cos(0.09 * x - 0.03 * y), torch.sin(0.002 * x * y)]
    return torch.stack(channels)[None].float()


def same_conv(x, weight, stride=1, groups=1):
    """TensorFlow's SAME padding, computed one axis at a time from its definition."""
    kernel = weight.shape[-1]
    for axis in (2, 3):
        size = x.shape[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads = (total // 2, total - total // 2)
        x = F.pad(x, (0, 0, *pads) if axis == 2 else (*pads, 0, 0))
    return F.conv2d(x, weight, stride=stride, groups=groups)


def reference_stages(state, images):
    """The stages with separate convolution and batch normalisation, from the names in the file."""

    def norm(x, name):
        stats = [state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *stats, training=False, eps=1e-3)

    x = F.relu6(norm(same_conv(images, state["_conv_stem.weight"], 2), "_bn0"))
    index, outputs = 0, []
    for num_blocks, _, _, first_stride, expansion in STAGES:
        for position in range(num_blocks):
            name, stride, y = f"_blocks.{index}", first_stride if position == 0 else 1, x
            if expansion > 1:
                y = F.relu6(norm(same_conv(y, state[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
            y = F.relu6(norm(same_conv(y, state[f"{name}._depthwise_conv.weight"], stride, y.shape[1]), f"{name}._bn1"))
            y = norm(same_conv(y, state[f"{name}._project_conv.weight"]), f"{name}._bn2")
            x = x + y if position > 0 else y
            index += 1
        outputs.append(x)
    return outputs


@pytest.fixture(scope="module")
def net():
    return load_effnet_lite0()


@pytest.mark.parametrize("size", [64, 224])
def test_logits_equal_the_published_implementation(net, size):
    logits = net(pattern(size))
    torch.testing.assert_close(logits[0, ::125], torch.tensor(PUBLISHED_LOGITS[size]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [32, 37])  # 37: every strided layer meets an odd size
def test_stages_equal_unfolded_batch_normalisation(net, size):
    state = read_tensors(from_package(*WEIGHTS))
    images = torch.rand(2, 3, size, size) * 2 - 1
    ours = net.stage_outputs(images)
    for mine, theirs in zip(ours, reference_stages(state, images * 127.5 / 128 + 0.5 / 128), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    assert [maps.shape[1] for maps in ours] == [row[1] for row in STAGES]


def test_preprocessing_is_the_authors(net):
    pixels = torch.arange(256.0)
    torch.testing.assert_close(net.preprocess(pixels / 127.5 - 1), (pixels - 127) / 128)


def test_frozen_but_differentiable_in_the_images(net):
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    net.pooled(images).sum().backward()
    assert images.grad.abs().sum() > 0


def test_fewer_stages_are_the_first_stages(net):
    images = torch.rand(1, 3, 32, 32)
    some, every = net.stage_outputs(images, 3), net.stage_outputs(images)
    assert (len(some), len(every)) == (3, 7)
    assert torch.equal(some[2], every[2])


def test_logits_of_features_are_the_nets_own() -> None:
    extractor = EffNetLite0Features()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = extractor.net(images / 127.5 - 1)
    torch.testing.assert_close(extractor.logits(extractor(images)), expected, atol=1e-5, rtol=1e-5)
