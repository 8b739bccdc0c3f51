"""All pairs of vectors from two sets, computed once: kernel distance, precision, recall, density and coverage all need
the same inner products. They are computed block by block in float64; the full matrix is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.feature_pass import A, Accumulator, FeaturePass, FeatureRows, Pass, Progress, Request
from wplus.pretrained.extractor import Extractor

BLOCK = 1024  # vectors of each set in a block, which takes 8 MB
SAME = 1e-11
"""Two vectors are considered identical if their squared distance is below this fraction of the sum of their squared
norms: in float32, a net's features of the same image differ by about one part in a million between batches."""
TIE = 1e-9  # squared distances within this relative difference are considered equal


@dataclass(frozen=True)
class Block:
    """All pairs of some vectors of one set (R rows) with some of another (C columns), float64.

    squares      |x - y|^2 (R, C), exactly 0 for identical vectors
    products     x.y / dim (R, C)
    on_diagonal  whether row i and column i are the same vector of a single set
    """

    rows: slice
    cols: slice
    squares: Tensor
    products: Tensor
    on_diagonal: bool = False

    @cached_property
    def kernel(self) -> Tensor:
        """KID's kernel (x.y / dim + 1)^3, (R, C); 0 where a vector is paired with itself."""
        base = self.products + 1
        kernel = base * base * base
        return kernel.fill_diagonal_(0) if self.on_diagonal else kernel

    @property
    def transposed(self) -> Block:
        """The same pairs with rows and columns swapped."""
        return Block(self.cols, self.rows, self.squares.T, self.products.T, self.on_diagonal)


def blocks(x: Tensor, y: Tensor | None = None, *, centre: Tensor, device: torch.device | str = "cpu",
           progress: Progress = silent) -> Iterator[Block]:  # fmt: skip
    """Yield all pairs of vectors x (N, dim) with y (M, dim), or with each other (None), each pair in one block.

    Vectors are centred, so that |x - y|^2 = |x|^2 + |y|^2 - 2 x.y does not lose precision to a large mean.
    """
    c = centre.to(device, torch.float64)
    places = [(i, j) for i in _places(x) for j in _places(x if y is None else y) if y is not None or i.start <= j.start]
    for i, j in progress(places, "Pairs of images", total=len(places)):
        a, b = (part.to(device, torch.float64) - c for part in (x[i], (x if y is None else y)[j]))
        inner, lengths = a @ b.T, a.square().sum(dim=1)[:, None] + b.square().sum(dim=1)
        squares = torch.sub(lengths, inner, alpha=2)
        squares.masked_fill_(squares < SAME * lengths, 0.0)
        products = (inner + (a @ c)[:, None] + (b @ c + c @ c)) / len(c)
        block = Block(i, j, squares, products, on_diagonal=y is None and i == j)
        yield block
        if y is None and i != j:
            yield block.transposed


def _places(vectors: Tensor) -> list[slice]:
    return [slice(start, min(start + BLOCK, len(vectors))) for start in range(0, len(vectors), BLOCK)]


class PairPass(Pass):
    """A pass over all pairs of two sets of features (N, dim), or of one set with itself (`cols` None).

    It calls `begin(rows, cols, device)` on each accumulator, then `add(block)` for every block.
    """

    def __init__(self, rows: Callable[[], Tensor], cols: Callable[[], Tensor] | None = None, *,
                 centre_of: Callable[[], Tensor] | None = None, device: torch.device | str = "cpu",
                 progress: Progress = silent, **cache: Any) -> None:  # fmt: skip
        super().__init__(**cache)
        self._rows, self._cols, self._centre_of, self._progress = rows, cols, centre_of or rows, progress
        self._device = "cpu" if torch.device(device).type == "mps" else device  # Apple's GPUs have no float64

    def ask(self, accumulator: A) -> Request[A]:
        """Request that `accumulator` be filled, together with all others requested before the first value is read."""
        return self._request(accumulator)

    def go_through(self, requests: Sequence[Request[Any]]) -> None:
        x, y = self._rows(), None if self._cols is None else self._cols()
        centre = self._centre_of().mean(dim=0, dtype=torch.float64)
        for request in requests:
            request.accumulator.begin(x, x if y is None else y, self._device)
        for block in blocks(x, y, centre=centre, device=self._device, progress=self._progress):
            for request in requests:
                request.accumulator.add(block)


@dataclass(frozen=True)
class Pairs:
    """The three sets of pairs; `cross` has the real images as rows and the generated ones as columns."""

    real: PairPass
    generated: PairPass
    cross: PairPass
    num_real: int
    num_generated: int

    @classmethod
    def of(cls, real: Tensor, generated: Tensor, device: torch.device | str = "cpu") -> Pairs:
        """Create the pairs of features (N, dim) and (M, dim)."""
        x, y = (lambda: real), (lambda: generated)
        of_generated = PairPass(y, centre_of=x, device=device)
        return cls(PairPass(x, device=device), of_generated, PairPass(x, y, device=device), len(real), len(generated))


