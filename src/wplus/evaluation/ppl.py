"""Perceptual path length by the StyleGAN definition (Karras et al. 2019, arXiv:1812.04948, section 4.1).

The mean of d(g(t), g(t + eps)) / eps^2 over random pairs of latents, where g(t) is the image along the path between
them. It follows NVlabs' `perceptual_path_length.py`: eps 1e-4; in z, great circles between normalised vectors, in w,
straight lines between mapped ones; t uniform in [0, 1) ("full") or 0 ("end"); the same fresh noise and label on both
sides; no truncation; float32; box filter down to 256 px; values from the 1st to the 99th percentile kept. PPL in
torchmetrics and torch-fidelity is a different number: t = 0 only, at 64 px by default.

Normalised z have length sqrt(z_dim) here, about that of Gaussian samples; NVlabs' have length 1. StyleGAN's mapping
normalises z, so the result is the same; a generator whose mapping does not was trained with z of the former length.

There is no published definition for w+. Ours maps a separate z for every layer of both ends and joins them by a
straight line, which measures how smooth the space used for inversion into w+ is. In P_N and P_N+, where the prior is
normal, the same ends are joined by a straight line in that space. A straight line in s equals that in w+ (in w if all
layers are equal), as styles are affine in w. Feature maps of f/w+ have no prior to sample ends from.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wplus.core import distributed
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.runtime import float32_convolutions
from wplus.core.stats import bootstrap_interval, kept_mean
from wplus.errors import UserError, check_choice, check_number
from wplus.evaluation import sampler
from wplus.evaluation.context import EvalContext, generator_protocol
from wplus.evaluation.names import is_live
from wplus.latents import interpolation as geometry
from wplus.latents.latent import to_ws
from wplus.latents.space import space_named, space_of
from wplus.losses.image_pair import ImageDistance
from wplus.models.generator import GeneratorNetwork
from wplus.models.layers import normalize_second_moment

MAX_PX = 256
AT_ONCE = 16  # pairs, regardless of batch size: at a step of 1e-4 the rounding of a different kernel is visible
OFFICIAL, FAMOUS_NUM, EPSILON = "lpips_vgg", 50_000, 1e-4  # as in the papers
SPACES = {
    "z": "z",
    "w": "w",
    "w+": "wplus",
    "pn": "pn",
    "pn+": "pnplus",
}  # space -> spelling in names, because W&B and Hydra give "+" another meaning
_WAYS = {
    "z": "great circles between random z",
    "w": "straight lines between random w",
    "w+": "straight lines between w+ whose layers are drawn independently",
    "pn": "straight lines in P_N between random w",
    "pn+": "straight lines in P_N+ between w+ whose layers are drawn independently",
}
_WHERE = {"full": "anywhere along", "end": "at the start of"}
MEANING = "How fast images change over short steps {} {}; 0 means no change."


def cropped(images: Tensor, *, crop: str) -> Tensor:
    """Crop images (N, C, H, W); "face" keeps rows 3c:7c and columns 2c:6c with c = H // 8, where FFHQ faces are."""
    if crop == "none":
        return images
    unit = images.shape[2] // 8
    return images[:, :, 3 * unit : 7 * unit, 2 * unit : 6 * unit]


