"""Kernel distance between the features of real and of generated images: unbiased whatever the number of images.

Binkowski et al. 2018 (arXiv:1801.01401) call it KID when the features are those of one particular Inception network;
any other extractor's value is called `kd_<extractor>`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.gram import Block, Sweeps, Vectors, sweeps
from wplus.evaluation.names import distribution_name
from wplus.evaluation.passes import FeaturePass, Sampling

NUM_SUBSETS, SUBSET_SIZE = 100, 1000  # of the definition, as NVlabs and torch-fidelity have it
FEW = 2**22
"""Of fewer pairs float64 sums are quick. Of more, the rounding of float32 products averages out: between halves of 5000
images, where it is nearly zero, the kernel distance changes by less than a ten-millionth of itself."""
UNEVEN = 64  # a vector of more than this times the mean squared length makes sums in float32 cancel
MEANING = (
    "How far the generated images are from the real ones as sets, without the bias of small numbers: 0 is equal, and "
    "equal sets may come out slightly below."
)
STD_MEANING = "How much the kernel distance of one subset of images differs from that of another."


class KernelSums:
    """Sums of the cubic kernel over weighted pairs: s_p = sum_ij left_pi k(x_i, y_j) right_pj.

    k(x, y) = (x.y / dim + 1)^3. A vector's pair with itself is left out. left (P, N) and right (P, M) in float64; `key`
    must say what they are.
    """

    def __init__(self, key: str, left: Tensor, right: Tensor) -> None:
        self.key = f"sums of the cubic kernel, {key}"
        self._left, self._right = left, right

    def begin(self, rows: Vectors, cols: Vectors, device: torch.device | str) -> None:
        """Weights to the device; the smooth part of all pairs (see `_Smooth`) where float32 will do."""
        self._dim = rows.dim
        self._left, self._right = self._left.to(device), self._right.to(device)
        is_uneven = any(bool(side.lengths.max() > UNEVEN * side.lengths.mean()) for side in (rows, cols))
        self._smooth = None if is_uneven or len(rows) * len(cols) < FEW else _Smooth(rows, cols)
        self._sums = self._left.new_zeros(len(self._left))
        if self._smooth is not None:
            self._sums += self._smooth.sums(self._left, self._right)

    def see(self, block: Block) -> None:
        """Add the pairs of a block."""
        if self._smooth is None:
            base = (block.products / self._dim).add_(1)
            kernel = (base * base).mul_(base)
        else:
            kernel = self._smooth.rest(block)
        left, right = self._left[:, block.rows], self._right[:, block.cols]
        if block.on_diagonal:
            kernel.fill_diagonal_(0)
            self._sums -= 0 if self._smooth is None else (left * right) @ self._smooth.on_diagonal(block)
        self._sums += ((left @ kernel) * right).sum(dim=1)

    def result(self) -> Tensor:
        """The sums (P,), float64."""
        return self._sums.cpu()


class _Smooth:
    """The cubic kernel's smooth part, whose sums over pairs need no pairs, and its rest.

    With x.y + dim = p(x) + p(y) + a, a the product of the centred vectors, the smooth part of (x.y + dim)^3 is (p(x) +
    p(y))^3 + 3 (p(x) + p(y))^2 a: products of something of x and something of y. It is most of the kernel, and nearly
    all of it cancels in a kernel distance. The rest, a^2 (a + 3 p(x) + 3 p(y)), is small enough for float32.
    """

    def __init__(self, rows: Vectors, cols: Vectors) -> None:
        self._rows, self._cols = rows, cols
        largest = [part.abs().max() for side in (rows, cols) for part in (side.lengths, side.shift)]
        # No power leaves the range of float32. A power of two, so that all pairs are multiplied by what float32 holds.
        self._scale = 2.0 ** -math.frexp(rows.dim + float(torch.stack(largest).max()))[1]
        self._factor = (rows.dim * self._scale) ** -3
        self._p, self._q = ((side.shift + rows.dim / 2) * self._scale for side in (rows, cols))

    def sums(self, left: Tensor, right: Tensor) -> Tensor:
        """sum_ij left_pi smooth part(x_i, y_j) right_pj of weights (P, N) and (P, M): (P,) float64."""
        if self._rows is self._cols:
            weights, index = torch.cat([left, right]).unique(dim=0, return_inverse=True)
            both = [part[:, index] for part in self._moments(weights, self._rows, self._p)]
            (numbers, others), (vectors, other_vectors) = (part.split(len(left), dim=1) for part in both)
        else:
            numbers, vectors = self._moments(left, self._rows, self._p)
            others, other_vectors = self._moments(right, self._cols, self._q)
        cubes = sum(c * numbers[k] * others[3 - k] for k, c in enumerate((1, 3, 3, 1)))
        pairs = sum(c * (vectors[k] * other_vectors[2 - k]).sum(dim=1) for k, c in enumerate((1, 2, 1)))
        return self._factor * (cubes + 3 * self._scale * pairs)

    def _moments(self, weights: Tensor, side: Vectors, p: Tensor) -> tuple[Tensor, Tensor]:
        """sum_i weights_i p_i^k for k to 3 (4, P), and sum_i weights_i p_i^k x_i for k to 2 (3, P, dim), float64."""
        powers = torch.stack([p**k for k in range(4)])
        vectors = weights.new_zeros(3 * len(weights), side.dim)
        for place in side.places:
            weighted = powers[:3, None, place] * weights[:, place]
            vectors.addmm_(weighted.flatten(0, 1), side.exact(place))
        return powers @ weights.T, vectors.unflatten(0, (3, -1))

    def on_diagonal(self, block: Block) -> Tensor:
        """The smooth part of vectors with themselves (R,), float64."""
        base, lengths = 2 * self._p[block.rows], self._rows.lengths[block.rows] * self._scale
        return self._factor * (base**3 + 3 * base**2 * lengths)

    def rest(self, block: Block) -> Tensor:
        """Of the pairs of a block (R, C): made in float32, given in float64, for a sum in float32 would lose digits."""
        a = block.inner * self._scale
        p, q = 3 * self._p[block.rows].float(), 3 * self._q[block.cols].float()
        return torch.add(p[:, None], q).add_(a).mul_(a).mul_(a).double().mul_(self._factor)


@dataclass(frozen=True)
class KernelDistances:
    """Unbiased estimates of the squared maximum mean discrepancy.

    subsets        (S,) one for each pair of subsets, float64
    without_group  (G,) of all images but one group of the generated ones, up to a constant of the real images
    """

    subsets: Tensor
    without_group: Tensor

    @property
    def mean(self) -> float:
        """The kernel distance: the mean over subsets."""
        return float(self.subsets.mean())

    @property
    def std(self) -> float:
        """Standard deviation over subsets (divided by their number, as libraries do)."""
        return float(self.subsets.std(correction=0))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean; None without groups.

        Two things make it uncertain: which images were generated (delete-a-group jackknife, Student's t with G-1
        degrees of freedom), and which subsets were drawn of them (variance over subsets / their number).
        """
        from scipy.special import stdtrit  # scipy.stats has it, too, and takes seconds to import

        num = len(self.without_group)
        if num < 2:
            return None
        spread = (self.without_group - self.without_group.mean()).square().sum() * (num - 1) / num
        error = (spread + self.subsets.var(correction=0) / len(self.subsets)).sqrt()
        reach = float(stdtrit(num - 1, 0.975) * error)
        return self.mean - reach, self.mean + reach