def pairs_of(context: EvalContext, extractor: Extractor, real: FeaturePass, generated: FeaturePass) -> Pairs:
    """Create the pairs of images of two passes; equal requests from several metrics are merged."""
    x, y = (side.ask(extractor, FeatureRows()) for side in (real, generated))
    shared: dict[str, Any] = {"device": context.device, "progress": context.progress, "centre_of": lambda: x.value.rows}
    about = None if real.source.key is None else {"images": real.source.key, "extractor": extractor.protocol}
    kept: dict[str, Any] = {"cache_dir": context.cache_dir, "about": about}
    of_real = context.once(x, lambda: PairPass(lambda: x.value.rows, **shared, **kept))
    of_generated = context.once((x, y, "self"), lambda: PairPass(lambda: y.value.rows, **shared))
    cross = context.once((x, y), lambda: PairPass(lambda: x.value.rows, lambda: y.value.rows, **shared))
    return Pairs(of_real, of_generated, cross, real.num, generated.num)


# Accumulators of blocks


class Neighbours(Accumulator):
    """The k nearest columns of every row, excluding itself: squared distances `squares` (N, k) float64, ascending, and
    column indices `numbers` (N, k)."""

    kept: ClassVar[tuple[str, ...]] = ("squares", "numbers")

    def __init__(self, k: int) -> None:
        self.k, self.key = k, f"{k} neighbours"

    def begin(self, rows: Tensor, cols: Tensor, device: torch.device | str) -> None:
        if len(cols) < self.k + (rows is cols):
            raise UserError(f"{len(cols)} images have no neighbour {self.k}: at least {self.k + 1} are needed.")
        self.squares = torch.full((len(rows), self.k), torch.inf, dtype=torch.float64, device=device)
        self.numbers = torch.zeros(len(rows), self.k, dtype=torch.int64, device=device)

    def add(self, block: Block) -> None:
        squares = block.squares.clone().fill_diagonal_(torch.inf) if block.on_diagonal else block.squares
        seen = torch.cat([self.squares[block.rows], squares], dim=1)
        self.squares[block.rows], places = seen.topk(self.k, dim=1, largest=False)
        before = self.numbers[block.rows].gather(1, places.clamp_max(self.k - 1))
        self.numbers[block.rows] = torch.where(places < self.k, before, places - self.k + block.cols.start)

    def merge(self) -> None:
        self.squares, self.numbers = self.squares.cpu(), self.numbers.cpu()


class NeighbourSquares(Neighbours):
    """Only the squared distance of every vector to its k-th neighbour: `squares` (N,) float64."""

    kept = ("squares",)

    def __init__(self, k: int) -> None:
        self.k, self.key = k, f"squared distance to neighbour {k}"

    def merge(self) -> None:
        self.squares = self.squares[:, -1].cpu()


class InBalls(Accumulator):
    """Membership of one set's vectors in balls around the other's: `counts`, the number of balls that contain each
    vector, and `met`, whether each ball contains any.

    around      which set the balls surround, "rows" or "cols"; their radii are the square roots of `reach`
    is_closed   whether a ball includes its surface
    """

    kept = ("counts", "met")

    def __init__(self, reach: Request[NeighbourSquares], *, around: str, is_closed: bool) -> None:
        self._reach_of, self._around, self._is_closed = reach, around, is_closed
        self.key = f"in {'closed' if is_closed else 'open'} balls of neighbour {reach.accumulator.k} around {around}"

    def begin(self, rows: Tensor, cols: Tensor, device: torch.device | str) -> None:
        balls, others = (rows, cols) if self._around == "rows" else (cols, rows)
        tie = 1 + TIE if self._is_closed else 1 - TIE
        self._reach = self._reach_of.value.squares.to(device) * tie
        self.counts = torch.zeros(len(others), dtype=torch.int64, device=device)
        self.met = torch.zeros(len(balls), dtype=torch.bool, device=device)

    def add(self, block: Block) -> None:
        block = block if self._around == "rows" else block.transposed
        reach = self._reach[block.rows, None]
        inside = block.squares <= reach if self._is_closed else block.squares < reach
        self.counts[block.cols] += inside.sum(dim=0)
        self.met[block.rows] |= inside.any(dim=1)

    def merge(self) -> None:
        self.counts, self.met = self.counts.cpu(), self.met.cpu()


class KernelSums(Accumulator):
    """Sums of the cubic kernel over weighted pairs, `sums` (P,): s_p = sum_ij left_pi k(x_i, y_j) right_pj.

    Pairs of a vector with itself are excluded. left (P, N) and right (P, M) are float64; `key` must identify them.
    """

    kept = ("sums",)

    def __init__(self, key: str, left: Tensor, right: Tensor) -> None:
        self.key, self._left, self._right = f"sums of the cubic kernel, {key}", left, right

    def begin(self, rows: Tensor, cols: Tensor, device: torch.device | str) -> None:
        self._left, self._right = self._left.to(device), self._right.to(device)
        self.sums = self._left.new_zeros(len(self._left))

    def add(self, block: Block) -> None:
        self.sums += ((self._left[:, block.rows] @ block.kernel) * self._right[:, block.cols]).sum(dim=1)

    def merge(self) -> None:
        self.sums = self.sums.cpu()
