"""The distribution metrics as `torchmetrics.Metric`, for use in any loop, with the same numbers as the commands.

Examples:
    >>> import torch
    >>> from wplus.evaluation.torch_metrics import FrechetDistance
    >>> metric = FrechetDistance()
    >>> metric.update(torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8), real=True)
    >>> metric.update(torch.rand(20, 3, 32, 32) * 2 - 1, real=False)
    >>> bool(metric.compute() > 0)
    True

States are sums or rows of features, which accumulate over batches and processes and are cleared by `reset`.
"""

import itertools
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from wplus.core.batching import MIN_SHOWN, at_least
from wplus.core.images import as_uint8
from wplus.evaluation.frechet import FeatureStatistics, frechet_distance
from wplus.evaluation.kernel import NUM_SUBSETS, SUBSET_SIZE, kernel_distances
from wplus.evaluation.manifold import DENSITY_K, PRECISION_K, density_coverage, precision_recall
from wplus.pretrained.effnet_lite0 import EffNetLite0Features
from wplus.pretrained.extractor import Extractor


class FrechetDistance(Metric):
    """Fréchet distance between generated and real images (`wplus.evaluation.frechet`).

    Args:
        extractor: features to compare; None: `EffNetLite0Features`. With `InceptionFeatures` this is FID.
    """

    is_differentiable, higher_is_better, full_state_update = False, False, False

    def __init__(self, extractor: Extractor | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extractor = extractor or EffNetLite0Features()
        nothing = vars(FeatureStatistics.of(torch.zeros(0, self.extractor.dim)))
        for side, (name, value) in itertools.product(("real", "generated"), nothing.items()):
            self.add_state(f"{side}_{name}", torch.as_tensor(value), dist_reduce_fx="sum")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images (N, C, H, W), uint8 or float in [-1, 1]."""
        for name, value in vars(FeatureStatistics.of(features(self.extractor, images))).items():
            state = f"{'real' if real else 'generated'}_{name}"
            setattr(self, state, getattr(self, state) + value)

    def compute(self) -> Tensor:
        """Return the distance, float64; needs at least two images on each side."""
        sides = ([getattr(self, f"{side}_{name}") for name in ("num", "total", "outer")]
                 for side in ("real", "generated"))  # fmt: skip
        real, generated = (FeatureStatistics(int(num), total, outer) for num, total, outer in sides)
        return torch.tensor(frechet_distance(real, generated), dtype=torch.float64)


class PairwiseMetric(Metric):
    """Base class of metrics that compare all pairs of images; keeps all features, float32 (N, dim) per side."""

    is_differentiable, full_state_update = False, False
    real_rows: list[Tensor]
    generated_rows: list[Tensor]

    def __init__(self, extractor: Extractor | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extractor = extractor or EffNetLite0Features()
        self.add_state("real_rows", [], dist_reduce_fx="cat")
        self.add_state("generated_rows", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, real: bool) -> None:
        """Add images (N, C, H, W), uint8 or float in [-1, 1]."""
        rows = self.real_rows if real else self.generated_rows
        rows.append(features(self.extractor, images).float())

    def sides(self) -> tuple[Tensor, Tensor]:
        """Features of the real and the generated images."""
        return dim_zero_cat(self.real_rows), dim_zero_cat(self.generated_rows)


class KernelDistance(PairwiseMetric):
    """`kernel_distance` and its standard deviation over subsets, `kernel_distance_std` (`wplus.evaluation.kernel`)."""

    higher_is_better = False

    def __init__(self, extractor: Extractor | None = None, *, num_subsets: int = NUM_SUBSETS,
                 subset_size: int = SUBSET_SIZE, seed: int = 0, **kwargs: Any) -> None:  # fmt: skip
        super().__init__(extractor, **kwargs)
        self.options: dict[str, Any] = {"num_subsets": num_subsets, "subset_size": subset_size, "seed": seed}

    def compute(self) -> dict[str, Tensor]:
        """Return both values, over subsets of all images in the order they were added."""
        found = kernel_distances(*self.sides(), num_groups=0, device=self.device, **self.options)
        return as_tensors(kernel_distance=found.mean, kernel_distance_std=found.std)


class PrecisionRecall(PairwiseMetric):
    """Improved `precision` and `recall` (`wplus.evaluation.manifold`); each side needs more than k images."""

    higher_is_better = True

    def __init__(self, extractor: Extractor | None = None, *, k: int = PRECISION_K, **kwargs: Any) -> None:
        super().__init__(extractor, **kwargs)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        """Return both values over all images."""
        precision, recall = precision_recall(*self.sides(), k=self.k, device=self.device)
        return as_tensors(precision=precision, recall=recall)


class DensityCoverage(PrecisionRecall):
    """`density` and `coverage` (`wplus.evaluation.manifold`); needs more than k real images."""

    def __init__(self, extractor: Extractor | None = None, *, k: int = DENSITY_K, **kwargs: Any) -> None:
        super().__init__(extractor, k=k, **kwargs)

    def compute(self) -> dict[str, Tensor]:
        """Return both values over all images."""
        density, coverage = density_coverage(*self.sides(), k=self.k, device=self.device)
        return as_tensors(density=density, coverage=coverage)


@torch.no_grad()
def features(extractor: Extractor, images: Tensor) -> Tensor:
    """Features (N, dim) of images (N, C, H, W), independent of the batch."""
    return extractor(at_least(MIN_SHOWN, as_uint8(images)))[: len(images)]


def as_tensors(**values: float) -> dict[str, Tensor]:
    """Convert values to float64 scalar tensors."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
