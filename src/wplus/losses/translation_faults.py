"""Measures of known translator failures: copying the input, inverting colours, checkerboards, hiding information.

All are functions of images (N, C, H, W) in [-1, 1].
"""

import io

import torch
from PIL import Image
from torch import Tensor

from wplus.core.images import pixels_of, to_float, to_pil, to_uint8
from wplus.core.metric_result import MetricInfo
from wplus.core.random import rng
from wplus.losses.image_pair import coloured

NOISE_STD, JPEG_QUALITY = 0.05, 75
CHANGE = MetricInfo(
    meaning="Mean absolute difference of outputs from their inputs, pixels in [-1, 1]; near 0 nothing is translated."
)
ASKED = MetricInfo(
    meaning="Mean absolute difference of the truth from the input, pixels in [-1, 1]: the error of doing nothing."
)
CORRELATION = MetricInfo(
    meaning="Correlation of outputs with the images they should resemble, pixel by pixel in each channel: the truth if "
    "it is known, else the inputs; below 0 colours are inverted.",
    direction="higher",
)
NYQUIST = MetricInfo(
    meaning="Power of outputs at the frequency of a checkerboard of single pixels, over that of real images; ideal: 1.",
    direction="lower",
)
CYCLE = MetricInfo(
    meaning="Mean absolute difference of images after translation and back, pixels in [-1, 1].", direction="lower"
)
CYCLE_NOISE = MetricInfo(
    meaning=f"The same with noise of deviation {NOISE_STD:g} on the translated image: if it is far larger, that image "
    "hides information for the way back (steganography).",
    direction="lower",
)
CYCLE_JPEG = MetricInfo(
    meaning=f"The same with the translated image compressed as JPEG of quality {JPEG_QUALITY}.", direction="lower"
)


def change(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Mean absolute difference (N,); greyscale images are compared with colour images as RGB."""
    return (coloured(inputs) - coloured(outputs)).abs().mean(dim=(1, 2, 3))


def correlation(images: Tensor, others: Tensor) -> Tensor:
    """Pearson correlation over pixels, averaged over channels (N,); 0 for a constant channel."""
    a, b = (coloured(each).flatten(2).double() for each in (images, others))
    a, b = a - a.mean(dim=2, keepdim=True), b - b.mean(dim=2, keepdim=True)
    norm = (a.square().sum(dim=2) * b.square().sum(dim=2)).sqrt()
    return ((a * b).sum(dim=2) / norm.clamp_min(1e-9)).mean(dim=1)


def nyquist_power(images: Tensor) -> Tensor:
    """Power (N,) at the Nyquist frequency in x, in y and in both: of patterns alternating from pixel to pixel."""
    height, width = images.shape[2] // 2 * 2, images.shape[3] // 2 * 2
    pixels = images[..., :height, :width].double()
    rows = 1 - 2 * (torch.arange(height, device=images.device) % 2).double()[:, None]
    columns = 1 - 2 * (torch.arange(width, device=images.device) % 2).double()[None]
    waves = torch.stack([rows.expand(height, width), columns.expand(height, width), rows * columns])
    amplitudes = torch.einsum("nchw,khw->nck", pixels, waves) / (height * width)
    return amplitudes.square().sum(dim=(1, 2))


def nyquist_ratio(outputs: Tensor, real: Tensor) -> float:
    """Mean power of outputs over that of real images, where the latter is bounded below by one level of 255."""
    return float(nyquist_power(outputs).mean() / nyquist_power(real).mean().clamp_min((1 / 127.5) ** 2 / 64))


def noisy(images: Tensor, *, std: float = NOISE_STD) -> Tensor:
    """Add Gaussian noise to images, always the same at the same position in the batch."""
    return images + std * torch.randn(images.shape, generator=rng(0, "noise on translations")).to(images)


def jpeg(images: Tensor, *, quality: int = JPEG_QUALITY) -> Tensor:
    """Compress images as JPEG, without chroma subsampling."""
    return torch.stack([_jpeg(image, quality) for image in to_uint8(images).cpu()]).to(images)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    to_pil(image).save(file, format="JPEG", quality=quality, subsampling=0)
    with Image.open(file) as found:
        return to_float(pixels_of(found))
