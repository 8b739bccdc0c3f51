import json

import pytest
import torch
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from wplus.errors import UserError
from wplus.pretrained.effnet_lite0 import EffNetLite0Features
from wplus.pretrained.extractor import in_colour, resized, tensorflow_bilinear


def test_sizes_within_bounds_stay_and_others_are_brought_in() -> None:
    images = torch.rand(1, 3, 40, 40)
    assert resized(images, min_px=32, max_px=64) is images
    assert resized(images, min_px=64, max_px=128).shape == (1, 3, 64, 64)
    assert resized(torch.rand(1, 3, 40, 80), min_px=8, max_px=20).shape == (1, 3, 20, 40)


def test_shrinking_is_antialiased() -> None:
    """Stripes of one pixel become grey, not stripes of another width."""
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    assert resized(stripes, min_px=8, max_px=20)[..., 2:-2].std() < 0.1


@pytest.mark.parametrize(("given", "size"), [(32, 299), (300, 224), (64, 64), (1, 5)])
def test_tensorflows_resize(given: int, size: int) -> None:
    images = torch.rand(2, 3, given, given) * 255
    expected = interpolate_bilinear_2d_like_tensorflow1x(images, size=(size, size), align_corners=False)
    torch.testing.assert_close(tensorflow_bilinear(images, size), expected, atol=1e-4, rtol=0)


def test_tensorflows_resize_is_not_torchs() -> None:
    """A ramp: TensorFlow's position 0 is the corner, torch's is half a pixel of the result further in."""
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert tensorflow_bilinear(ramp, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert torch.nn.functional.interpolate(ramp, size=8, mode="bilinear")[0, 0, 0, 1] == 0.25


def test_colours() -> None:
    grey, rgba = torch.rand(2, 1, 4, 4), torch.rand(2, 4, 4, 4)
    assert torch.equal(in_colour(grey), grey.repeat(1, 3, 1, 1))
    assert torch.equal(in_colour(rgba), rgba[:, :3])


@pytest.mark.parametrize("bounds", [(128, 64), (16, 64)])
def test_impossible_sizes_are_refused(bounds: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"at least 32 and at most max_px, got {bounds[0]} and {bounds[1]}"):
        EffNetLite0Features(min_px=bounds[0], max_px=bounds[1])


# Whatever the net


def test_features_of_any_images() -> None:
    extractor = EffNetLite0Features()
    for size, channels in ((16, 3), (64, 1), (300, 3)):
        images = torch.randint(0, 256, (3, channels, size, size), dtype=torch.uint8)
        features = extractor(images)
        assert features.shape == (3, extractor.dim)
        assert features.isfinite().all()
        assert not torch.equal(features[0], features[1])
        torch.testing.assert_close(
            torch.cat([extractor(image[None]) for image in images]), features, atol=1e-5, rtol=1e-4
        )
        if channels == 1:
            assert torch.equal(extractor(images.repeat(1, 3, 1, 1)), features)
    protocol = json.loads(json.dumps(extractor.protocol))
    assert protocol["extractor"] == extractor.name
    assert len(protocol["extractor_sha256"]) == 64
    assert "64..224 px" in protocol["extractor_input"]
