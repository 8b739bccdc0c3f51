"""Autoencoder training: encoder and decoder are trained jointly to reconstruct images.

Plain autoencoders are regularised by code size (undercomplete), sparse codes, corrupted inputs or a contractive
encoder; variational ones by the rate KL(q(z|x) || p(z)). Errors are in nats per image, summed over pixels just as the
rate is summed over the code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.core.batching import MIN_SHOWN, at_least
from wplus.core.distributed import mean_over_ranks, rank_and_world
from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.core.random import permutation, step_seed
from wplus.core.runtime import eval_mode
from wplus.data import ImageSet
from wplus.latents.labels import sample_of
from wplus.losses.variational import bernoulli_kl, jacobian_norm, kl_to_normal, negative_log_likelihood
from wplus.models.autoencoder import CodeEncoder, Decoder, Posterior
from wplus.models.network import Network
from wplus.training.autoencoder_hparams import AutoencoderHparams
from wplus.training.module import TrainingModule, ema_decay, shared_statistics, update_ema

BLACK = -1.0
SIGMA_LR = 10.0  # factor on the learning rate of log sigma, a scalar that has far to go in steps of that size
MEANINGS = {
    "loss": "Weighted sum of all terms, nats per image.",
    "distortion": "-log p(x|z), nats per image: error of the reconstruction of a training image.",
    "rate": "KL(q(z|x) || p(z)), nats per image: information of a code beyond the prior.",
    "l1": "Sum of the code's magnitudes, mean over images.",
    "kl_sparsity": "KL(rho || mean activation), summed over the code.",
    "contractive": "Squared Frobenius norm of the encoder's Jacobian, estimated.",
    "label": "Cross-entropy of the class that the encoder predicts, nats per image.",
}


class AutoencoderModule(TrainingModule):
    """Trains an encoder and its decoder, the `generator`; the moving averages of both are exported.

    Args:
        encoder, generator: matching encoder and decoder.
        hparams: hyper-parameters.
        data: training images; a mixture prior is fitted to their codes.
        num_prior_images: maximum number of images for fitting the prior.
    """

    def __init__(
        self,
        encoder: CodeEncoder,
        generator: Decoder,
        *,
        hparams: AutoencoderHparams,
        data: ImageSet,
        num_prior_images: int = 5000,
        seed: int = 0,
    ) -> None:
        run_fingerprint = {
            "hparams": asdict(hparams),
            "encoder": {"class": type(encoder).__name__, **encoder.arguments},
            "generator": {"class": type(generator).__name__, **generator.arguments},
            "num_prior_images": num_prior_images,
            "seed": seed,
        }
        super().__init__(batch_size=hparams.batch_size, seed=seed, run_fingerprint=run_fingerprint)
        self.hp, self.data, self.num_prior_images = hparams, data, min(num_prior_images, len(data))
        self.encoder, self.generator = encoder.train().requires_grad_(True), generator.train().requires_grad_(True)
        generator.data_labels = sample_of(data.labels)
        averages = {"generator": copy.deepcopy(generator), "encoder": copy.deepcopy(encoder)}
        self.averages = nn.ModuleDict(averages).eval().requires_grad_(False)
        self._fitted_at = -1

    # --- exported networks --------------------------------------------------------------------------------------------

    @property
    def ema(self) -> Decoder:
        """The averaged decoder, with its prior fitted to the current codes."""
        generator = self.averaged_decoder
        if self._fitted_at != self.images_seen:
            self._fitted_at = self.images_seen
            codes = self._codes() if generator.mapping.kind == "mixture" else None
            if codes is not None and codes.isfinite().all():
                generator.mapping.set_mixture(codes, seed=step_seed(self.seed, "prior"))
        return generator

    @property
    def averaged_decoder(self) -> Decoder:
        """The averaged decoder, without refitting its prior."""
        decoder: Any = self.averages["generator"]
        return decoder

    @property
    def averaged_encoder(self) -> CodeEncoder:
        """The averaged encoder."""
        encoder: Any = self.averages["encoder"]
        return encoder

    @property
    def exported(self) -> dict[str, Network]:
        """The moving averages of both networks."""
        return {"generator": self.ema, "encoder": self.averaged_encoder}

    def describe(self) -> dict[str, Any]:
        """The hyper-parameters, which weights are exported, and the prior that samples are drawn from."""
        prior = self.generator.mapping.described(self.num_prior_images)
        return {"hparams": asdict(self.hp), "weights": "moving average of the decoder", "prior": prior}

    @torch.no_grad()
    def _codes(self) -> Tensor:
        """Encode training images with the averaged encoder to codes (M, code_dim)."""
        with eval_mode(self.averaged_encoder) as encoder:
            order = torch.from_numpy(permutation(len(self.data), 0, 0)[: self.num_prior_images])
            parts = [self.data.batch(rows)[0] for rows in order.split(4 * MIN_SHOWN)]
            return torch.cat([
                encoder.posterior(at_least(MIN_SHOWN, to_float(part.to(self.device)))).mean[: len(part)]
                for part in parts
            ])  # fmt: skip

    # --- the step -----------------------------------------------------------------------------------------------------

    def update(self, real: Tensor, labels: Tensor, optimizers: list[torch.optim.Optimizer]) -> None:
        """Step both networks on L = -log p(x|z) + weighted terms, averaged over the batch."""
        optimizers[0].zero_grad(set_to_none=True)
        with shared_statistics([self.encoder, self.generator]):
            self._loss(real, labels).backward()
        self.guarded_step("autoencoder", optimizers[0])
        decay = ema_decay(self.batch_size, self.images_seen, self.hp.ema_kimg, self.hp.ema_rampup)
        for average, network in zip(self.averages.values(), (self.generator, self.encoder), strict=True):
            update_ema(average, network, decay)

    def _loss(self, real: Tensor, labels: Tensor) -> Tensor:
        hp, seen = self.hp, self.corrupted(real)
        seen.requires_grad_(bool(hp.contractive))
        # z = mu + sigma * noise, or the deterministic code
        posterior = self.encoder.posterior(seen)
        code = posterior.code(self._normal("code", real) if self.encoder.variational else None)
        outputs = self.generator.synthesis.outputs(self.generator.ws(code, labels))
        # D = -log p(x|z) of the clean image, even if the encoder saw a corrupted one (Vincent et al. 2010)
        terms = {"distortion": (1.0, negative_log_likelihood(self.generator, outputs, real).mean())}
        if self.encoder.variational:
            # R = KL(q(z|x) || N(0, I)); beta R (Higgins et al. 2017) with warm-up (Bowman et al. 2016)
            terms["rate"] = (hp.rate_weight(self.images_seen), self._rate(posterior))
        if hp.l1:
            # |h|_1
            terms["l1"] = (hp.l1, code.abs().sum(dim=1).mean())
        if hp.kl_sparsity:
            # sum_j KL(rho || rho_j), where rho_j is the mean activation over the batch (Ng, "Sparse autoencoder")
            terms["kl_sparsity"] = (hp.kl_sparsity, bernoulli_kl(hp.rho, of_all_ranks(code.mean(dim=0))).sum())
        if hp.contractive:
            # |dh/dx|_F^2 (Rifai et al. 2011) = E |J^T v|^2 for normal v
            terms["contractive"] = (hp.contractive, jacobian_norm(code, seen, self._normal("direction", real)).mean())
        if posterior.class_logits is not None:
            # -log q(y|x), in addition to decoding z with the true y (Kingma et al. 2014, equation 9)
            terms["label"] = (hp.label_weight, F.cross_entropy(posterior.class_logits, labels))
        return self._total(terms)

    def _rate(self, posterior: Posterior) -> Tensor:
        """KL(q(z|x) || p(z)), at least `free_bits` per code dimension (Kingma et al. 2016, equation 15)."""
        of_numbers = kl_to_normal(posterior).mean(dim=0)  # (code_dim,)
        self.means.add("train/autoencoder/rate", of_numbers.sum())
        # sum_j max(lambda, E_x KL_j)
        return of_all_ranks(of_numbers).clamp_min(self.hp.free_bits).sum()

    def _total(self, terms: dict[str, tuple[float, Tensor]]) -> Tensor:
        total = sum((weight * value for weight, value in terms.values()), start=torch.zeros((), device=self.device))
        values = {name: value for name, (_, value) in terms.items() if name != "rate"}  # logged without free bits
        for name, value in {**values, "loss": total}.items():
            self.means.add(f"train/autoencoder/{name}", value)
        return total

    def corrupted(self, real: Tensor) -> Tensor:
        """Corrupt the encoder's input (N, C, H, W) with noise, or by setting random pixels to black."""
        seen = real.detach().clone()
        if self.hp.noise:  # `noise` refers to [0, 1], images are in [-1, 1]
            seen += 2 * self.hp.noise * self._drawn("noise", real.shape, torch.randn)
        if self.hp.masked:
            kept = self._drawn("mask", (len(real), 1, *real.shape[2:]), torch.rand) >= self.hp.masked
            seen = torch.where(kept, seen, BLACK)
        return seen

    def _normal(self, phase: str, real: Tensor) -> Tensor:
        return self._drawn(phase, (len(real), self.generator.code_dim), torch.randn)

    def _drawn(self, phase: str, shape: Sequence[int], draw: Callable[..., Tensor]) -> Tensor:
        """Draw random numbers of a phase for the images of all processes and return those of this one."""
        self.seed_phase(phase)
        rank, world = rank_and_world()
        return draw(shape[0] * world, *shape[1:], device=self.device)[rank::world]

    # --- beside the step ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Reconstruct images as (N, C, R, R) from the averaged encoder's codes and classes."""
        return self.averaged_decoder.synthesis(self.averaged_encoder(images))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Create one Adam for both networks; a learned sigma has ten times the learning rate."""
        every = [*self.encoder.named_parameters(), *self.generator.named_parameters()]
        sigma = [parameter for name, parameter in every if name == "log_sigma"]
        groups: list[dict[str, Any]] = [{"params": [each for name, each in every if name != "log_sigma"]}]
        groups += [{"params": sigma, "lr": SIGMA_LR * self.hp.lr}] if sigma else []
        return [torch.optim.Adam(groups, lr=self.hp.lr, betas=(self.hp.beta1, self.hp.beta2), fused=True)]

    def state_summary(self) -> dict[str, Any]:
        """Values to log: skipped steps and, for variational autoencoders, the rate's weight and sigma of p(x|z)."""
        found = super().state_summary()
        if self.encoder.variational:
            found["progress/rate_weight"] = self.hp.rate_weight(self.images_seen)
            if self.generator.likelihood == "gaussian":
                found["progress/sigma"] = float(self.generator.log_sigma.detach().exp())
        return found

    def log_infos(self) -> dict[str, MetricInfo]:
        """Descriptions of the values that a run logs."""
        lower = ("loss", "distortion", "label")
        infos = {
            f"train/autoencoder/{name}": MetricInfo(meaning=text, direction="lower" if name in lower else "neither")
            for name, text in MEANINGS.items()
        }
        infos["train/autoencoder/grad_norm"] = MetricInfo(meaning="Norm of both networks' gradient.")
        infos["progress/rate_weight"] = MetricInfo(meaning="Current weight of the rate.")
        infos["progress/sigma"] = MetricInfo(meaning="Standard deviation of p(x|z), of pixels in [-1, 1].")
        return {**super().log_infos(), **infos}


def of_all_ranks(mean: Tensor) -> Tensor:
    """Replace the value of a per-process mean by the mean over all processes, keeping this process's gradient."""
    return mean if rank_and_world()[1] == 1 else mean + (mean_over_ranks(mean.detach()) - mean.detach())
