"""Post-hoc EMA (Karras et al. 2024, arXiv:2312.02696, section 3): weight averages with a length chosen after training.

During training, averages with power-function profiles are maintained, in which the weights at time tau are weighted by
tau^gamma. Their lengths are relative to the run: sigma, for example 0.05 and 0.10, is the standard deviation of the
profile as a fraction of the training time so far. They are stored at every snapshot. Any other profile can then be
approximated by a linear combination of the stored ones, whose coefficients solve a least-squares problem.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wplus.checkpoint import load, save
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.errors import UserError, check_number
from wplus.latents.w_stats import NUM_SAMPLES, sample_w
from wplus.models.generator import GeneratorNetwork
from wplus.training.module import update_ema

Numbers = float | np.ndarray

FOLDER = "ema"  # in a run's folder, with a file for each average and snapshot
_NAME = re.compile(r"sigma-(?P<sigma>[0-9.e-]+)_nimg-(?P<nimg>\d+)\.safetensors")
PROFILE_ERROR = MetricInfo(
    meaning="Distance of the average's profile from the requested one, relative to the norm of the latter: 0 is exact; "
    "it grows if few snapshots were stored.", direction="lower",
)  # fmt: skip
LARGEST = 0.28  # gamma = 0, the plain mean of all weights, has sigma = 1 / sqrt(12) = 0.2887


def gamma_of(sigma: float) -> float:
    """Return the exponent of the profile with relative standard deviation `sigma` (equation 126 of the appendix).

    sigma^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), so gamma is the largest real root of a cubic.
    """
    check_number("sigma", sigma, lowest=0.001, highest=LARGEST)
    alpha = sigma**-2
    roots = np.roots([1, 7, 16 - alpha, 12 - alpha])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-9))


def power_decay(gamma: float, batch_size: int, nimg: int) -> float:
    """Return beta = (1 - batch / nimg)^(gamma + 1) for the step that ends after `nimg` images (equation 2)."""
    return max(1 - batch_size / nimg, 0.0) ** (gamma + 1)


class PowerAverages(nn.Module):
    """Averages of a network with the profiles given by `sigmas`; `averages` has the same order."""

    def __init__(self, network: nn.Module, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.sigmas, self.gammas = tuple(sigmas), [gamma_of(sigma) for sigma in sigmas]
        self.averages = nn.ModuleList(copy.deepcopy(network).eval().requires_grad_(False) for _ in sigmas)

    def update(self, network: nn.Module, *, batch_size: int, nimg: int) -> None:
        """Update with the weights of the step that ends after `nimg` images; the first step replaces the averages."""
        for gamma, average in zip(self.gammas, self.averages, strict=True):
            update_ema(average, network, power_decay(gamma, batch_size, nimg))


# --- after the run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A stored average from one snapshot."""

    path: Path
    sigma: float
    nimg: int


def file_name(sigma: float, nimg: int) -> str:
    """File name of an average after `nimg` images; names with the same sigma sort by age."""
    return f"sigma-{sigma:g}_nimg-{nimg:012d}.safetensors"


def stored_averages(run: Path, *, until: int | None = None) -> list[Stored]:
    """List the averages in a run's folder up to `until` images, oldest first. UserError if there are none."""
    found = []
    for path in sorted((run / FOLDER).glob("*.safetensors")):
        match = _NAME.fullmatch(path.name)
        if match is not None and int(match["nimg"]) > 0:
            found.append(Stored(path, float(match["sigma"]), int(match["nimg"])))
    kept = [each for each in found if until is None or each.nimg <= until]
    if not kept:
        first = min((each.nimg / 1000 for each in found), default=None)
        why = "training.posthoc_ema=[0.05,0.1] keeps them" if first is None else f"the first is of {first:g} kimg"
        raise UserError(f"There are no stored averages in '{run / FOLDER}' to combine: {why}.")
    return sorted(kept, key=lambda each: (each.nimg, each.sigma))


