"""Perceptual path length by the StyleGAN definition (Karras et al. 2019, arXiv:1812.04948, section 4.1).

The mean of d(g(t), g(t + eps)) / eps^2 over random pairs of latents, g the image along the path between them. Held to
NVlabs' `perceptual_path_length.py`: eps 1e-4; in z the great circle between normalised vectors, in w the straight line
between mapped ones; t uniform in [0, 1) ("full") or 0 ("end"); the same fresh noise and label on both sides; no
truncation; float32; box filter down to 256 px; the values from the 1st to the 99th percentile kept. What torchmetrics
and torch-fidelity call PPL is another number: t = 0 only, at 64 px unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from wplus import geometry
from wplus.errors import UserError
from wplus.evaluation import sampler
from wplus.evaluation.bench import Bench, generator_protocol
from wplus.intervals import bootstrap_interval, kept_mean
from wplus.measurement import Measurement

MAX_PX = 256


def cropped(images: Tensor, *, crop: str) -> Tensor:
    """Images (N, C, H, W); "face" keeps rows 3c:7c and columns 2c:6c with c = H // 8, where FFHQ has its faces."""
    if crop == "none":
        return images
    unit = images.shape[2] // 8
    return images[:, :, 3 * unit : 7 * unit, 2 * unit : 6 * unit]


def box_filtered(images: Tensor, *, max_px: int = MAX_PX) -> Tensor:
    """Images (N, C, H, W) averaged over blocks of H // max_px pixels; images of less than twice max_px stay."""
    factor = images.shape[2] // max_px
    if factor <= 1:
        return images
    num, channels, height, width = images.shape
    return images.reshape(num, channels, height // factor, factor, width // factor, factor).mean(dim=(3, 5))


def ppl(
    bench: Bench,
    *,
    distance: Any,
    space: str,
    sampling: str,
    num_samples: int = 50_000,
    epsilon: float = 1e-4,
    crop: str = "none",
    noise_mode: str = "random",
) -> Iterator[Measurement]:
    """Yield `ppl_<space><sampling>`, for example ppl_wend.

    `distance` is a perceptual distance (wplus.losses.perceptual) of images in [-1, 1]. NVlabs' network takes [0, 255]
    and scales inside; lpips_vgg has the same weights behind another scaling, and only with it the name stands alone:
    any other distance is appended, `ppl_wend_<distance>`. `noise_mode` "random" draws noise afresh for each pair (the
    definition); "const" uses the generator's own. The interval is a bootstrap over pairs, the percentiles included.
    """
    _check(space=space, sampling=sampling, crop=crop, noise_mode=noise_mode, epsilon=epsilon)
    generator, distance = bench.models.generator, distance.to(bench.device)
    options = {"seed": bench.seed, "device": bench.device, "noise_mode": noise_mode, "epsilon": epsilon}
    batches = sampler.index_batches(num_samples, bench.batch_size)
    values = []
    for indices in bench.progress(batches, f"PPL {space} {sampling}", total=len(batches)):
        labels = bench.labels(indices)
        with in_float32(generator):
            near, far = image_pairs(generator, indices, space=space, sampling=sampling, labels=labels, **options)
        near, far = (box_filtered(cropped(images, crop=crop)) for images in (near, far))
        values.append(distance(near, far).double().cpu() / epsilon**2)
    distances = torch.cat(values).numpy()
    name = f"ppl_{space}{sampling}" + ("" if distance.name == "lpips_vgg" else f"_{distance.name}")
    protocol = _protocol(
        bench.models, distance, space=space, sampling=sampling, num_samples=num_samples, crop=crop, **options
    )
    interval = bootstrap_interval(distances, kept_mean, seed=bench.seed)
    yield Measurement(name, float(kept_mean(distances)), protocol, interval)


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """Blocks that compute in another type use float32 for a while: bfloat16 cannot tell the images of a pair apart."""
    blocks = [module for module in network.modules() if hasattr(module, "compute_dtype")]
    dtypes = [block.compute_dtype for block in blocks]
    try:
        for block in blocks:
            block.compute_dtype = torch.float32  # type: ignore[assignment]
        yield
    finally:
        for block, dtype in zip(blocks, dtypes, strict=True):
            block.compute_dtype = dtype  # type: ignore[assignment]


@torch.no_grad()
def image_pairs(generator: Any, indices: Sequence[int], *, space: str, sampling: str, labels: Tensor | None, seed: int,
                device: Any, noise_mode: str, epsilon: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Images (N, C, H, W) at t and at t + epsilon of the paths of samples `indices`, noise and labels shared."""
    z0, z1 = (sampler.normal(seed, stream, indices, generator.z_dim).to(device)
              for stream in (sampler.LATENT, sampler.SECOND_LATENT))  # fmt: skip
    t = sampler.uniform(seed, sampler.POSITION, indices) * (sampling == "full")
    c = None if labels is None else labels.to(device)
    along = _along_z if space == "z" else _along_w
    near, far = along(generator, z0, z1, c, t, t + epsilon)
    noise = None
    if noise_mode == "random":
        noise = [layer.to(device) for layer in sampler.noise_maps(seed, indices, generator.synthesis.noise_shapes)]
        noise = [torch.cat([layer, layer]) for layer in noise]
    # Both sides in one batch, so that the same kernels compute them: the difference of the pair is all that counts.
    images = generator.synthesis(torch.cat([near, far]), noise_mode="const", noise=noise)
    return images.chunk(2)  # type: ignore[return-value]


def _along_z(generator: Any, z0: Tensor, z1: Tensor, c: Tensor | None, *ts: Tensor) -> tuple[Tensor, ...]:
    """Styles at each t of the great circles between the directions of z0 and z1."""
    a, b = (z / z.norm(dim=1, keepdim=True) for z in (z0, z1))
    return tuple(generator.mapping(geometry.slerp(a, b, t), c) for t in ts)


def _along_w(generator: Any, z0: Tensor, z1: Tensor, c: Tensor | None, *ts: Tensor) -> tuple[Tensor, ...]:
    """Styles at each t of the straight lines between the mapped z0 and z1."""
    a, b = (generator.mapping(z, c) for z in (z0, z1))
    return tuple(geometry.lerp(a, b, t) for t in ts)


def _check(*, space: str, sampling: str, crop: str, noise_mode: str, epsilon: float) -> None:
    allowed = {"space": (space, ("z", "w")), "sampling": (sampling, ("full", "end")), "crop": (crop, ("none", "face")),
               "noise_mode": (noise_mode, ("random", "const"))}  # fmt: skip
    for name, (value, choices) in allowed.items():
        if value not in choices:
            raise UserError(f"{name}={value} is not known to PPL; allowed are {', '.join(choices)}.")
    if not 0 < epsilon < 1:
        raise UserError(f"epsilon={epsilon} is no step of PPL; it must be between 0 and 1 (the definition has 1e-4).")


def _protocol(
    models: Any, distance: Any, *, num_samples: int, seed: int, device: Any, **options: Any
) -> dict[str, Any]:
    """What the number was measured by; the device is left out, it changes nothing."""
    fixed = {"truncation_psi": 1.0, "kept": "1st to 99th percentile", "max_px": MAX_PX, "downsampling": "box"}
    method = {"interval": "95 %, percentile bootstrap over pairs, 1000 resamples"}
    ours = generator_protocol(models) | options | fixed | {"num_samples": num_samples, "seed": seed}
    return ours | {"distance": distance.name, "distance_provenance": dict(distance.provenance)} | method
