from __future__ import annotations

import json

import pytest
import torch

from wplus.errors import UserError
from wplus.pretrained.effnet_lite0_features import EffNetLite0Features


@pytest.fixture(scope="module")
def extractor() -> EffNetLite0Features:
    return EffNetLite0Features()


@pytest.mark.parametrize("size", [16, 64, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_of_any_size(extractor: EffNetLite0Features, size: int, channels: int) -> None:
    images = torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8)
    features = extractor(images)
    assert features.shape == (2, extractor.dim)
    assert torch.isfinite(features).all()
    assert not torch.equal(features[0], features[1])


def test_grey_is_three_equal_channels(extractor: EffNetLite0Features) -> None:
    grey = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    assert torch.equal(extractor(grey), extractor(grey.repeat(1, 3, 1, 1)))


def test_the_batch_does_not_matter(extractor: EffNetLite0Features) -> None:
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    alone = torch.cat([extractor(image[None]) for image in images])
    torch.testing.assert_close(extractor(images), alone, atol=1e-5, rtol=1e-4)


def test_the_protocol_is_plain_and_complete(extractor: EffNetLite0Features) -> None:
    protocol = json.loads(json.dumps(extractor.protocol))
    assert protocol["extractor"] == "effnet_lite0"
    assert len(protocol["extractor_sha256"]) == 64
    assert "64..224 px" in protocol["extractor_input"]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="from 128 to 64 px"):
        EffNetLite0Features(min_px=128, max_px=64)


def test_logits_are_the_nets_own(extractor: EffNetLite0Features) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = extractor.net(images / 127.5 - 1)
    torch.testing.assert_close(extractor.logits(extractor(images)), expected, atol=1e-5, rtol=1e-5)
