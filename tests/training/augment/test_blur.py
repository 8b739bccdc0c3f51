"""The blur against explicit sums, and its fading."""

import pytest
import torch

from wplus.errors import UserError
from wplus.training.augment.blur import Blurred, faded_sigma, gaussian_blur
from wplus.training.augment.pipeline import Identity


def test_against_explicit_sums():
    images, sigma = torch.rand(2, 3, 9, 9), 0.9
    weights = {x: 2 ** -((x / sigma) ** 2) for x in range(-2, 3)}  # floor(3 sigma) = 2
    total = sum(weights.values()) ** 2
    expected = torch.zeros_like(images)
    for y, x in torch.cartesian_prod(torch.arange(9), torch.arange(9)):
        for dy, dx in torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3)):
            if 0 <= y + dy < 9 and 0 <= x + dx < 9:
                weight = weights[int(dy)] * weights[int(dx)] / total
                expected[:, :, y, x] += weight * images[:, :, y + dy, x + dx]
    torch.testing.assert_close(gaussian_blur(images, sigma), expected)


def test_none_left_is_the_image_itself():
    images = torch.rand(1, 3, 8, 8)
    assert gaussian_blur(images, 0.3) is images
    assert gaussian_blur(images, 0.0) is images


def test_it_fades_on_a_line():
    assert [faded_sigma(2.0, nimg, fade_kimg=1) for nimg in (0, 250, 1000, 5000)] == [2.0, 1.5, 0.0, 0.0]


def test_before_the_augmentation():
    class Half(Identity):
        def __call__(self, images):
            return images[:, :, :, :4]

    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Blurred(Half(), 1.0)(images), gaussian_blur(images, 1.0)[:, :, :, :4])
    assert torch.equal(Blurred(Identity(), 1.0).take(torch.tensor([1]))(images[1:]), gaussian_blur(images[1:], 1.0))


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_differentiable(sigma):
    images = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, sigma), images)


def test_a_training_blurs_until_it_has_faded(make_tiny, play):
    module = make_tiny(blur_sigma=2.0, blur_fade_kimg=0.008)
    found = []
    for _ in range(3):
        found.append(getattr(module.sample_augment(torch.zeros(4, 3, 8, 8)), "sigma", None))
        play(module, 1)
    assert found == [2.0, 1.0, None]
    with pytest.raises(UserError, match="must be given together, got 2.0 and None"):
        make_tiny(blur_sigma=2.0)
