"""A single pass over many images, shared by all metrics that need it, so that each image is generated or read once.

A metric registers an `Accumulator` with a pass and gets a `Request`. Reading the `value` of any request runs the pass
for everything registered so far; equal requests are merged. `wplus.evaluation.pairwise` iterates over pairs of features
in the same way.
"""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from wplus.core.batching import MIN_SHOWN, at_least
from wplus.core.distributed import all_agree, is_first, share, total
from wplus.core.files import at_home, atomic_write, ensure_folder
from wplus.pretrained.extractor import Extractor

Progress = Callable[..., Iterator[Any]]
"""(items, description, *, total, advance) -> the same items, with a progress bar; see `wplus.core.progress.track`."""


class Accumulator:
    """Accumulates a result over one pass, which calls `begin` once, then `add` for every batch, then `merge`.

    key   plain-text description of what is accumulated; accumulators with equal keys are interchangeable
    kept  names of the result tensors, which are on the CPU after `merge` and are what the cache stores
    """

    key: str
    kept: ClassVar[tuple[str, ...]]

    def begin(self, *sizes: Any, **_: Any) -> None:
        """Allocate storage; each kind of pass documents its arguments."""
        raise NotImplementedError

    def add(self, *batch: Any, **_: Any) -> None:
        """Add a batch."""
        raise NotImplementedError

    def merge(self) -> None:
        """Combine the results of all processes, on every process."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the result in the form the cache stores."""
        return {name: getattr(self, name).numpy() for name in self.kept}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore the result from the cache, in place of `begin`, `add` and `merge`."""
        for name in self.kept:
            setattr(self, name, torch.from_numpy(arrays[name]))


A = TypeVar("A", bound=Accumulator)


class Request(Generic[A]):
    """An accumulator registered with a pass."""

    def __init__(self, asked: Pass, accumulator: A, **about: Any) -> None:
        self._pass, self.accumulator, self.about, self.done = asked, accumulator, about, False

    @property
    def value(self) -> A:
        """The filled accumulator; the first access runs the pass."""
        if not self.done:
            self._pass.run()
        return self.accumulator


class Pass(ABC):
    """Data that is iterated over once for all requests.

    cache_dir  where results are kept across commands; None: no cache
    about      plain values that identify the data; they are part of the cache key
    """

    def __init__(self, *, cache_dir: str | Path | None = None, about: Mapping[str, Any] | None = None) -> None:
        self._cache_dir = None if about is None or cache_dir is None else at_home(cache_dir)
        self._about, self._requests = about or {}, dict[str, Request[Any]]()

    @abstractmethod
    def go_through(self, requests: Sequence[Request[Any]]) -> None:
        """Fill the accumulators of these requests."""

    def run(self) -> None:
        """Fill all pending accumulators, from the cache where possible and the others in a single pass."""
        left = [request for request in self._requests.values() if not request.done and not self._recall(request)]
        folder = self._cache_dir if is_first() else None
        if left:
            if folder is not None:
                ensure_folder(folder)
            self.go_through(left)
        for request in left:
            request.accumulator.merge()
            request.done = True
            if folder is not None:
                save_arrays(folder, self._key(request), request.accumulator.arrays())

    def _request(self, accumulator: A, **about: Any) -> Request[A]:
        key = _text(about | {"accumulator": accumulator.key})
        return self._requests.setdefault(key, Request(self, accumulator, **about))

    def _recall(self, request: Request[Any]) -> bool:
        """Restore a request if the cache has it on every process, since all must take part in the same passes."""
        arrays = None if self._cache_dir is None else load_arrays(self._cache_dir, self._key(request))
        request.done = all_agree(arrays is not None)
        if request.done:
            request.accumulator.restore(arrays)
        return request.done

    def _key(self, request: Request[Any]) -> dict[str, Any]:
        return {**self._about, **request.about, "accumulator": request.accumulator.key}


# Features


class FeatureRows(Accumulator):
    """All features, float32 (N, dim) on the CPU, in canonical order."""

    key, kept = "all features", ("rows",)
    rows: Tensor

    def begin(self, dim: int, num: int, device: torch.device | str) -> None:
        self.rows = torch.zeros(num, dim)

    def add(self, features: Tensor, rows: Tensor) -> None:
        self.rows[rows] = features.detach().cpu().float()

    def merge(self) -> None:
        """Sum over processes: each row was filled by one of them and is zero on the others."""
        self.rows = total(self.rows)


@dataclass(frozen=True)
class Source:
    """The images of a pass, in canonical order.

    num          number of images; each yields `copies` adjacent rows (the image, its mirror image)
    description  title of the progress bar
    protocol     what results report about the images: their origin, number and sampling
    images       image indices (B,) -> uint8 (B * copies, C, H, W)
    key          identifies the images in the cache; None: they are not cached
    """

    num: int
    description: str
    protocol: dict[str, Any]
    images: Callable[[Tensor], Tensor]
    copies: int = 1
    key: dict[str, Any] | None = None


class FeaturePass(Pass):
    """A pass over the images of one source; each goes through each extractor once, however many accumulators use it."""

    def __init__(self, source: Source, *, batch_size: int, device: torch.device | str, progress: Progress,
                 cache_dir: str | Path | None) -> None:  # fmt: skip
        super().__init__(cache_dir=cache_dir, about=None if source.key is None else {"images": source.key})
        self.source, self._batch_size, self._device, self._progress = source, batch_size, device, progress
        self.protocol, self.copies = source.protocol, source.copies
        self.num = source.num * source.copies  # of rows
        self._extractors: dict[str, Extractor] = {}

    def ask(self, extractor: Extractor, accumulator: A) -> Request[A]:
        """Request that the features of all images be accumulated: `begin(dim, number of rows, device)`, then
        `add(features (B, dim), rows (B,) int64 in canonical order)` in any order, each row once."""
        self._extractors.setdefault(_text(extractor.protocol), extractor)
        return self._request(accumulator, extractor=extractor.protocol)

    @torch.no_grad()
    def go_through(self, requests: Sequence[Request[Any]]) -> None:
        groups: dict[str, list[Accumulator]] = {}
        for request in requests:
            groups.setdefault(_text(request.about["extractor"]), []).append(request.accumulator)
        extractors = {name: self._extractors[name].to(self._device) for name in groups}
        for name, accumulator in ((name, each) for name, group in groups.items() for each in group):
            accumulator.begin(extractors[name].dim, self.num, self._device)
        batches = share(torch.arange(self.source.num).split(self._batch_size))
        num = sum(len(batch) for batch in batches)
        for numbers in self._progress(batches, self.source.description, total=num, advance=len):
            images = self.source.images(numbers)
            rows = (numbers[:, None] * self.copies + torch.arange(self.copies)).flatten()
            for name, group in groups.items():
                features = extractors[name](at_least(MIN_SHOWN, images))[: len(images)]
                for accumulator in group:
                    accumulator.add(features, rows)


# Cache: one .npz of plain arrays per key, written atomically, never unpickled


def load_arrays(folder: Path, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Load the arrays stored for `key` (plain values); None if there are none or the file is damaged."""
    path, description = _path(folder, key)
    try:
        # Read from memory, because numpy leaves the file open if it turns out not to be a zip.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return arrays if str(arrays.pop("key", None)) == description else None


def save_arrays(folder: Path, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Store `arrays` for `key`; the file also contains the key itself."""
    path, description = _path(folder, key)
    return atomic_write(path, lambda file: np.savez(file, key=np.array(description), **arrays))  # type: ignore[arg-type]


def _path(folder: Path, key: Mapping[str, Any]) -> tuple[Path, str]:
    description = _text(key)
    return folder / f"features-{hashlib.sha256(description.encode()).hexdigest()[:16]}.npz", description


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True, default=str)
