"""The runner of all probes, and the probe context for translator training."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.core.random import rng
from wplus.data import ImageSet
from wplus.data.domains import TwoDomains
from wplus.probes.probe import BATCH_SIZE, SEED, ProbeContext, ProbeData
from wplus.training.snapshot import ProbeResult, SampleView, View
from wplus.training.translation import TranslationModule

SECONDS = MetricInfo(meaning="Time taken by the probes of a snapshot, besides training.", unit="s", direction="lower")
Probe = Callable[[ProbeContext], ProbeResult]
"""A probe that does not apply to the network or the data returns an empty result."""


class TranslationContext(ProbeContext):
    """Probe context of a translator: generated images are translations from domain a, compared with real images of b.

    Inputs are the held-out images followed by the training images, repeated as needed. There are no latents, and no
    logits of whole images.
    """

    has_latents = False
    has_discriminator = False

    def _generator(self) -> Any:
        return self.module.generator

    def protocol(self, num: int) -> dict[str, Any]:
        """Return the protocol as for a generator, with direction and inputs."""
        return {**super().protocol(num), "direction": "forward", "inputs": "held out, then of training"}

    def _fresh(self, number: int) -> Tensor:
        return self.module.translate(self._inputs(number).to(self.device)).float().cpu()

    def _inputs(self, number: int) -> Tensor:
        """Return images (BATCH_SIZE, C, H, W) of domain a in [-1, 1], shuffled identically at every snapshot."""
        parts = [each.a for each in (self.data.held_out, self.data.train) if isinstance(each, TwoDomains)]
        orders = self.data.once("inputs", lambda: [
            torch.randperm(len(part), generator=rng(self.data.seed, "inputs", part.fingerprint)) for part in parts
        ])  # fmt: skip
        numbers = torch.arange(number * BATCH_SIZE, (number + 1) * BATCH_SIZE) % sum(map(len, parts))
        images = [(parts[0], orders[0], n) if n < len(parts[0]) else (parts[-1], orders[-1], n - len(parts[0]))
                  for n in numbers.tolist()]  # fmt: skip
        return to_float(torch.cat([part.batch(order[n : n + 1])[0] for part, order, n in images]))


class ProbeRunner:
    """A `View` that runs `samples` (by default `SampleView`), then every probe in order.

    `seed` is used for the sample images; `shared` are further arguments of `ProbeData`. Probes do not affect the run:
    weights, modes and torch's random state are left as they were.
    """

    def __init__(
        self, probes: Mapping[str, Probe], *, data: ImageSet, held_out: Callable[[], ImageSet], seed: int,
        num_samples: int, samples: View | None = None, **shared: Any,
    ) -> None:  # fmt: skip
        self.probes = dict(probes)
        self.samples = samples or SampleView(data, seed=seed, num_samples=num_samples)
        self.data = ProbeData(data, held_out, seed=SEED, **shared)

    def look(self, module: Any, folder: Path) -> ProbeResult:
        """Return the merged results of all probes, and the seconds they took."""
        shown, start = self.samples.look(module, folder), time.monotonic()
        moment = TranslationContext if isinstance(module, TranslationModule) else ProbeContext
        with torch.no_grad(), torch.random.fork_rng([module.device] if module.device.type == "cuda" else []):
            context = moment(module, self.data, folder)
            results = [probe(context) for probe in self.probes.values()]
        self.data.tell_if_seen(context.generator.saw)
        shared, self.data.messages = ProbeResult(messages=self.data.messages), []
        seconds = {"progress/probe_seconds": (time.monotonic() - start, SECONDS)} if self.probes else {}
        return merged([shown, *results, shared, ProbeResult(values=seconds)])


def merged(results: Sequence[ProbeResult]) -> ProbeResult:
    """Merge results in order; for equal names the last one wins."""
    return ProbeResult(
        pictures=[picture for result in results for picture in result.pictures],
        values={name: value for result in results for name, value in result.values.items()},
        histograms={name: numbers for result in results for name, numbers in result.histograms.items()},
        messages=[message for result in results for message in result.messages],
        summary={name: entry for result in results for name, entry in result.summary.items()},
    )
