"""All pairs of two sets of feature vectors, once: kernel sums, neighbours and balls need the same inner products.

The matrix of all pairs is never held. It is made block by block in float64, and every block is shown to all statistics
that were asked for. Vectors are centred first, so that |x - y|^2 = |x|^2 + |y|^2 - 2 x.y loses nothing to a large mean;
float32 would lose the small distances, those that neighbours are made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.evaluation.bench import Bench
from wplus.evaluation.cache import load_arrays, save_arrays
from wplus.evaluation.passes import Collected, FeatureRows, Pass, Progress
from wplus.processes import all_agree, is_first
from wplus.progress import silent

BLOCK = 1024  # vectors of either set in a block, which is 8 MB of float64
SAME = 1e-11
"""Two vectors are the same when their squared distance is below this part of the sum of their squared lengths: in
float32 a net gives one image features that differ by a millionth from one batch to another."""


class Part:
    """Some vectors of a set, and what their pairs need of each of them alone."""

    def __init__(self, features: Tensor, place: slice, centre: Tensor) -> None:
        self.place = place
        self.centred = features[place].to(centre) - centre
        self.lengths = torch.linalg.vecdot(self.centred, self.centred)
        self.shift = self.centred @ centre + centre.square().sum() / 2


class Block:
    """All pairs of two parts.

    on_diagonal: row i and column i are one and the same vector of one set.
    """

    def __init__(self, rows: Part, cols: Part, inner: Tensor, *, on_diagonal: bool) -> None:
        self._rows, self._cols, self._inner = rows, cols, inner
        self.rows, self.cols, self.on_diagonal = rows.place, cols.place, on_diagonal

    @cached_property
    def products(self) -> Tensor:
        """x.y (R, C), float64."""
        return self._inner + self._rows.shift[:, None] + self._cols.shift

    @cached_property
    def squares(self) -> Tensor:
        """|x - y|^2 (R, C), float64; exactly 0 for vectors that are the same."""
        lengths = self._rows.lengths[:, None] + self._cols.lengths
        squares = torch.sub(lengths, self._inner, alpha=2)
        return squares.masked_fill_(squares < lengths.mul_(SAME), 0.0)

    def transposed(self) -> Block:
        """The same pairs, seen from the other side."""
        block = Block(self._cols, self._rows, self._inner.T, on_diagonal=self.on_diagonal)
        for name in {"products", "squares"} & set(self.__dict__):
            block.__dict__[name] = self.__dict__[name].T
        return block


class PairStatistic(Protocol):
    """What is computed of all pairs. One object is used for one sweep."""

    key: str
    """Plain text that says what is computed: two statistics with equal keys are the same."""

    def begin(self, rows: Tensor, cols: Tensor, device: torch.device | str) -> None:
        """Told once, before the first block: the two sets, (N, dim) and (M, dim), and where to compute."""

    def see(self, block: Block) -> None:
        """Told every block, each once."""

    def result(self) -> Any:
        """Asked once, after the last block; tensors on the CPU."""


class Asked:
    """The result of one request."""

    def __init__(self, sweep: Sweep, statistic: PairStatistic) -> None:
        self._sweep, self.statistic, self.done = sweep, statistic, False
        self.found: Any = None

    @property
    def value(self) -> Any:
        """What the statistic found; the first to ask starts the sweep."""
        if not self.done:
            self._sweep.run()
        return self.found


class Sweep:
    """All pairs of the vectors of two sets, or of one set with itself (`cols` None; that is half the work).

    rows, cols  give features (N, dim) when the sweep runs
    kept        where results, then single tensors, are kept from one command to the next; None: nowhere
    """

    def __init__(
        self,
        rows: Callable[[], Tensor],
        cols: Callable[[], Tensor] | None = None,
        *,
        device: torch.device | str = "cpu",
        progress: Progress = silent,
        kept: Kept | None = None,
    ) -> None:
        self._rows, self._cols, self._progress, self._kept = rows, cols, progress, kept
        # Apple's GPUs have no float64.
        self._device = "cpu" if torch.device(device).type == "mps" else device
        self._requests: dict[str, Asked] = {}

    def ask(self, statistic: PairStatistic) -> Asked:
        """Have `statistic` computed, together with all others that are asked for before the first value is read."""
        return self._requests.setdefault(statistic.key, Asked(self, statistic))

    def run(self) -> None:
        """Find all that was asked for: where it was kept, the rest in one pass over all pairs."""
        waiting = [request for request in self._requests.values() if not request.done]
        left = [request for request in waiting if not self._recall(request)]
        if left:
            self._go_through(left)
        for request in left:
            request.found, request.done = request.statistic.result(), True
            if self._kept is not None:
                self._kept.save(request.statistic.key, request.found)

    def _recall(self, request: Asked) -> bool:
        """Where it was kept for every process: a sweep may start a pass that all of them have to take part in."""
        if self._kept is None:
            return False
        found = self._kept.load(request.statistic.key)
        request.done = all_agree(found is not None)
        request.found = found if request.done else None
        return request.done

    def _go_through(self, requests: list[Asked]) -> None:
        rows = self._rows()
        cols = rows if self._cols is None else self._cols()
        for request in requests:
            request.statistic.begin(rows, cols, self._device)
        for block in self._blocks(rows, cols):
            for request in requests:
                request.statistic.see(block)

    def _blocks(self, rows: Tensor, cols: Tensor) -> Iterator[Block]:
        symmetric = self._cols is None
        centre = rows.mean(dim=0, dtype=torch.float64).to(self._device)  # no float64 copy of all rows
        places = [(i, j) for i in _places(rows) for j in _places(cols) if not symmetric or i.start <= j.start]
        row = None
        for i, j in self._progress(places, "Pairs of images", total=len(places)):
            row = Part(rows, i, centre) if row is None or row.place != i else row
            on_diagonal = symmetric and i == j
            col = row if on_diagonal else Part(cols, j, centre)
            block = Block(row, col, row.centred @ col.centred.T, on_diagonal=on_diagonal)
            yield block
            if symmetric and not on_diagonal:
                yield block.transposed()


def _places(features: Tensor) -> list[slice]:
    return [slice(start, min(start + BLOCK, len(features))) for start in range(0, len(features), BLOCK)]


@dataclass(frozen=True)
class Kept:
    """Results of sweeps over real images, on disk: one tensor for each key."""

    folder: str
    images: Any
    extractor: Any

    def load(self, statistic: str) -> Tensor | None:
        """The tensor, if it was kept."""
        arrays = load_arrays(self.folder, self._key(statistic))
        return None if arrays is None else torch.from_numpy(arrays["result"])

    def save(self, statistic: str, result: Tensor) -> None:
        """Keep a tensor."""
        if is_first():
            save_arrays(self.folder, self._key(statistic), {"result": result.numpy()})

    def _key(self, statistic: str) -> dict[str, Any]:
        return {"images": self.images, "extractor": self.extractor, "pairs": statistic}


@dataclass(frozen=True)
class Sweeps:
    """The three sets of pairs: `cross` has the real images in its rows, the generated ones in its columns."""

    real: Sweep
    generated: Sweep
    cross: Sweep
    num_real: int
    num_generated: int

    @classmethod
    def of(cls, real: Tensor, generated: Tensor, device: torch.device | str = "cpu") -> Sweeps:
        """Of features (N, dim) and (M, dim)."""
        sides = [lambda: real, lambda: generated]
        singles = (Sweep(side, device=device) for side in sides)
        return cls(*singles, Sweep(*sides, device=device), num_real=len(real), num_generated=len(generated))


def sweeps(bench: Bench, extractor: Any, real: Pass, generated: Pass) -> Sweeps:
    """Those of the images of two passes; equal requests of several metrics are one."""
    sides = [one_pass.collect(extractor, FeatureRows()) for one_pass in (real, generated)]
    is_kept = bench.cache_dir is not None and real.source.key is not None
    kept = Kept(str(bench.cache_dir), real.source.key, extractor.protocol) if is_kept else None

    def sweep(*sides: Collected, kept: Kept | None = None) -> Sweep:
        features = [lambda side=side: side.value.rows for side in sides]
        return bench.once(sides, lambda: Sweep(*features, device=bench.device, progress=bench.progress, kept=kept))

    singles = sweep(sides[0], kept=kept), sweep(sides[1])
    return Sweeps(*singles, sweep(*sides), num_real=real.num, num_generated=generated.num)
