"""All pairs of two sets of feature vectors, once: kernel sums, neighbours and balls need the same inner products.

The matrix of all pairs is never held. It is made block by block, and every block is shown to all statistics that were
asked for. Vectors are centred first, so that |x - y|^2 = |x|^2 + |y|^2 - 2 x.y loses nothing to a large mean.

Products are float32, which takes half the time of float64, and what they may be wrong by is bounded. The bound settles
nearly every question of whether two vectors are closer than some distance; pairs that it leaves open are few, and are
looked at again in float64. So answers are those of float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from wplus.core.distributed import all_agree, is_first
from wplus.core.progress import silent
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.cache import load_arrays, save_arrays
from wplus.evaluation.passes import Accumulated, FeaturePass, FeatureRows, Progress

BLOCK = 1024  # vectors of either set in a block, which is 4 MB of float32
ALONE = 128  # pairs that are looked at again at a time, few enough for a processor's cache
MANY = 1 / 64  # of a block's pairs, looked at again, cost more one by one than all at once
SAME = 1e-11
"""Two vectors are the same when their squared distance is below this part of the sum of their squared lengths: in
float32 a net gives one image features that differ by a millionth from one batch to another."""


class Vectors:
    """A set of vectors (N, dim) less a centre, and what their pairs need of each of them alone.

    lengths  (N,) |x|^2 of the centred vectors, float64
    shift    (N,) x.y is the product of the centred vectors + shift of x + shift of y, float64
    least    (N,) |x - y|^2 is at least least of x + least of y - 2 float32 product of the centred vectors, float32
    """

    def __init__(self, features: Tensor, centre: Tensor, device: torch.device | str) -> None:
        self.dim, self._features = features.shape[1], features
        # A centre of the vectors' own type makes x - centre in float32 what rounding the exact difference would give.
        self._centre = centre.to(device, torch.promote_types(features.dtype, torch.float32))
        parts = [self._alone(place) for place in self.places]
        self.lengths, self.shift = (torch.cat(part) for part in zip(*parts, strict=True))
        self.least = (self.lengths - self.margin(self.lengths)).float()

    def __len__(self) -> int:
        return len(self._features)

    @property
    def places(self) -> list[slice]:
        """The parts that blocks are made of."""
        return [slice(start, min(start + BLOCK, len(self))) for start in range(0, len(self), BLOCK)]

    def margin(self, lengths: Tensor) -> Tensor:
        """How far float32 may put |x - y|^2 from what it is: the sum of this for the lengths |x|^2 and |y|^2.

        A float32 product of n terms, summed in any order, is off by at most n u / (1 - n u) |x| |y| with u = 2^-24
        (Higham 2002, section 3.1), and by what is smaller than the smallest float32. The other roundings on the way
        are 20 at most. NaN, which settles nothing, where float32 or the bound ends.
        """
        share = (self.dim + 20) * 2.0**-24
        margin = lengths * (share / (1 - share)) + self.dim * 2.0**-124
        return margin.where((lengths < 1e37) & (share < 0.5), torch.nan)

    def exact(self, which: slice | Tensor) -> Tensor:
        """Some centred vectors (B, dim), float64."""
        return self.taken(which).double() - self._centre.double()

    def rounded(self, which: slice | Tensor) -> Tensor:
        """Some centred vectors (B, dim), float32."""
        return (self.taken(which) - self._centre).float()

    def taken(self, which: slice | Tensor) -> Tensor:
        """Some vectors (B, dim) as they came, on the device."""
        which = which if isinstance(which, slice) else which.to(self._features.device)
        return self._features[which].to(self._centre)

    def _alone(self, place: slice) -> tuple[Tensor, Tensor]:
        x, centre = self.exact(place), self._centre.double()
        return torch.linalg.vecdot(x, x), x @ centre + centre.square().sum() / 2


class Block:
    """All pairs of a part of one set, its rows (R), with a part of another, its columns (C).

    inner: float32 products (R, C) of the centred vectors.
    on_diagonal: row i and column i are one and the same vector of one set.
    """

    def __init__(
        self, sides: tuple[Vectors, Vectors], places: tuple[slice, slice], inner: Tensor, *, on_diagonal: bool
    ) -> None:
        self._sides, self.inner, self.on_diagonal = sides, inner, on_diagonal
        self.rows, self.cols = places

    @cached_property
    def products(self) -> Tensor:
        """x.y (R, C), float64: takes twice the time of `inner` again."""
        rows, cols = self._sides
        return self._exact_inner + rows.shift[self.rows, None] + cols.shift[self.cols]

    @cached_property
    def squares(self) -> Tensor:
        """|x - y|^2 (R, C), float64; exactly 0 for vectors that are the same. Takes twice the time of `inner` again."""
        rows, cols = self._sides
        lengths = rows.lengths[self.rows, None] + cols.lengths[self.cols]
        squares = torch.sub(lengths, self._exact_inner, alpha=2)
        return squares.masked_fill_(squares < lengths.mul_(SAME), 0.0)

    @cached_property
    def _exact_inner(self) -> Tensor:
        rows, cols = self._sides
        return rows.exact(self.rows) @ cols.exact(self.cols).T

    @cached_property
    def _least(self) -> Tensor:
        """What |x - y|^2 is no less than (R, C), float32."""
        rows, cols = self._sides
        return torch.add(rows.least[self.rows, None], cols.least[self.cols]).sub_(self.inner, alpha=2)

    def near(self, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns, counted in the block, of pairs that may have |x - y|^2 <= reach; no other pair has.

        reach (R, 1) or (C,), float64.
        """
        return (self._least > reach.float()).logical_not_().nonzero(as_tuple=True)

    def within(self, reach: Tensor, *, surface: bool) -> tuple[Tensor, Tensor]:
        """Those of the pairs with |x - y|^2 < reach, and = reach if the surface belongs to it."""
        i, j = self.near(reach)
        reach = reach.expand(self.inner.shape)[i, j]
        inside = self._most(i, j) < reach
        (open_,) = inside.logical_not().nonzero(as_tuple=True)
        squares = self.squares_of(i[open_], j[open_])
        inside[open_] = (squares <= reach[open_]) if surface else (squares < reach[open_])
        return i[inside], j[inside]

    def kth(self, k: int) -> Tensor:
        """No less than each row's k-th smallest |x - y|^2 (R,), float64; a vector itself is not counted."""
        num = k + self.on_diagonal
        if num > self.inner.shape[1]:
            return torch.full_like(self._sides[0].lengths[self.rows], torch.inf)
        j = self._least.topk(num, dim=1, largest=False).indices
        i = torch.arange(len(j), device=j.device)[:, None]
        return self._most(i, j).amax(dim=1)

    def _most(self, i: Tensor, j: Tensor) -> Tensor:
        """What |x - y|^2 of some pairs is no more than, float64."""
        rows, cols = self._sides
        margin = rows.margin(rows.lengths[self.rows][i]) + cols.margin(cols.lengths[self.cols][j])
        return self._least[i, j].double() + 2 * margin

    def squares_of(self, i: Tensor, j: Tensor) -> Tensor:
        """|x - y|^2 (P,) of some pairs, float64; exactly 0 for vectors that are the same."""
        if len(i) > MANY * self.inner.numel() or "squares" in self.__dict__:
            return self.squares[i, j]
        parts = zip(i.split(ALONE), j.split(ALONE), strict=True)
        squares = torch.cat([self._differences(*part).square_().sum(dim=1) for part in parts])
        return squares.masked_fill_(squares < self._lengths(i, j) * SAME, 0.0)

    def _lengths(self, i: Tensor, j: Tensor) -> Tensor:
        rows, cols = self._sides
        return rows.lengths[self.rows][i] + cols.lengths[self.cols][j]

    def _differences(self, i: Tensor, j: Tensor) -> Tensor:
        rows, cols = self._sides
        return rows.taken(i + self.rows.start).double().sub_(cols.taken(j + self.cols.start))

    def transposed(self) -> Block:
        """The same pairs, seen from the other side."""
        block = Block(self._sides[::-1], (self.cols, self.rows), self.inner.T, on_diagonal=self.on_diagonal)
        for name in {"products", "squares", "_least"} & set(self.__dict__):
            block.__dict__[name] = self.__dict__[name].T
        return block


