"""Known reconstruction errors, of autoencoders and of an encoder for a GAN."""

import pytest
import torch

from tests.evaluation.coded import coded_context, grey_images, linear_gaussian
from tests.fakes import SquaredPixels, measured, random_images, tiny_encoder, tiny_generator
from wplus.checkpoint import Models
from wplus.core.images import to_float
from wplus.evaluation.coding import shown
from wplus.evaluation.reconstruction import corrupted, reconstruction
from wplus.models.autoencoder import CodeEncoder, Decoder

LINEAR = {"backbone": "mlp", "widths": ()}


def identity() -> Models:
    """Code and image are one."""
    decoder = Decoder(resolution=16, img_channels=1, code_dim=256, prior="normal", **LINEAR)
    encoder = CodeEncoder(w_dim=256, input_size=16, img_channels=1, **LINEAR)
    for parameter in [*encoder.to_code.parameters(), *decoder.synthesis.parameters()]:
        parameter.data.copy_(torch.eye(256) if parameter.dim() == 2 else torch.zeros(256))
    return Models(generator=decoder.eval().requires_grad_(False), encoder=encoder.eval().requires_grad_(False))


def test_of_an_identity_there_is_no_error():
    found = {name: each.value for name, each in measured(coded_context(identity()), reconstruction,
                                                         distance=SquaredPixels()).items()}  # fmt: skip
    assert found == pytest.approx({"reconstruction_psnr": 100.0, "reconstruction_similarity_ms_ssim": 1.0,
                                   "reconstruction_squared": 0.0}, abs=1e-4)  # fmt: skip


def test_with_a_corrupted_input_the_clean_image_is_compared():
    """What passes an identity is the noise: its power is the error, as far as 8 bits can show it."""
    context = coded_context(identity())
    found = measured(context, reconstruction, distance=SquaredPixels(), noise=0.25)
    images = to_float(context.held_out.images)
    noisy = (images + 0.5 * torch.randn(200, *images.shape)).clamp(-1, 1)
    expected = (noisy - images).square().sum(dim=(2, 3, 4)).mean()
    assert found["reconstruction_squared_noise0.25"].value == pytest.approx(float(expected), rel=0.05)
    found = measured(context, reconstruction, distance=SquaredPixels(), masked=0.5)
    expected = 0.5 * (images + 1).square().sum(dim=(1, 2, 3)).mean()
    assert found["reconstruction_squared_masked0.5"].value == pytest.approx(float(expected), rel=0.05)


def test_corruption_belongs_to_the_image():
    some = shown(coded_context(), grey_images(20), None, what="")
    images = to_float(some.images.images[some.order])
    together = corrupted(images, some.digests, noise=0.3, masked=0.2, seed=1)
    alone = corrupted(images[4:5], some.digests[4:5], noise=0.3, masked=0.2, seed=1)
    assert torch.equal(together[4:5], alone)
    assert not torch.equal(corrupted(images, some.digests, noise=0.3, masked=0.2, seed=2), together)


def test_encoders_of_gans_are_measured_too():
    generator = tiny_generator()
    models = Models(generator=generator, encoder=tiny_encoder(generator))
    context = coded_context(models, held_out=random_images(12, resolution=16), real=None)
    with pytest.raises(ValueError, match="must be equal"):
        measured(context, reconstruction, distance=SquaredPixels())
    context = coded_context(linear_gaussian(), real=None)
    assert set(measured(context, reconstruction, distance=SquaredPixels(), num_images=20)) == {
        "reconstruction_psnr", "reconstruction_similarity_ms_ssim", "reconstruction_squared",
    }  # fmt: skip
