"""Streaming statistics of feature vectors in float64, and intervals by resampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.distributed import rank_and_world, total

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
        return torch.addr(self.outer, self.mean, self.mean, alpha=-self.num).div_(self.num - 1)

    def cpu(self) -> FeatureStatistics:
        """The same on the CPU."""
        return FeatureStatistics(self.num, self.total.cpu(), self.outer.cpu())


def union(parts: Iterable[FeatureStatistics]) -> FeatureStatistics:
    """All parts together; of many that are made one by one only one is held at a time."""
    whole: FeatureStatistics | None = None
    for part in parts:
        if whole is None:
            whole = FeatureStatistics(part.num, part.total.clone(), part.outer.clone())
        else:
            whole.num += part.num
            whole.total += part.total
            whole.outer += part.outer
    assert whole is not None
    return whole


class GroupedStatistics:
    """Statistics of features that are dealt to `num_groups` groups; a collector (wplus.evaluation.passes).

    Row i goes to group (i // block) mod num_groups: a block of rows (an image and its mirror image) stays together.
    Rows wait until they take as much memory as the groups' sums would, then until there are several hundred for every
    group: few images never make sums of all groups at once, and many are summed by few large products. They wait in
    one block of memory: pieces all over it would keep the extractor from using the same memory again and again.
    """

    def __init__(self, num_groups: int = 1, *, block: int = 1) -> None:
        self.num_groups, self.block = num_groups, block
        self.key = f"statistics of {num_groups} groups, blocks of {block}"
        self._sums: list[FeatureStatistics] = []
        self._rows, self._group_of, self._num_waiting = torch.empty(0), torch.empty(0), 0

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        """Remember the size of features, their number, and the device that they come on."""
        self._dim, self._num, self._device = dim, num, device
        # A process without a batch sums these: no rows, but of the right size.
        self._rows = torch.empty(0, dim, device=device)
        self._group_of = torch.empty(0, dtype=torch.int64, device=device)

    def add(self, features: Tensor, rows: Tensor) -> None:
        """Take in features (B, dim) of rows (B,)."""
        groups = (rows // self.block % self.num_groups).to(features.device)
        while len(features):
            self._make_room(features.dtype)
            taken = slice(self._num_waiting, self._num_waiting + len(features))
            num = len(self._rows[taken])
            self._rows[taken], self._group_of[taken] = features[:num].detach(), groups[:num]
            self._num_waiting += num
            features, groups = features[num:], groups[num:]

    def _make_room(self, dtype: torch.dtype) -> None:
        if self._num_waiting < len(self._rows):
            return
        if self._num_waiting:
            self._flush()
        most = ROWS_AT_ONCE if self._sums else max(ROWS_AT_ONCE, 2 * self._dim)  # float32 rows, float64 sums
        num = min(most * self.num_groups, self._num)
        if len(self._rows) != num:
            self._rows = torch.empty(num, self._dim, dtype=dtype, device=self._device)
            self._group_of = torch.empty(num, dtype=torch.int64, device=self._device)

    def _flush(self) -> None:
        """Sums of all groups that hold everything."""
        if not self._sums:
            self._sums = [FeatureStatistics.empty(self._dim, self._device) for _ in range(self.num_groups)]
        for number, group in enumerate(self._sums):
            group.add(self._of_group(number))
        self._num_waiting = 0

    def _of_group(self, number: int) -> Tensor:
        """The rows of a group that wait, (N, dim)."""
        return self._rows[: self._num_waiting][self._group_of[: self._num_waiting] == number]

    def merge(self) -> None:
        """Add the sums of all processes and bring them to the CPU; a single process leaves rows that wait waiting."""
        if self._sums or rank_and_world()[1] > 1:
            self._flush()
            self._sums = [FeatureStatistics(*map(_summed, (g.num, g.total, g.outer))) for g in self._sums]

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers, sums and sums of products, stacked over the groups."""
        groups = list(self.groups)
        return {
            "nums": np.array([group.num for group in groups]),
            "totals": np.stack([group.total.numpy() for group in groups]),
            "outers": np.stack([group.outer.numpy() for group in groups]),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """From those arrays."""
        sums = zip(torch.from_numpy(arrays["totals"]), torch.from_numpy(arrays["outers"]), strict=True)
        self._sums = [FeatureStatistics(int(num), *s) for num, s in zip(arrays["nums"], sums, strict=True)]

    @property
    def groups(self) -> Iterator[FeatureStatistics]:
        """The groups' statistics on the CPU, one after the other; made for each call where rows still wait."""
        if self._sums:
            yield from self._sums
            return
        yield from map(self._group, range(self.num_groups))

    def _group(self, number: int) -> FeatureStatistics:
        group = FeatureStatistics.empty(self._dim, self._device)
        group.add(self._of_group(number))
        return group.cpu()

    @property
    def whole(self) -> FeatureStatistics:
        """All groups together."""
        return union(self.groups)


def _summed(value: Any) -> Any:
    """Over the processes: a tensor, then on the CPU, or a whole number."""
    return total(value).cpu() if isinstance(value, Tensor) else int(total(torch.tensor(value)))


# Intervals


def jackknife_interval(value: float, *without_group: list[float]) -> tuple[float, float]:
    """95 % interval of `value` from the values with one of G groups left out (delete-a-group jackknife).

    Standard error sqrt((G-1)/G sum (v_g - mean)^2), Student's t with G-1 degrees of freedom (Efron & Tibshirani 1993,
    chapter 11). A value of several independent samples has a list for each: squared errors and degrees of freedom add
    up (Arvesen 1969, "Jackknifing U-statistics").
    """
    from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats is 40 MB of other things

    squared = sum((len(values) - 1) * np.var(values) for values in without_group)
    degrees = sum(len(values) - 1 for values in without_group)
    reach = float(stdtrit(degrees, 0.975) * np.sqrt(squared))
    return value - reach, value + reach