def product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y in float32 proper, whatever the rest of the program allows: TF32 and bfloat16 break every bound here."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(x.device.type, enabled=False):
            return x @ y
    finally:
        torch.set_float32_matmul_precision(allowed)


class PairStatistic(Protocol):
    """What is computed of all pairs. One object is used for one sweep."""

    key: str
    """Plain text that says what is computed: two statistics with equal keys are the same."""

    def begin(self, rows: Vectors, cols: Vectors, device: torch.device | str) -> None:
        """Told once, before the first block: the two sets, and where to compute."""

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
    about       gives those whose mean is the centre; None: the rows. One centre for all pairs of two sets makes the
                rounding of float32 cancel where kernel sums do
    kept        where results, then single tensors, are kept from one command to the next; None: nowhere
    """

    def __init__(
        self,
        rows: Callable[[], Tensor],
        cols: Callable[[], Tensor] | None = None,
        *,
        about: Callable[[], Tensor] | None = None,
        device: torch.device | str = "cpu",
        progress: Progress = silent,
        kept: Kept | None = None,
    ) -> None:
        self._rows, self._cols, self._progress, self._kept = rows, cols, progress, kept
        self._about = about
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
        features = self._rows()
        about = features if self._about is None else self._about()
        centre = about.mean(dim=0, dtype=torch.float64)  # no float64 copy of all rows
        rows = Vectors(features, centre, self._device)
        cols = rows if self._cols is None else Vectors(self._cols(), centre, self._device)
        for request in requests:
            request.statistic.begin(rows, cols, self._device)
        for block in self._blocks(rows, cols):
            for request in requests:
                request.statistic.see(block)

    def _blocks(self, rows: Vectors, cols: Vectors) -> Iterator[Block]:
        symmetric = self._cols is None
        places = [(i, j) for i in rows.places for j in cols.places if not symmetric or i.start <= j.start]
        row_place = row = None
        for i, j in self._progress(places, "Pairs of images", total=len(places)):
            row_place, row = (i, rows.rounded(i)) if row_place != i else (row_place, row)
            on_diagonal = symmetric and i == j
            col = row if on_diagonal else cols.rounded(j)
            block = Block((rows, cols), (i, j), product(row, col.T), on_diagonal=on_diagonal)
            yield block
            if symmetric and not on_diagonal:
                yield block.transposed()


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
        singles = (Sweep(side, about=sides[0], device=device) for side in sides)
        return cls(*singles, Sweep(*sides, device=device), num_real=len(real), num_generated=len(generated))


def sweeps(bench: EvalContext, extractor: Any, real: FeaturePass, generated: FeaturePass) -> Sweeps:
    """Those of the images of two passes; equal requests of several metrics are one."""
    sides = [one_pass.collect(extractor, FeatureRows()) for one_pass in (real, generated)]
    is_kept = bench.cache_dir is not None and real.source.key is not None
    kept = Kept(str(bench.cache_dir), real.source.key, extractor.protocol) if is_kept else None

    def sweep(*of: Accumulated, kept: Kept | None = None) -> Sweep:
        about, *features = [lambda side=side: side.value.rows for side in (sides[0], *of)]
        options = {"device": bench.device, "progress": bench.progress, "kept": kept, "about": about}
        return bench.once((sides[0], *of), lambda: Sweep(*features, **options))

    singles = sweep(sides[0], kept=kept), sweep(sides[1])
    return Sweeps(*singles, sweep(*sides), num_real=real.num, num_generated=generated.num)
