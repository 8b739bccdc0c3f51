"""One pass over many images, shared by all metrics that ask for it: each image is made or read once.

A metric asks with `FeaturePass.collect(extractor, collector)` while it plans, and reads `.value` when it measures; the first
value that is read starts the pass, for everything that was asked for until then. Each image goes through each extractor
once, whatever the number of collectors behind it. Equal requests are one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wplus.core.batching import MIN_SHOWN, at_least
from wplus.core.distributed import all_agree, is_first, share, total
from wplus.core.files import ensure_folder
from wplus.evaluation.cache import load_arrays, save_arrays

Progress = Callable[..., Iterator[Any]]
"""(items, description, *, total, advance) -> the same items, under a progress bar; see `wplus.core.progress.track`."""


@dataclass(frozen=True)
class Sampling:
    """How the generator is sampled. noise_mode: "const" (as stored), "random" (afresh for each image), "none"."""

    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    noise_mode: str = "const"


PLAIN = Sampling()
"""No truncation, the noise that is stored: what the famous metrics are measured on."""


class Accumulator(Protocol):
    """What becomes of the features of a pass. One object is used for one pass.

    key      plain text that says what is collected: two collectors with equal keys collect the same
    begin    called once before the first features: their size, the number of all rows, the device they come on
    add      features (B, dim) of the rows (B,) int64 of the canonical order, in any order, each row once
    merge    brings together what several processes collected, on all of them; called once at the end
    arrays   the content as plain arrays, to be cached; `restore` reads them back instead of begin, add and merge
    """

    key: str

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        """Make room."""

    def add(self, features: Tensor, rows: Tensor) -> None:
        """Take features in."""

    def merge(self) -> None:
        """Finish."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The content."""
        ...

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """From the content."""


class FeatureRows:
    """All features, float32 (N, dim) on the CPU, in canonical order."""

    key = "all features"
    rows: Tensor

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        """Room for `num` features."""
        self.rows = torch.zeros(num, dim)

    def add(self, features: Tensor, rows: Tensor) -> None:
        """Put features (B, dim) in their rows."""
        self.rows[rows] = features.detach().cpu().float()

    def merge(self) -> None:
        """Every row was filled by one process and is zero on the others."""
        self.rows = total(self.rows)

    def arrays(self) -> dict[str, np.ndarray]:
        """As one array."""
        return {"rows": self.rows.numpy()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """From that array."""
        self.rows = torch.from_numpy(arrays["rows"])


class Source(Protocol):
    """Where the images of a pass come from, in canonical order.

    num          of images; each gives `copies` rows (itself, its mirror image) that stand side by side
    description  for the progress bar
    protocol     what a measurement says of them
    key          what they are, for the cache; None: they are not cached
    images       numbers (B,) of images -> uint8 (B * copies, C, H, W)
    """

    num: int
    copies: int
    description: str
    protocol: dict[str, Any]
    key: dict[str, Any] | None

    def images(self, numbers: Tensor) -> Tensor:
        """The images and their copies."""
        ...


class Accumulated:
    """The result of one request."""

    def __init__(self, whole_pass: FeaturePass, extractor: Any, collector: Any) -> None:
        self._pass, self.extractor, self.collector, self.done = whole_pass, extractor, collector, False

    @property
    def value(self) -> Any:
        """The collector, filled; the first to ask starts the pass."""
        if not self.done:
            self._pass.run()
        return self.collector


class FeaturePass:
    """Images of one source, each made or read once and shown to all who asked."""

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        device: torch.device | str,
        progress: Progress,
        cache_dir: str | Path | None = None,
    ) -> None:
        self.source, self._batch_size, self._device, self._progress = source, batch_size, device, progress
        self._cache_dir = cache_dir if source.key is not None else None
        self._requests: dict[tuple[str, str], Accumulated] = {}

    @property
    def num(self) -> int:
        """Number of rows that collectors get: of images, flipped ones counted as well."""
        return self.source.num * self.source.copies

    @property
    def copies(self) -> int:
        """Rows of one image; they stand side by side in the canonical order."""
        return self.source.copies

    @property
    def protocol(self) -> dict[str, Any]:
        """What a measurement must say of these images: where they come from, how many, how they were sampled."""
        return self.source.protocol

    def collect(self, extractor: Any, collector: Any) -> Accumulated:
        """Ask for what `collector` makes of the features of all images."""
        key = (_text(extractor.protocol), collector.key)
        if key not in self._requests:
            self._requests[key] = Accumulated(self, extractor, collector)
        return self._requests[key]

    def run(self) -> None:
        """Fill all collectors that wait: from the cache where it has them, the others in one pass."""
        waiting = {key: request for key, request in self._requests.items() if not request.done}
        left = {key: request for key, request in waiting.items() if not self._recalled(request)}
        if left:
            if self._cache_dir is not None and is_first():
                ensure_folder(Path(self._cache_dir).expanduser())
            self._go_through(left)
        for request in left.values():
            request.collector.merge()
            self._keep(request)
        for request in waiting.values():
            request.done = True

    @torch.no_grad()
    def _go_through(self, requests: Mapping[tuple[str, str], Accumulated]) -> None:
        by_extractor: dict[str, list[Accumulated]] = {}
        for (extractor, _), request in requests.items():
            by_extractor.setdefault(extractor, []).append(request)
            request.collector.begin(request.extractor.dim, self.num, self._device)
        batches = share(torch.arange(self.source.num).split(self._batch_size))
        num = sum(len(batch) for batch in batches)
        extractors = [(group[0].extractor.to(self._device), group) for group in by_extractor.values()]
        for numbers in self._progress(batches, self.source.description, total=num, advance=len):
            images = self.source.images(numbers)
            rows = (numbers[:, None] * self.copies + torch.arange(self.copies)).flatten()
            for extractor, group in extractors:
                features = extractor(at_least(MIN_SHOWN, images))[: len(images)]
                for request in group:
                    request.collector.add(features, rows)

    # Cache

    def _cache_key(self, request: Accumulated) -> dict[str, Any]:
        return {"images": self.source.key, "extractor": request.extractor.protocol, "collector": request.collector.key}

    def _recalled(self, request: Accumulated) -> bool:
        arrays = None if self._cache_dir is None else load_arrays(self._cache_dir, self._cache_key(request))
        if not all_agree(arrays is not None):
            return False
        request.collector.restore(arrays)
        return True

    def _keep(self, request: Accumulated) -> None:
        if self._cache_dir is not None and is_first():
            save_arrays(self._cache_dir, self._cache_key(request), request.collector.arrays())


def _text(protocol: Mapping[str, Any]) -> str:
    return json.dumps(dict(protocol), sort_keys=True, default=str)
