"""Streaming statistics of feature vectors in float64, their cache on disk, and intervals by resampling."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from wplus.files import atomic_write


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
    """Statistics of features that are dealt to `num_groups` groups in turn: vector i goes to group i mod num_groups."""

    def __init__(self, num_groups: int, dim: int, device: torch.device | str = "cpu") -> None:
        self.groups = [FeatureStatistics.empty(dim, device) for _ in range(num_groups)]
        self.num = 0

    def add(self, features: Tensor) -> None:
        """Take in the next features (N, dim)."""
        for offset, group in enumerate(self.groups):
            group.add(features[(offset - self.num) % len(self.groups) :: len(self.groups)])
        self.num += len(features)

    @property
    def whole(self) -> FeatureStatistics:
        """All groups together."""
        whole = self.groups[0]
        for group in self.groups[1:]:
            whole = whole + group
        return whole


# Cache


def cached_statistics(
    folder: str | Path | None, key: Mapping[str, Any], compute: Callable[[], list[FeatureStatistics]]
) -> list[FeatureStatistics]:
    """`compute()`, or what it gave before for the same `key` (plain values: data, extractor, preprocessing).

    Kept as one .npz of plain arrays in `folder` (None: never kept), written atomically; a damaged one is made again.
    """
    if folder is None:
        return compute()
    description = json.dumps(dict(key), sort_keys=True)
    path = Path(folder).expanduser() / f"statistics-{hashlib.sha256(description.encode()).hexdigest()[:16]}.npz"
    found = _read(path, description)
    if found is not None:
        return found
    statistics = [part.cpu() for part in compute()]
    _write(path, description, statistics)
    return statistics


def _read(path: Path, description: str) -> list[FeatureStatistics] | None:
    try:
        # From memory: numpy leaves a file open that turns out to be no zip.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if str(arrays["key"]) != description:
                return None
            totals, outers = torch.from_numpy(arrays["totals"]), torch.from_numpy(arrays["outers"])
            nums = arrays["nums"].tolist()
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return [FeatureStatistics(*part) for part in zip(nums, totals, outers, strict=True)]


def _write(path: Path, description: str, statistics: list[FeatureStatistics]) -> None:
    arrays = {
        "key": np.array(description),
        "nums": np.array([part.num for part in statistics]),
        "totals": np.stack([part.total.numpy() for part in statistics]),
        "outers": np.stack([part.outer.numpy() for part in statistics]),
    }
    atomic_write(path, lambda file: np.savez(file, **arrays))


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
