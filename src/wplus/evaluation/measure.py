"""The loop that runs metrics one after another.

A metric is a generator function `metric(models, *, real, batch_size, device, seed, progress, **options)` that yields
`Measurement`s; whoever calls decides what to print and where to log. A new metric is one such function and one file in
configs/metrics/.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.measurement import Measurement
from wplus.progress import track
from wplus.tracking import Tracker


class Images(Protocol):
    """What metrics need of a set of real images (wplus.data.ImageSet)."""

    fingerprint: str
    resolution: int
    img_channels: int
    labels: Tensor | None

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Image numbers (B,) -> uint8 images (B, C, H, W), labels (B, c_dim)."""


class Deferred:
    """Images that are read when a metric first asks for them: most path lengths need none."""

    def __init__(self, read: Callable[[], Images]) -> None:
        self._images = functools.cache(read)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images(), name)

    def __len__(self) -> int:
        return len(self._images())


Progress = Callable[..., Iterator[Any]]
"""(items, description, *, total) -> the same items, under a progress bar."""
_SHOWN = ("extractor", "distance", "num_real", "num_other_real", "num_generated", "num_samples", "truncation_psi",
          "noise_mode", "seed", "weights", "seconds")  # fmt: skip
Metric = Callable[..., Iterator["Measurement"]]


def measure(
    models: Any,
    metrics: Mapping[str, Metric],
    *,
    real: Images | None,
    batch_size: int,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress = track,
) -> Iterator[Measurement]:
    """Run every metric on `models` and yield its measurements as they come; protocols get the seconds it took."""
    if models.generator is None:
        raise UserError("The checkpoint has no generator, so there is nothing to measure.")
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size} is not allowed: it must be 1 or more.")
    shared = {"real": real, "batch_size": batch_size, "device": device, "seed": seed, "progress": progress}
    for metric in metrics.values():
        began = time.perf_counter()
        for measurement in metric(models, **shared):
            seconds = round(time.perf_counter() - began, 2)
            yield replace(measurement, protocol=measurement.protocol | {"seconds": seconds})


def check_images(generator: Any, real: Images) -> None:
    """UserError unless real and generated images have the same size and channels."""
    ours, theirs = (generator.resolution, generator.img_channels), (real.resolution, real.img_channels)
    if ours != theirs:
        raise UserError(
            f"The generator makes images of {ours[0]} px with {ours[1]} channels and the data has {theirs[0]} px "
            f"with {theirs[1]}; they must be equal."
        )


def report(measurements: Iterable[Measurement], tracker: Tracker) -> Iterator[Measurement]:
    """Log measurements as they come, pass them on, and log a table of all at the end."""
    rows = []
    for m in measurements:
        low, high = m.interval or (None, None)
        tracker.summary({m.name: {"value": m.value, "protocol": m.protocol, "interval": m.interval}})
        rows.append([m.name, m.value, low, high, in_words(m.protocol)])
        yield m
    tracker.table("evaluation/metrics", ["metric", "value", "low", "high", "protocol"], rows)


def generator_protocol(models: Any, **sampling: Any) -> dict[str, Any]:
    """What a protocol says of the generator: its fingerprint, whether the weights are an average, how it is sampled."""
    metadata = models.metadata or {}
    # Our checkpoints say "weights"; what is read from NVlabs' pickles says which of the file's generators it is.
    weights = metadata.get("weights") or metadata.get("generator") or "as stored in the file"
    return {"generator": models.fingerprint, "weights": weights, **sampling}


def table(measurements: Iterable[Measurement]) -> Any:
    """A rich table: name, value, 95 % interval, and the protocol in a few words."""
    from rich.table import Table

    rows = Table(box=None, header_style="bold")
    for column, justify in (
        ("metric", "left"),
        ("value", "right"),
        ("95 % interval", "right"),
        ("measured with", "left"),
    ):
        rows.add_column(column, justify=justify)  # type: ignore[arg-type]
    for m in measurements:
        bounds = "" if m.interval is None else f"{m.interval[0]:.4g} .. {m.interval[1]:.4g}"
        rows.add_row(m.name, f"{m.value:.4g}", bounds, in_words(m.protocol))
    return rows


def in_words(protocol: Mapping[str, Any]) -> str:
    """The entries of a protocol that decide most, as `key value, ...`; the whole of it stands in result.json."""
    return ", ".join(f"{key.replace('_', ' ')} {protocol[key]}" for key in _SHOWN if protocol.get(key) is not None)
