from __future__ import annotations

import pytest
import torch

from wplus.errors import UserError
from wplus.pretrained.attribute_net import AttributeNet


@pytest.mark.parametrize(("input_size", "channels"), [(8, 3), (32, 1), (64, 3)])
def test_logits_of_all_factors_and_a_gradient_everywhere(input_size: int, channels: int) -> None:
    net = AttributeNet(num_classes=[3, 2, 5], input_size=input_size, img_channels=channels, width=16)
    for parameter in net.parameters():  # units start as the identity, which hides their first convolution
        parameter.data += 0.01 * torch.randn_like(parameter)
    logits = net(torch.randn(2, channels, input_size, input_size))
    assert [tuple(part.shape) for part in net.factors(logits)] == [(2, 3), (2, 2), (2, 5)]
    logits.square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in net.parameters())


def test_images_of_a_batch_never_mix() -> None:
    net = AttributeNet(num_classes=[4], input_size=16, width=16)
    images = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(net(images)[2:3], net(images[2:3]))


def test_it_is_small_and_rebuilt_from_its_arguments() -> None:
    net = AttributeNet(num_classes=[15, 9, 15, 10, 16], input_size=32)
    assert sum(parameter.numel() for parameter in net.parameters()) < 360_000
    again = AttributeNet(**net.arguments)
    again.load_state_dict(net.state_dict())


@pytest.mark.parametrize(
    ("options", "word"),
    [({"num_classes": [3, 1]}, r"num_classes=\[3, 1\]"), ({"num_classes": []}, r"num_classes=\[\]"),
     ({"input_size": 24}, "input_size=24"), ({"width": 20}, "width must be .*, got 20")],
)  # fmt: skip
def test_bad_arguments_are_refused_in_a_sentence(options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        AttributeNet(**({"num_classes": [2], "input_size": 16} | options))
