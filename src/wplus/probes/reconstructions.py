"""Autoencoder probe: held-out images and their reconstructions, with reconstruction errors."""

import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import bootstrap_mean
from wplus.errors import check_number
from wplus.losses.pixel import L2, PSNR, l2, psnr_of
from wplus.losses.variational import kl_to_normal, negative_log_likelihood
from wplus.models.autoencoder import Decoder, Posterior
from wplus.probes.grids import labelled_grid
from wplus.probes.probe import BATCH_SIZE, ProbeContext
from wplus.training.autoencoder import AutoencoderModule
from wplus.training.snapshot import Picture, ProbeResult, at

ELBO = MetricInfo(
    meaning="Lower bound on log p(x) of held-out images, one draw of the code each: minus distortion and rate.",
    unit="nats", direction="higher",
)  # fmt: skip
RATE = MetricInfo(meaning="KL(q(z|x) || p(z)) of held-out images: information of a code beyond the prior.", unit="nats")
DISTORTION = MetricInfo(
    meaning="-log p(x|z) of held-out images, one draw of the code each.", unit="nats", direction="lower"
)
ERROR = MetricInfo(meaning=L2.info.meaning.replace("two images", "held-out images"), direction="lower")


def reconstructions(context: ProbeContext, *, num_images: int = 256, num_columns: int = 12) -> ProbeResult:
    """Show held-out images and their reconstructions, also of corrupted images for a denoising autoencoder.

    Values: val/l2 and val/psnr, preceded by val/elbo, val/rate and val/distortion for a variational autoencoder. Empty
    for any training other than an autoencoder's.
    """
    check_number("num_images", num_images, lowest=2, whole=True)
    check_number("num_columns", num_columns, lowest=1, whole=True)
    module: object = context.module
    if not isinstance(module, AutoencoderModule) or context.data.held_out is None:
        return ProbeResult()
    real, labels = held_out(context, min(num_images, len(context.data.held_out)))
    made = torch.cat([module.reconstruct(part) for part in real.split(BATCH_SIZE)])
    errors = l2(made, real)
    values = {"l2": (ERROR, errors), "psnr": (PSNR, psnr_of(errors))}
    if module.averaged_encoder.variational:
        values = {**bound(module, real, labels, seed=context.seed), **values}
    if not all(value.isfinite().all() for _, value in values.values()):
        return ProbeResult()
    protocol = {"split": "held_out", "num_images": len(real), "kimg": context.kimg, "seed": context.seed,
                "interval": "95 %, percentile bootstrap over images"}  # fmt: skip
    results = []
    for name, (info, value) in values.items():
        mean = bootstrap_mean(value.double().cpu().numpy())
        results.append(MetricResult.of(info, name, mean.value, protocol=protocol, interval=mean.interval))
    picture = Picture(
        f"{at(module)}-reconstructions", "samples/reconstructions", "held-out images and their reconstructions",
        drawn(module, real[:num_columns], made[:num_columns]),
    )  # fmt: skip
    return ProbeResult.measured(results, pictures=[picture])


def held_out(context: ProbeContext, num: int) -> tuple[Tensor, Tensor]:
    """Return held-out images (num, C, H, W) in [-1, 1] and labels (num, c_dim), on the device."""
    batches = [context.data.batch("held_out", number) for number in range(-(-num // BATCH_SIZE))]
    images, labels = (torch.cat(parts)[:num].to(context.device) for parts in zip(*batches, strict=True))
    return to_float(images), labels


def bound(
    module: AutoencoderModule, real: Tensor, labels: Tensor, *, seed: int
) -> dict[str, tuple[MetricInfo, Tensor]]:
    """Return ELBO, rate and distortion (N,) of images, computed with the moving averages of both networks."""
    encoder, decoder = module.averaged_encoder, module.averaged_decoder
    noise = torch.randn(len(real), decoder.code_dim, generator=torch.Generator().manual_seed(seed)).to(real)
    rates, distortions = [], []
    for images, c, draws in zip(*(each.split(BATCH_SIZE) for each in (real, labels, noise)), strict=True):
        posterior = encoder.posterior(images)
        rates.append(kl_to_normal(posterior).sum(dim=1))
        distortions.append(_distortion(decoder, posterior, images, c, draws))
    rate, distortion = torch.cat(rates), torch.cat(distortions)
    return {"elbo": (ELBO, -rate - distortion), "rate": (RATE, rate), "distortion": (DISTORTION, distortion)}


def _distortion(decoder: Decoder, posterior: Posterior, images: Tensor, c: Tensor, noise: Tensor) -> Tensor:
    outputs = decoder.synthesis.outputs(decoder.ws(posterior.code(noise), c))
    return negative_log_likelihood(decoder, outputs, images)


def drawn(module: AutoencoderModule, real: Tensor, made: Tensor) -> Tensor:
    """Draw a row of images and a row of their reconstructions; if the encoder is trained on corrupted images, followed
    by rows of corrupted images and of their reconstructions."""
    rows, left = [list(real.cpu()), list(made.cpu())], ["images", "reconstructed"]
    if module.hp.noise or module.hp.masked:
        seen = module.corrupted(real)
        rows += [list(seen.clamp(-1, 1).cpu()), list(module.reconstruct(seen).cpu())]
        left += ["corrupted", "reconstructed"]
    return labelled_grid(rows, left=left)
