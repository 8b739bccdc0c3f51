"""Latent editing consistency (Tov et al. 2021, https://arxiv.org/abs/2102.02766, section 5.3): edit there and back.

A code w is edited, its picture inverted anew, and the edit undone: || w - undo(invert(G(do(w)))) ||. An inverter whose
codes follow edits comes back to where it started.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricResult
from wplus.core.progress import track
from wplus.core.stats import bootstrap_interval, kept_mean
from wplus.latents.w_stats import sample_w

Inverter = Callable[[Tensor], Tensor]
"""Images (N, C, R, R), about [-1, 1] -> their codes (N, num_ws, w_dim)."""


def consistency(
    models: Any,
    ws: Tensor,
    *,
    invert: Inverter,
    edits: Mapping[str, Tensor],
    batch_size: int = 16,
    seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:
    """Yield LEC of the codes ws (N, num_ws, w_dim), which `invert` found for images, for each edit.

    `edits` says what is added to ws, name -> (num_ws, w_dim), as `Direction.shift` gives it. Lower is better. For each
    edit come

        lec_EDIT           the mean of the norms over (num_ws, w_dim) from the 1st to the 99th percentile. The
                           published number filters means over batches; here every image counts for itself, so that
                           the batch size does not change the result
        lec_EDIT_all       the mean of all; `edit_errors` has the numbers that it is the mean of, image by image
        lec_EDIT_per_edit  lec over the norm of the edit: 1 is an inverter that answers every picture with its old code;
                           left out where the edit is zero, which measures the second inversion alone
        lec_EDIT_per_std   lec over the deviation of w from its mean, in all layers: comparable between generators

    each with a 95 % bootstrap interval over images, the filter included. `protocol` is what the caller knows of the
    inverter and the images.
    """
    found = edit_errors(models.generator, ws, invert=invert, edits=edits, batch_size=batch_size)
    yield from summarised(models, found, edits=edits, seed=seed, protocol=protocol)


def edit_errors(
    generator: Any, ws: Tensor, *, invert: Inverter, edits: Mapping[str, Tensor], batch_size: int = 16
) -> dict[str, Tensor]:
    """Edit -> norm of each image, see `errors`: what inverters are compared by, image by image."""
    return {
        name: errors(generator, ws, invert=invert, shift=shift, batch_size=batch_size) for name, shift in edits.items()
    }


def summarised(
    models: Any,
    found: Mapping[str, Tensor],
    *,
    edits: Mapping[str, Tensor],
    seed: int = 0,
    protocol: Mapping[str, Any] | None = None,
) -> Iterator[MetricResult]:
    """The measurements of `consistency`, from the errors of each edit."""
    deviation = math.sqrt(models.generator.num_ws) * prior_deviation(models.generator, seed=seed)
    for name, shift in edits.items():
        norms = found[name].numpy()
        known = {
            "generator": models.fingerprint,
            "edit_norm": float(shift.norm()),
            "prior_deviation": deviation,
            "num_images": len(norms),
            "seed": seed,
            "interval": "95 %, percentile bootstrap over images, 1000 resamples",
            **(protocol or {}),
        }
        filtered = known | {"kept": "1st to 99th percentile of images"}
        yield _measurement(f"lec_{name}", norms, kept_mean, filtered, seed)
        yield _measurement(f"lec_{name}_all", norms, lambda rows: rows.mean(axis=-1), known, seed)
        if shift.any():
            yield _measurement(f"lec_{name}_per_edit", norms / float(shift.norm()), kept_mean, filtered, seed)
        yield _measurement(f"lec_{name}_per_std", norms / deviation, kept_mean, filtered, seed)


@torch.no_grad()
def errors(generator: Any, ws: Tensor, *, invert: Inverter, shift: Tensor, batch_size: int = 16) -> Tensor:
    """The norm of each image, (N,) float64 on the CPU, for one edit that adds `shift` (num_ws, w_dim) to ws."""
    device = generator.mapping.w_avg.device
    shift, found = shift.to(device), []
    for batch in track(ws.split(batch_size), "Editing there and back (batches)"):
        codes = batch.to(device)
        images = generator.synthesis(codes + shift, noise_mode="const")
        with torch.enable_grad():  # an inverter may optimise
            again = invert(images)
        found.append((codes - (again.detach().to(device) - shift)).double().flatten(1).norm(dim=1).cpu())
    return torch.cat(found)


def prior_deviation(generator: Any, *, seed: int = 0, num_samples: int = 10_000) -> float:
    """Root of the expected squared distance of w from its mean."""
    w = sample_w(generator, num_samples, seed=seed)
    return float((w - w.mean(dim=0)).square().sum(dim=1).mean().sqrt())


def _measurement(
    name: str, values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], protocol: dict[str, Any], seed: int
) -> MetricResult:
    interval = bootstrap_interval(values, statistic, seed=seed) if len(values) > 1 else None
    return MetricResult(name, float(statistic(values)), protocol, interval)