class KernelRequest:
    """Kernel sums asked of three sweeps, and the distances made of them.

    Subset s takes `size` images of either side without replacement, by random numbers of (seed, side, s). Groups deal
    the generated images in turn.
    """

    def __init__(self, pairs: Sweeps, *, num_subsets: int, size: int, num_groups: int, seed: int) -> None:
        self._num_real, self._size = pairs.num_real, size
        self._counts = [num_subsets, num_groups, num_groups]
        subsets = f"{num_subsets} subsets of {size}, seed {seed}"
        real = _subsets(num_subsets, size, pairs.num_real, seed, side=0)
        self._real = pairs.real.ask(KernelSums(subsets, real, real))

        generated = _subsets(num_subsets, size, pairs.num_generated, seed, side=1)
        groups = _groups(num_groups, pairs.num_generated)
        self._num_left = pairs.num_generated - groups.sum(dim=1)
        all_real, all_generated = (torch.ones(num_groups, n).double() for n in (pairs.num_real, pairs.num_generated))
        left, right = torch.cat([generated, groups, groups]), torch.cat([generated, groups, all_generated])
        self._generated = pairs.generated.ask(KernelSums(f"{subsets}, {num_groups} groups", left, right))
        left, right = torch.cat([real, all_real]), torch.cat([generated, groups])
        self._cross = pairs.cross.ask(KernelSums(f"{subsets}, {num_groups} groups", left, right))

    def distances(self) -> KernelDistances:
        """Run what has not run yet, and put the sums together."""
        within, of_group, with_all = self._generated.value.split(self._counts)
        between, real_with_group = self._cross.value.split(self._counts[:2])
        size, left = self._size, self._num_left
        subsets = (self._real.value + within) / (size * (size - 1)) - 2 * between / size**2
        # The pairs of a group with the others are left out from both sides, its own were in both.
        within = (with_all.sum() - 2 * with_all + of_group) / (left * (left - 1))
        between = (real_with_group.sum() - real_with_group) / (left * self._num_real)
        return KernelDistances(subsets, within - 2 * between)


