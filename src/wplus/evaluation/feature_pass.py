"""One pass over many images, shared by all metrics that ask for it: each image is made or read once.

A metric asks a pass for what an `Accumulator` makes of it, and gets a `Request`. Reading the first request's `value`
starts the pass, for all that was asked for until then; equal requests are one. `wplus.evaluation.pairwise` goes through
pairs of features in the same way.
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
"""(items, description, *, total, advance) -> the same items, under a progress bar; see `wplus.core.progress.track`."""


class Accumulator:
    """What becomes of what one pass goes through: it calls `begin` once, then `add` for every batch, then `merge`.

    key   plain text that says what is accumulated: two with equal keys are the same
    kept  names of the tensors that are the result, on the CPU after `merge`: what the cache keeps
    """

    key: str
    kept: ClassVar[tuple[str, ...]]

    def begin(self, *sizes: Any, **_: Any) -> None:
        """Make room; each kind of pass says what it tells."""
        raise NotImplementedError

    def add(self, *batch: Any, **_: Any) -> None:
        """Take a batch in."""
        raise NotImplementedError

    def merge(self) -> None:
        """Bring together what several processes accumulated, on all of them."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The result, for the cache."""
        return {name: getattr(self, name).numpy() for name in self.kept}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The result, from the cache: instead of `begin`, `add` and `merge`."""
        for name in self.kept:
            setattr(self, name, torch.from_numpy(arrays[name]))


A = TypeVar("A", bound=Accumulator)


class Request(Generic[A]):
    """Something that was asked of a pass."""

    def __init__(self, asked: Pass, accumulator: A, **about: Any) -> None:
        self._pass, self.accumulator, self.about, self.done = asked, accumulator, about, False

    @property
    def value(self) -> A:
        """The accumulator, filled; the first to ask starts the pass."""
        if not self.done:
            self._pass.run()
        return self.accumulator


class Pass(ABC):
    """Something to go through once, for all who ask.

    cache_dir  where results are kept from one command to the next; None: nowhere
    about      plain values that say what is gone through: the cache's key
    """

    def __init__(self, *, cache_dir: str | Path | None = None, about: Mapping[str, Any] | None = None) -> None:
        self._cache_dir = None if about is None or cache_dir is None else at_home(cache_dir)
        self._about, self._requests = about or {}, dict[str, Request[Any]]()

    @abstractmethod
    def go_through(self, requests: Sequence[Request[Any]]) -> None:
        """Fill the accumulators of these requests."""

    def run(self) -> None:
        """Fill all accumulators that wait: from the cache where it has them, the others in one go."""
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
        """Where the cache has it for every process: all of them have to take part in the same passes."""
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
        """Every row was filled by one process and is zero on the others."""
        self.rows = total(self.rows)


@dataclass(frozen=True)
class Source:
    """Where the images of a pass come from, in canonical order.

    num          of images; each gives `copies` rows (itself, its mirror image) that stand side by side
    description  for the progress bar
    protocol     what a result says of them: where they come from, how many, how they were sampled
    images       numbers (B,) of images -> uint8 (B * copies, C, H, W)
    key          what they are, for the cache; None: they are not cached
    """

    num: int
    description: str
    protocol: dict[str, Any]
    images: Callable[[Tensor], Tensor]
    copies: int = 1
    key: dict[str, Any] | None = None


class FeaturePass(Pass):
    """Images of one source. Each goes through each extractor once, whatever the number of accumulators behind it."""

    def __init__(self, source: Source, *, batch_size: int, device: torch.device | str, progress: Progress,
                 cache_dir: str | Path | None) -> None:  # fmt: skip
        super().__init__(cache_dir=cache_dir, about=None if source.key is None else {"images": source.key})
        self.source, self._batch_size, self._device, self._progress = source, batch_size, device, progress
        self.protocol, self.copies = source.protocol, source.copies
        self.num = source.num * source.copies  # of rows
        self._extractors: dict[str, Extractor] = {}

    def ask(self, extractor: Extractor, accumulator: A) -> Request[A]:
        """Have accumulated the features of all images: `begin(dim, number of rows, device)`, then `add(features (B,
        dim), rows (B,) int64 of the canonical order)` in any order, each row once."""
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


# Cache: one .npz of plain arrays for each key, written whole, never unpickled


def load_arrays(folder: Path, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """The arrays kept for `key`, which is plain values; None when there are none, or the file is damaged."""
    path, description = _path(folder, key)
    try:
        # From memory: numpy leaves a file open that turns out to be no zip.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return arrays if str(arrays.pop("key", None)) == description else None


def save_arrays(folder: Path, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Keep `arrays` for `key`; the file holds the key itself, too."""
    path, description = _path(folder, key)
    return atomic_write(path, lambda file: np.savez(file, key=np.array(description), **arrays))  # type: ignore[arg-type]


def _path(folder: Path, key: Mapping[str, Any]) -> tuple[Path, str]:
    description = _text(key)
    return folder / f"features-{hashlib.sha256(description.encode()).hexdigest()[:16]}.npz", description


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True, default=str)
