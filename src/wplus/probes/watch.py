"""The view of a generator's training: its sample grids, and whatever looks were chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from wplus.data import ImageSet
from wplus.probes.scene import ProbeContext, ProbeData
from wplus.training.gan import GanModule
from wplus.training.snapshot import ProbeResult, SampleView

Probe = Callable[[ProbeContext], ProbeResult]
"""One that does not apply to a network, or to the data, sees nothing."""


class ProbeRunner:
    """A `View`: fixed latents and real images as ever (`SampleView`), then each look, one after the other.

    Looking changes nothing of the run: neither weights nor modes nor torch's random numbers.
    """

    def __init__(
        self,
        looks: Mapping[str, Probe],
        *,
        data: ImageSet,
        held_out: Callable[[], ImageSet],
        seed: int,
        num_samples: int,
    ) -> None:
        self.looks = dict(looks)
        self.samples = SampleView(data, seed=seed, num_samples=num_samples)
        self.kept = ProbeData(data, held_out, seed=seed)

    def look(self, game: GanModule, folder: Path) -> ProbeResult:
        """All that is seen, and the seconds that it took beyond the grids."""
        grids, start = self.samples.look(game, folder), time.monotonic()
        devices = [game.device] if game.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            scene = ProbeContext(game, self.kept, folder)
            seen = [look(scene) for look in self.looks.values()]
        said, self.kept.unsaid = ProbeResult(words=self.kept.unsaid), []
        took = ProbeResult(values={"progress/watch_seconds": time.monotonic() - start} if self.looks else {})
        return together([grids, *seen, said, took])


def together(parts: Sequence[ProbeResult]) -> ProbeResult:
    """All of them in order; of equal names the later one stands."""
    return ProbeResult(
        pictures=[picture for part in parts for picture in part.pictures],
        values={name: value for part in parts for name, value in part.values.items()},
        histograms={name: numbers for part in parts for name, numbers in part.histograms.items()},
        words=[sentence for part in parts for sentence in part.words],
        summary={name: entry for part in parts for name, entry in part.summary.items()},
    )