def box_filtered(images: Tensor, *, max_px: int = MAX_PX) -> Tensor:
    """Average images (N, C, H, W) over blocks of H // max_px pixels; images below twice max_px are left unchanged."""
    factor = images.shape[2] // max_px
    if factor <= 1:
        return images
    num, channels, height, width = images.shape
    return images.reshape(num, channels, height // factor, factor, width // factor, factor).mean(dim=(3, 5))


def ppl(context: EvalContext, *, distance: ImageDistance, space: str, sampling: str, num_samples: int = 10_000,
        epsilon: float = EPSILON, crop: str = "none",
        noise_mode: str = "random") -> Iterator[MetricResult]:  # fmt: skip
    """Yield the path length, named by `ppl_name`, with `_live` appended if the weights are not the moving average.

    Args:
        distance: perceptual distance between images in [-1, 1]; its name is part of the result's.
        space: space of the path between two latents: z (great circles), w, w+, pn, pn+ (straight lines).
        sampling: "full" anywhere along the path between two latents, "end" at its start.
        num_samples: pairs of latents; the interval bootstraps over them, including the percentiles.
        epsilon: length of a step as a fraction of the whole path.
        crop: "face" takes the middle of FFHQ images, see `cropped`.
        noise_mode: "random" draws fresh noise for each pair (the definition); "const" uses the generator's own.
    """
    check_choice("space", space, SPACES)
    check_choice("sampling", sampling, ("full", "end"))
    check_choice("crop", crop, ("none", "face"))
    check_choice("noise_mode", noise_mode, ("random", "const"))
    check_number("num_samples", num_samples, lowest=1, whole=True)
    if not 0 < epsilon < 1:
        raise UserError(f"epsilon must be between 0 and 1 (the definition has 1e-4), got {epsilon}.")
    way: dict[str, Any] = {"space": space, "sampling": sampling, "noise_mode": noise_mode, "epsilon": epsilon}
    options: dict[str, Any] = {"num_samples": num_samples, "crop": crop, **way}

    def results() -> Iterator[MetricResult]:
        distances = path_distances(context, distance.to(context.device), **options)
        protocol = {
            **generator_protocol(context.models), **context.label_protocol, **options, "seed": context.seed,
            "truncation_psi": 1.0, "kept": "1st to 99th percentile", "max_px": MAX_PX,
            "downsampling": "box, by a factor of what is left after the crop",
            "precision": "float32, no TF32",
            "distance": distance.name, "distance_provenance": dict(distance.provenance),
            "interval": "95 %, percentile bootstrap over pairs, 1000 resamples",
        }  # fmt: skip
        name = ppl_name(distance.name, **options) + "_live" * is_live(protocol)
        interval = bootstrap_interval(distances, kept_mean, seed=context.seed)
        info = MetricInfo(meaning=MEANING.format(_WHERE[sampling], _WAYS[space]), direction="lower")
        yield MetricResult.of(info, name, float(kept_mean(distances)), protocol=protocol, interval=interval)

    return results()


def ppl_name(
    distance: str, *, space: str, sampling: str, num_samples: int, crop: str, epsilon: float, noise_mode: str
) -> str:
    """Build the name of a path length. With lpips_vgg, the papers' names are reserved for their protocol with 50,000
    samples: ppl_zfull, ppl_wfull, ppl_zend, ppl_wend for images cropped to the middle of FFHQ's faces, ppl2_wend (from
    StyleGAN2 on) for whole images. Differences are appended: ppl_zfull_10000_uncropped. For any other distance its name
    is appended instead: ppl_wend_effnet_lite0, comparable only with itself. w+, pn and pn+ have no established name.
    """
    name, words = f"ppl_{SPACES[space]}{sampling}", []
    if distance != OFFICIAL:
        words.append(distance)
    elif num_samples != FAMOUS_NUM:
        words.append(str(num_samples))
    if distance == OFFICIAL and crop == "none" and name == "ppl_wend":
        name = "ppl2_wend"
    elif distance == OFFICIAL and space in ("z", "w"):
        words += ["uncropped"] * (crop == "none")
    else:
        words += ["face"] * (crop == "face")
    words += [f"step{epsilon:g}"] * (epsilon != EPSILON) + [f"{noise_mode}_noise"] * (noise_mode != "random")
    return "_".join([name, *words])


@float32_convolutions()
def path_distances(
    context: EvalContext, distance: ImageDistance, *, num_samples: int, crop: str, **way: Any
) -> np.ndarray:
    """Return d / epsilon^2 of pairs 0 .. num_samples-1, float64 (num_samples,), on any number of processes.

    The box filter derives its factor from the size after cropping, as the papers' TensorFlow code does.
    """
    generator, epsilon = context.generator, way["epsilon"]

    def of_batch(batch: Sequence[int]) -> Tensor:
        indices = [*batch, *[batch[-1]] * (AT_ONCE - len(batch))]
        labels = context.labels(indices)
        with in_float32(generator):
            near, far = image_pairs(generator, indices, labels=labels, seed=context.seed, device=context.device, **way)
        near, far = (box_filtered(cropped(images, crop=crop)) for images in (near, far))
        return distance(near, far)[: len(batch)].double().cpu() / epsilon**2

    title = f"PPL {way['space']} {way['sampling']} (batches)"
    return distributed.in_shares(
        sampler.index_batches(num_samples, AT_ONCE), of_batch, torch.empty(0, dtype=torch.float64),
        progress=lambda ours: context.progress(ours, title, total=len(ours)),
    ).numpy()  # fmt: skip


@contextmanager
def in_float32(network: nn.Module) -> Iterator[None]:
    """Make all blocks compute in float32 within the context; bfloat16 cannot resolve the difference within a pair."""
    blocks = [module for module in network.modules() if hasattr(module, "compute_dtype")]
    dtypes = [block.compute_dtype for block in blocks]
    try:
        for block in blocks:
            block.compute_dtype = torch.float32  # type: ignore[assignment]
        yield
    finally:
        for block, dtype in zip(blocks, dtypes, strict=True):
            block.compute_dtype = dtype


@torch.no_grad()
def image_pairs(generator: GeneratorNetwork, indices: Sequence[int], *, space: str, sampling: str,
                labels: Tensor | None, seed: int, device: torch.device | str, noise_mode: str,
                epsilon: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Images (N, C, H, W) at t and t + epsilon on the paths of samples `indices`, with shared noise and labels."""
    size = generator.z_dim * (generator.num_ws if space_named(space).of_layers else 1)
    z0, z1 = (sampler.normal(seed, stream, indices, size).to(device)
              for stream in (sampler.LATENT, sampler.SECOND_LATENT))  # fmt: skip
    t = sampler.uniform(seed, sampler.POSITION, indices) * (sampling == "full")
    ws = styles_along(generator, space, z0, z1, None if labels is None else labels.to(device), t, t + epsilon)
    noise = None
    if noise_mode == "random":
        noise = [layer.to(device) for layer in sampler.noise_maps(seed, indices, generator.synthesis.noise_shapes)]
        noise = [torch.cat([layer, layer]) for layer in noise]
    # Compute both sides in one batch, so that they use the same kernels: only the difference within the pair matters.
    images = generator.synthesis(torch.cat(ws), noise_mode="const", noise=noise)
    first, second = images.chunk(2)
    return first, second


def styles_along(
    generator: GeneratorNetwork, space: str, z0: Tensor, z1: Tensor, c: Tensor | None, *ts: Tensor
) -> list[Tensor]:
    """Styles at each t: in z along great circles of radius sqrt(z_dim) between the directions of z0 and z1, otherwise
    along straight lines between their mapped codes. In spaces with one code per layer, z0 and z1 are
    (N, num_ws * z_dim), a z for each layer."""
    if space == "z":
        a, b = (normalize_second_moment(z) for z in (z0, z1))
        return [generator.mapping(geometry.slerp(a, b, t), c) for t in ts]
    found = space_of(space, generator)
    if found.of_layers:
        shape = (len(z0), generator.num_ws, generator.z_dim)
        a, b = (to_ws(z.view(shape), "z+", generator, labels=c) for z in (z0, z1))
    else:
        a, b = (generator.mapping(z, c) for z in (z0, z1))
    if space in ("w", "w+"):  # codes are the ws themselves
        return [geometry.lerp(a, b, t) for t in ts]
    a, b = (found.from_ws(ws, generator) for ws in (a, b))
    return [found.to_ws(geometry.lerp(a, b, t), generator) for t in ts]
