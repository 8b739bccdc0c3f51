"""Reconstruction: PSNR, MS-SSIM and a perceptual distance between images and their one-shot reconstructions.

Works for autoencoders and for encoders trained for a GAN: both predict latents, whose generated image is compared.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from wplus.core.images import to_float, to_uint8
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.random import rng
from wplus.errors import check_number
from wplus.evaluation.coding import INTERVAL, encoder_of, mean_with_interval, of_each, shown
from wplus.evaluation.context import EvalContext, generator_protocol
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import PSNR, psnr
from wplus.losses.ssim import MSSSIM
from wplus.pretrained.seen import marked

BLACK = -1.0


def reconstruction(
    context: EvalContext, *, distance: ImageDistance, num_images: int | None = None, noise: float = 0.0,
    masked: float = 0.0,
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield `reconstruction_psnr`, `reconstruction_similarity_ms_ssim`, `reconstruction_<distance>`: means over images.

    Reconstructions are rounded to 8 bits, like all images that are stored.

    Args:
        distance: perceptual distance between images.
        num_images: number of held-out images; None: all.
        noise: standard deviation of noise added to the encoder's input, where white is 1 and black is 0; outputs are
            compared with the clean image, which measures denoising. Names then end in, for example, `_noise0.3`.
        masked: share of the encoder's input pixels that are set to black; names then end in `_masked0.4`.
    """
    check_number("noise", noise, lowest=0)
    check_number("masked", masked, lowest=0, highest=1)
    encoder, generator = encoder_of(context), context.generator

    def results() -> Iterator[MetricResult]:
        some = shown(context, context.held_out, num_images, what="held-out")
        scored, ms_ssim = distance.to(context.device), MSSSIM().to(context.device)

        def measure(images: Tensor, labels: Tensor, digests: list[str]) -> list[Tensor]:
            seen = corrupted(images, digests, noise=noise, masked=masked, seed=context.seed)
            made = to_float(to_uint8(generator.synthesis(encoder(seen), noise_mode="const")))
            return [psnr(made, images), 1 - ms_ssim(made, images), scored(made, images)]

        found = of_each(context, some, measure, "Reconstructing (images)")
        named = marked(distance.name, distance.provenance, context.models.saw)
        infos = {"psnr": PSNR, "similarity_ms_ssim": ms_ssim.similarity, named: MetricInfo(
            meaning=f"Distance {distance.name} of held-out images from their reconstructions; 0 for equal ones.",
            direction="lower",
        )}  # fmt: skip
        ending = (f"_noise{noise:g}" if noise else "") + (f"_masked{masked:g}" if masked else "")
        protocol = generator_protocol(context.models) | some.protocol | {"noise": noise, "masked": masked}
        protocol |= {"seed": context.seed, "interval": INTERVAL}
        for (name, info), values in zip(infos.items(), found, strict=True):
            assert info is not None
            own = {"distance_provenance": dict(distance.provenance)} if name == named else {}
            value, interval = mean_with_interval(values)
            yield MetricResult.of(info, f"reconstruction_{name}{ending}", value, protocol=protocol | own,
                                  interval=interval)  # fmt: skip

    return results()


def corrupted(images: Tensor, digests: list[str], *, noise: float, masked: float, seed: int) -> Tensor:
    """Add noise to images (N, C, H, W) in [-1, 1] and set pixels to black, seeded by each image's digest."""
    seen = images
    if noise:
        drawn = [torch.randn(images.shape[1:], generator=rng(seed, digest, "noise")) for digest in digests]
        seen = seen + 2 * noise * torch.stack(drawn).to(images)
    if masked:
        kept = [torch.rand(1, *images.shape[2:], generator=rng(seed, digest, "mask")) >= masked for digest in digests]
        seen = torch.where(torch.stack(kept).to(images.device), seen, BLACK)
    return seen