def kernel_distances(
    real: Tensor,
    generated: Tensor,
    *,
    num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE,
    num_groups: int = 10,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> KernelDistances:
    """Kernel distances of features (N, dim) and (M, dim); subsets are of min(N, M, subset_size) vectors."""
    size = min(len(real), len(generated), subset_size)
    options = {"num_subsets": num_subsets, "size": size, "num_groups": num_groups, "seed": seed}
    return KernelRequest(Sweeps.of(real, generated, device), **options).distances()


class KernelDistance:
    """Metric: the kernel distance (KID), its standard deviation over subsets, and an interval for it.

    Args:
        extractor: see `wplus.pretrained.extractor`; its name is part of the result's, see `wplus.evaluation.names`.
        num_generated: generated images.
        num_real: of the real images; None takes all that are given, "all" refuses a part of the data set.
        mirror: "x" adds every real image flipped left to right, for generators that were trained with flips.
        num_subsets, subset_size: the definition has 100 subsets of 1000 images, or of all where there are fewer.
        num_groups: of generated images, for the interval; 0: no interval.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """

    def __init__(
        self,
        *,
        extractor: Any,
        num_generated: int = 50_000,
        num_real: int | str | None = None,
        mirror: str = "none",
        num_subsets: int = NUM_SUBSETS,
        subset_size: int = SUBSET_SIZE,
        num_groups: int = 10,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> None:
        _check(num_subsets=num_subsets, subset_size=subset_size, num_groups=num_groups, num_generated=num_generated)
        self.extractor, self.num_generated, self.num_groups = extractor, num_generated, num_groups
        self.num_subsets, self.subset_size = num_subsets, subset_size
        self.real = {"num": num_real, "mirror": mirror}
        self.sampling = Sampling(truncation_psi, truncation_cutoff, noise_mode)

    def plan(self, bench: EvalContext) -> None:
        """Ask for the kernel sums of all pairs."""
        self._request(bench)

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield the distance, then its standard deviation over subsets where these differ."""
        real, generated = self._passes(bench)
        found, size = self._request(bench).distances(), self._size(real, generated)
        protocol = self.extractor.protocol | real.protocol | generated.protocol
        protocol |= {"kernel": "(x.y / dim + 1)^3, unbiased", "num_subsets": self.num_subsets, "subset_size": size}
        method = f"95 %, jackknife over {self.num_groups} groups of generated images, and the draw of the subsets"
        method = {"interval": method} if found.interval else {}
        name = self._name(real, generated)
        yield MetricResult(name, found.mean, protocol | method, found.interval, meaning=MEANING)
        if size < max(real.num, generated.num):
            none = {"interval": "none: a spread over subsets, which share images"}
            yield MetricResult(f"{name}_std", found.std, protocol | none, meaning=STD_MEANING)

    def _request(self, bench: EvalContext) -> KernelRequest:
        real, generated = self._passes(bench)
        options = {"num_subsets": self.num_subsets, "num_groups": self.num_groups, "seed": bench.seed}
        pairs = sweeps(bench, self.extractor, real, generated)
        return bench.once(self, lambda: KernelRequest(pairs, size=self._size(real, generated), **options))

    def _passes(self, bench: EvalContext) -> tuple[FeaturePass, FeaturePass]:
        real = bench.real_images(**self.real)
        if real.num < 2:
            raise UserError("A kernel distance of 1 real image is not possible: at least 2 are needed.")
        generated = bench.generated(self.num_generated, self.sampling)
        _check_groups(self.num_groups, generated.num)  # of given images there may be fewer than were asked for
        return real, generated

    def _size(self, real: FeaturePass, generated: FeaturePass) -> int:
        return min(real.num, generated.num, self.subset_size)

    def _name(self, real: FeaturePass, generated: FeaturePass) -> str:
        protocols = {"real": real.protocol, "generated": generated.protocol}
        options = (self.num_subsets, self.subset_size)
        is_usual = options == (NUM_SUBSETS, SUBSET_SIZE)
        famous = "kid50k_full" if is_usual else "kid_50000"
        name = distribution_name("kid", "kd", extractor=self.extractor.name, famous=famous, **protocols)
        return name if is_usual else f"{name}_{options[0]}x{options[1]}"


def _subsets(num: int, size: int, num_images: int, seed: int, *, side: int) -> Tensor:
    """(num, num_images) float64: 1 where an image is in a subset, else 0."""
    chosen = torch.zeros(num, num_images, dtype=torch.float64)
    for subset in range(num):
        rng = np.random.default_rng([seed, side, subset])
        chosen[subset, torch.from_numpy(rng.choice(num_images, size, replace=False))] = 1
    return chosen


def _groups(num: int, num_images: int) -> Tensor:
    """(num, num_images) float64: 1 where image i is in group i mod num."""
    return (torch.arange(num_images) % max(num, 1) == torch.arange(num)[:, None]).double()


def _check(*, num_subsets: int, subset_size: int, num_groups: int, num_generated: int) -> None:
    if num_subsets < 1 or subset_size < 2:
        raise UserError(
            f"A kernel distance over {num_subsets} subsets of {subset_size} images is not possible: at least 1 of 2."
        )
    _check_groups(num_groups, num_generated)


def _check_groups(num_groups: int, num_generated: int) -> None:
    if num_generated < 2 or num_groups == 1 or num_groups < 0 or num_generated < 2 * num_groups:
        raise UserError(
            f"num_groups={num_groups} does not fit {num_generated} generated images: 0 groups (no interval) and at "
            "least 2 images, or from 2 groups with at least 2 images each."
        )
