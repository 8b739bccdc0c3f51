"""Streaming statistics of feature vectors in float64, and intervals by resampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.processes import total

ROWS_AT_ONCE = 512  # of a group: what one matrix product takes in


class FeatureStatistics:
    """Number, sum and sum of outer products of feature vectors: enough for mean and covariance, whatever the number.

    Sums in float64 can be added and subtracted, so the statistics of a union or of a rest cost nothing more.
    """

    def __init__(self, num: int, total: Tensor, outer: Tensor) -> None:
        self.num, self.total, self.outer = num, total, outer

    @classmethod
    def empty(cls, dim: int, device: torch.device | str = "cpu") -> FeatureStatistics:
        """Statistics of no vector of size `dim`."""
        zeros = {"dtype": torch.float64, "device": device}
        return cls(0, torch.zeros(dim, **zeros), torch.zeros(dim, dim, **zeros))  # type: ignore[arg-type]

    def add(self, features: Tensor) -> None:
        """Take in features (N, dim)."""
        features = features.detach().to(self.total.device, torch.float64)
        self.num += len(features)
        self.total += features.sum(dim=0)
        self.outer.addmm_(features.T, features)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        return FeatureStatistics(self.num + other.num, self.total + other.total, self.outer + other.outer)

    def __sub__(self, other: FeatureStatistics) -> FeatureStatistics:
        return FeatureStatistics(self.num - other.num, self.total - other.total, self.outer - other.outer)

    @property
    def mean(self) -> Tensor:
        """(dim,) float64."""
        return self.total / self.num

    @property
    def covariance(self) -> Tensor:
        """Unbiased, (dim, dim) float64."""
        return (self.outer - self.num * torch.outer(self.mean, self.mean)) / (self.num - 1)

    def cpu(self) -> FeatureStatistics:
        """The same on the CPU."""
        return FeatureStatistics(self.num, self.total.cpu(), self.outer.cpu())


class GroupedStatistics:
    """Statistics of features that are dealt to `num_groups` groups; a collector (wplus.evaluation.passes).

    Row i goes to group (i // block) mod num_groups: a block of rows (an image and its mirror image) stays together.
    Rows wait until there are several hundred for every group, so that few large products are made of them.
    """

    groups: list[FeatureStatistics]

    def __init__(self, num_groups: int = 1, *, block: int = 1) -> None:
        self.num_groups, self.block = num_groups, block
        self.key = f"statistics of {num_groups} groups, blocks of {block}"
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        """Empty groups on the device that the features come on."""
        self.groups = [FeatureStatistics.empty(dim, device) for _ in range(self.num_groups)]

    def add(self, features: Tensor, rows: Tensor) -> None:
        """Take in features (B, dim) of rows (B,)."""
        self._waiting.append((features.detach(), rows // self.block % self.num_groups))
        if sum(len(rows) for _, rows in self._waiting) >= ROWS_AT_ONCE * self.num_groups:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        features, groups = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        for number, group in enumerate(self.groups):
            rows = (groups == number).nonzero().squeeze(1)
            group.add(features[rows.to(features.device)])

    def merge(self) -> None:
        """Add the sums of all processes, and bring them to the CPU."""
        self._flush()
        self.groups = [FeatureStatistics(*map(_summed, (g.num, g.total, g.outer))) for g in self.groups]

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers, sums and sums of products, stacked over the groups."""
        return {
            "nums": np.array([group.num for group in self.groups]),
            "totals": np.stack([group.total.numpy() for group in self.groups]),
            "outers": np.stack([group.outer.numpy() for group in self.groups]),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """From those arrays."""
        sums = zip(torch.from_numpy(arrays["totals"]), torch.from_numpy(arrays["outers"]), strict=True)
        self.groups = [FeatureStatistics(int(num), *s) for num, s in zip(arrays["nums"], sums, strict=True)]

    @property
    def whole(self) -> FeatureStatistics:
        """All groups together."""
        whole = self.groups[0]
        for group in self.groups[1:]:
            whole = whole + group
        return whole


def _summed(value: Any) -> Any:
    """Over the processes: a tensor, then on the CPU, or a whole number."""
    return total(value).cpu() if isinstance(value, Tensor) else int(total(torch.tensor(value)))


# Intervals


def jackknife_interval(value: float, without_group: list[float]) -> tuple[float, float]:
    """95 % interval of `value` from the values with one of G groups left out (delete-a-group jackknife).

    Standard error sqrt((G-1)/G sum (v_g - mean)^2), Student's t with G-1 degrees of freedom (Efron & Tibshirani 1993,
    chapter 11).
    """
    from scipy.stats import t

    values, num = np.asarray(without_group), len(without_group)
    error = np.sqrt((num - 1) / num * ((values - values.mean()) ** 2).sum())
    reach = float(t.ppf(0.975, num - 1) * error)
    return value - reach, value + reach
