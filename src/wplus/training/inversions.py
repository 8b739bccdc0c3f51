"""What can be seen of an encoder's training: held-out images over their inversions, and how far apart they are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.errors import check_number
from wplus.training.encoder import EncoderModule
from wplus.training.snapshot import BATCH, GRID_COLUMNS, Picture, ProbeResult, at, grid


class InversionView:
    """The first `num_samples` held-out images (a wplus.data.ImageSet), the same at every moment of every run."""

    def __init__(self, held_out: object, *, num_samples: int) -> None:
        check_number("num_samples", num_samples, lowest=1, whole=True)
        count = min(num_samples, len(held_out))
        self.images = to_float(held_out.batch(torch.arange(count))[0])

    def look(self, module: EncoderModule, folder: Path) -> ProbeResult:
        """A grid in which a row of images is followed by the row of their inversions; the mean of each term."""
        found = [module.reconstruct(part.to(module.device)) for part in self.images.split(BATCH)]
        terms = [
            module.compare(images, part.to(module.device))
            for images, part in zip(found, self.images.split(BATCH), strict=True)
        ]
        # By the distance's own name: which net stands behind `perceptual` differs from run to run.
        values = {}
        for term in terms[0]:
            name, mean = module.terms[term].name, torch.cat([part[term] for part in terms]).mean().item()
            about = f"Distance {name} of held-out images from their inversions, mean over images; 0 for equal ones."
            values[f"val/{name}"] = (mean, MetricInfo(meaning=about, direction="lower"))
        caption = "held-out images (odd rows) and their inversions (even rows)"
        image = grid(alternating(self.images, torch.cat(found).cpu()))
        return ProbeResult([Picture(at(module), "samples/inversions", caption, image)], values)


def alternating(first: Tensor, second: Tensor) -> Tensor:
    """Images (N, C, H, W) twice, ordered so that in a grid their rows take turns; a last short row is filled white."""
    missing = -len(first) % GRID_COLUMNS
    if missing:
        white = first.new_ones(missing, *first.shape[1:])
        first, second = torch.cat([first, white]), torch.cat([second, white])
    rows = [part.split(GRID_COLUMNS) for part in (first, second)]
    return torch.cat([row for pair in zip(*rows, strict=True) for row in pair])
