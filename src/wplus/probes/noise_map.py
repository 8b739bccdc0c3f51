"""What the noise inputs decide (Karras et al. 2019, figure 4c)."""

from __future__ import annotations

import torch
from torch import Tensor

from wplus.errors import check_number
from wplus.evaluation.sampler import noise_maps
from wplus.probes.drawing import matrix
from wplus.probes.scene import ProbeContext
from wplus.training.snapshot import Picture, ProbeResult, at

LEVELS = 127.5  # grey levels of 255 in one unit of an image


def noise_map(scene: ProbeContext, *, num_latents: int = 6, num_draws: int = 50) -> ProbeResult:
    """Images, and under them how much each pixel moves with the noise: the standard deviation of its grey value.

    Value: watch/noise_std, the mean of that deviation in levels of 255. Networks without noise inputs are left out.
    """
    check_number("num_latents", num_latents, lowest=1, whole=True)
    check_number("num_draws", num_draws, lowest=2, whole=True)
    generator = scene.generator
    shapes = generator.synthesis.noise_shapes
    if not shapes:
        return ProbeResult()
    ws = generator.mapping(*scene.latents(num_latents))
    noise = [layer.to(scene.device) for layer in noise_maps(scene.seed, range(num_draws), shapes)]
    images = generator.synthesis(ws).cpu()
    maps = torch.stack([grey_deviation(generator, w, noise) for w in ws])  # (num_latents, H, W)
    shown = as_grey(maps)
    rows = [[(image, "") for image in images]]
    rows += [[(image, f"mean {map_.mean():.2g}") for image, map_ in zip(shown, maps, strict=True)]]
    left = ["images", f"deviation\nwith noise\nwhite: {maps.max():.3g}"]
    picture = matrix(rows, left=left)
    caption = f"how much each pixel moves with the noise, standard deviation over {num_draws} draws in levels of 255"
    return ProbeResult(
        [Picture(f"{at(scene.game)}-noise", "samples/noise", caption, picture)],
        values={"watch/noise_std": float(maps.mean())},
    )


def grey_deviation(generator: torch.nn.Module, w: Tensor, noise: list[Tensor]) -> Tensor:
    """Standard deviation (H, W), in levels of 255, of the grey value over draws of noise, for one ws (num_ws, w_dim).

    noise: one (num_draws, 1, h, w) per layer. Grey is the mean of the channels of what is shown, so of clamped images.
    """
    images = generator.synthesis(w.expand(len(noise[0]), -1, -1), noise=noise).clamp(-1, 1)
    return (images.mean(dim=1).double().std(dim=0) * LEVELS).cpu()


def as_grey(maps: Tensor) -> Tensor:
    """(N, H, W) from 0 up -> uint8 (N, 1, H, W), the largest of all values white; black where all are 0."""
    largest = float(maps.max()) or 1.0
    return (maps / largest * 255).round().to(torch.uint8)[:, None]