def inner_products(nimg_a: Numbers, gamma_a: Numbers, nimg_b: Numbers, gamma_b: Numbers) -> Numbers:
    """Integral of p_a p_b over time, where p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1) up to t (appendix C.3).

    With m = min(t_a, t_b): (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) * m^(gamma_a + gamma_b + 1)
    / (t_a^(gamma_a + 1) t_b^(gamma_b + 1)). The arguments are numbers or arrays, which broadcast.
    """
    shorter = np.minimum(nimg_a, nimg_b)
    total = gamma_a + gamma_b + 1
    powers = (shorter / nimg_a) ** (gamma_a + 1) * (shorter / nimg_b) ** (gamma_b + 1) / shorter
    return (gamma_a + 1) * (gamma_b + 1) / total * powers


def solve(nimgs: Sequence[int], sigmas: Sequence[float], *, nimg: int, sigma: float) -> tuple[np.ndarray, float]:
    """Fit stored profiles to the one of `sigma` at `nimg`; return their coefficients (S,) and the relative residual.

    The coefficients minimise |sum x_i p_i - p|^2; the residual is the square root of that minimum over |p|^2, 0 for an
    exact fit.
    """
    times, gammas = np.asarray(nimgs, np.float64), np.asarray([gamma_of(each) for each in sigmas])
    target, gamma = np.float64(nimg), np.float64(gamma_of(sigma))
    gram = inner_products(times[:, None], gammas[:, None], times[None], gammas[None])
    right = inner_products(times, gammas, target, gamma)
    norm = float(inner_products(target, gamma, target, gamma))
    # Profiles of neighbouring snapshots are nearly parallel: scale them to unit length, and let rcond drop directions
    # that are determined by rounding only.
    scale = np.sqrt(np.diag(gram))
    factors = np.linalg.lstsq(gram / np.outer(scale, scale), right / scale, rcond=1e-12)[0] / scale
    left = norm - 2 * float(factors @ right) + float(factors @ gram @ factors)
    return factors, float(np.sqrt(max(left, 0.0) / norm))


@torch.no_grad()
def combined(stored: Sequence[Stored], factors: np.ndarray) -> GeneratorNetwork:
    """Return the generator whose parameters are the weighted sum of the stored ones, computed in float64; its buffers
    are those of the newest."""
    newest = max(stored, key=lambda each: each.nimg)
    result = load(newest.path, needs=["generator"]).generator
    sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in result.named_parameters()}
    for each, factor in zip(stored, factors.tolist(), strict=True):
        for name, tensor in load(each.path, needs=["generator"]).generator.named_parameters():
            sums[name] += factor * tensor.double()
    for name, tensor in result.named_parameters():
        tensor.copy_(sums[name])
    return result


def averaged(stored: Sequence[Stored], *, sigma: float, folder: Path) -> tuple[Path, MetricResult]:
    """Write the generator averaged with the profile of `sigma` at the newest snapshot; return the file and the error of
    the profile. The mean of w is recomputed with the averaged mapping."""
    newest = max(stored, key=lambda each: each.nimg)
    nimg = newest.nimg
    factors, left = solve([each.nimg for each in stored], [each.sigma for each in stored], nimg=nimg, sigma=sigma)
    generator = combined(stored, factors)
    if any(True for _ in generator.mapping.parameters()):
        generator.mapping.w_avg.copy_(sample_w(generator, NUM_SAMPLES, seed=0).mean(dim=0))
    protocol = {"sigma": sigma, "kimg": nimg / 1000, "num_stored": len(stored),
                "stored_sigmas": sorted({each.sigma for each in stored})}  # fmt: skip
    metadata = load(newest.path).metadata | {"weights": f"post-hoc average, sigma {sigma:g}", "nimg": nimg}
    path = save(folder / f"sigma-{sigma:g}.safetensors", generator=generator, metadata=metadata | {"ema": protocol})
    return path, MetricResult.of(PROFILE_ERROR, f"profile_error_sigma{sigma:g}", left, protocol=protocol)
