"""Are the generated images like real ones, and are all kinds of real images among them: two answers for two questions.

Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991) and density and coverage (Naeem et al. 2020,
arXiv:2002.09797). All put a ball around an image, in feature space, that reaches to its k-th nearest neighbour in its
own set, the image itself not counted, and ask which images of the other set are in it. Answers are those of float64
distances; NVlabs' code compares them in float16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.gram import Asked, Block, Sweeps, Vectors, sweeps
from wplus.evaluation.names import VGG16, distribution_name
from wplus.evaluation.passes import FeaturePass, Sampling

TIE = 1e-9  # relative difference of squared distances that is rounding; the two are equal then

PRECISION_MEANING = "Part of the generated images that lie among the real ones: they look right; more is better."
RECALL_MEANING = "Part of the real images that lie among the generated ones: nothing is missing; more is better."
DENSITY_MEANING = "How many real images a generated one is close to, of those it should be; about 1 for equal sets."
COVERAGE_MEANING = "Part of the real images that have a generated one close by: nothing is missing; more is better."


class NeighbourSquares:
    """The squared distance of every vector of a set to its k-th nearest other one."""

    def __init__(self, k: int) -> None:
        self.k, self.key = k, f"squared distance to neighbour {k}"

    def begin(self, rows: Vectors, cols: Vectors, device: torch.device | str) -> None:
        """UserError when there are too few vectors."""
        if len(rows) <= self.k:
            raise UserError(f"{len(rows)} images have no neighbour {self.k}: at least {self.k + 1} are needed.")
        self._nearest = torch.full((len(rows), self.k), torch.inf, dtype=torch.float64, device=device)

    def see(self, block: Block) -> None:
        """Keep the nearest of what was seen."""
        nearest = self._nearest[block.rows]
        reach = nearest.amax(dim=1)
        if not reach.isfinite().all():
            reach = reach.minimum(block.kth(self.k))
        i, j = block.near(reach[:, None])
        if block.on_diagonal:  # the vector itself, not those equal to it
            i, j = i[i != j], j[i != j]
        both = torch.cat([nearest, _smallest(i, block.squares_of(i, j), nearest.shape)], dim=1)
        self._nearest[block.rows] = both.topk(self.k, dim=1, largest=False).values

    def result(self) -> Tensor:
        """(N,) float64."""
        return self._nearest.amax(dim=1).cpu()


def _smallest(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """The k smallest of the values (P,) of each row, (R, k) as in `shape`; infinite where a row has fewer."""
    order = values.argsort()
    order = order[rows[order].argsort(stable=True)]
    rows, values = rows[order], values[order]
    before = torch.searchsorted(rows, torch.arange(shape[0], device=rows.device))
    rank = torch.arange(len(rows), device=rows.device) - before[rows]
    found = values.new_full(shape, torch.inf)
    found[rows[rank < shape[1]], rank[rank < shape[1]]] = values[rank < shape[1]]
    return found


class Closed:
    """Which vectors lie in a ball around one of the other set, the surface included; radii are those of `squares`."""

    def __init__(self, k: int, real: Asked, generated: Asked) -> None:
        self.key = f"in balls of neighbour {k}"
        self._real, self._generated = real, generated

    def begin(self, rows: Vectors, cols: Vectors, device: torch.device | str) -> None:
        """`rows` are real, `cols` generated."""
        self._row_reach = self._real.value.to(device) * (1 + TIE)
        self._col_reach = self._generated.value.to(device) * (1 + TIE)
        self._rows_in = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self._cols_in = torch.zeros(len(cols), dtype=torch.bool, device=device)

    def see(self, block: Block) -> None:
        """Look from both sides."""
        _, cols = block.within(self._row_reach[block.rows, None], surface=True)
        self._cols_in[block.cols.start + cols] = True
        rows, _ = block.within(self._col_reach[block.cols], surface=True)
        self._rows_in[block.rows.start + rows] = True

    def result(self) -> tuple[Tensor, Tensor]:
        """Of each generated image whether it lies in a real one's ball (M,), and the other way round (N,)."""
        return self._cols_in.cpu(), self._rows_in.cpu()


class Open:
    """How many balls of real vectors each generated one lies in, and which balls are met, the surface excluded."""

    def __init__(self, k: int, real: Asked) -> None:
        self.key = f"balls of neighbour {k} met"
        self._real = real

    def begin(self, rows: Vectors, cols: Vectors, device: torch.device | str) -> None:
        """`rows` are real, `cols` generated."""
        self._reach = self._real.value.to(device) * (1 - TIE)
        self._met = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self._counts = torch.zeros(len(cols), dtype=torch.int64, device=device)

    def see(self, block: Block) -> None:
        """Count."""
        rows, cols = block.within(self._reach[block.rows, None], surface=False)
        self._counts[block.cols] += cols.bincount(minlength=block.cols.stop - block.cols.start)
        self._met[block.rows.start + rows] = True

    def result(self) -> tuple[Tensor, Tensor]:
        """Number of balls around each generated image (M,) int64, and whether each real image's is met (N,) bool."""
        return self._counts.cpu(), self._met.cpu()


def ask_precision_recall(pairs: Sweeps, k: int) -> Asked:
    """Have it computed which images lie in the manifold of the other set: generated (M,) bool, real (N,) bool."""
    return pairs.cross.ask(Closed(k, *(side.ask(NeighbourSquares(k)) for side in (pairs.real, pairs.generated))))


def ask_density_coverage(pairs: Sweeps, k: int) -> Asked:
    """Have it computed in how many real balls each generated image lies (M,), and which real balls are met (N,)."""
    return pairs.cross.ask(Open(k, pairs.real.ask(NeighbourSquares(k))))


def precision_recall(
    real: Tensor, generated: Tensor, *, k: int = 3, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Precision and recall of features (N, dim) and (M, dim).

    Precision is the part of the generated vectors that lie in a real one's ball, recall the part of the real ones that
    lie in a generated one's; the surface belongs to a ball, as in the authors' code.
    """
    inside = ask_precision_recall(Sweeps.of(real, generated, device), k).value
    return tuple(float(part.double().mean()) for part in inside)  # type: ignore[return-value]


def density_coverage(
    real: Tensor, generated: Tensor, *, k: int = 5, device: torch.device | str = "cpu"
) -> tuple[float, float]:
    """Density and coverage of features (N, dim) and (M, dim).

    Density is the mean over generated vectors of the number of real balls that they lie in, divided by k; coverage the
    part of the real balls with a generated vector in them. The surface does not belong to a ball, as in the authors'
    code: a ball of radius 0, of an image that occurs more than k times, is never met.
    """
    counts, met = ask_density_coverage(Sweeps.of(real, generated, device), k).value
    return float(counts.double().mean()) / k, float(met.double().mean())


# Intervals


def proportion_interval(proportion: float, num: int) -> tuple[float, float]:
    """95 % interval of a part of `num` independent images: Wilson's score interval (1927), not empty at 0 and 1."""
    z = 1.959963984540054
    centre = (proportion + z**2 / (2 * num)) / (1 + z**2 / num)
    reach = z / (1 + z**2 / num) * np.sqrt(proportion * (1 - proportion) / num + z**2 / (4 * num**2))
    # Of none and of all one end is exact; what rounding leaves there is nothing.
    low, high = (0.0 if proportion == 0 else centre - reach), (1.0 if proportion == 1 else centre + reach)
    return float(low), float(high)


def mean_count_interval(counts: np.ndarray, *, seed: int, num_resamples: int = 1000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of small whole numbers (N,).

    How often each value occurs in a resample is multinomial, so that no resample has to be drawn image by image.
    """
    values, occurrences = np.unique(counts, return_counts=True)
    rng = np.random.default_rng(seed)
    resamples = rng.multinomial(len(counts), occurrences / len(counts), size=num_resamples)
    low, high = np.percentile(resamples @ values / len(counts), [2.5, 97.5])
    return float(low), float(high)


# Metrics


class Manifold:
    """A metric of balls around images.

    Args:
        extractor: see `wplus.pretrained.extractor`; its name is part of the results', see `wplus.evaluation.names`.
        k: the neighbour that a ball reaches to; None: that of the definition.
        num_generated: values depend on the numbers of images; compare at equal ones only.
        num_real: of the real images; None takes all that are given, "all" refuses a part of the data set.
        mirror: "x" adds every real image flipped left to right, for generators that were trained with flips.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """

    usual_k: int
    ask: Callable[[Sweeps, int], Asked]

    def __init__(
        self,
        *,
        extractor: Any,
        k: int | None = None,
        num_generated: int = 50_000,
        num_real: int | str | None = None,
        mirror: str = "none",
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: str = "const",
    ) -> None:
        self.k = self.usual_k if k is None else k
        _check(self.k, num_generated)
        self.extractor, self.num_generated = extractor, num_generated
        self.real = {"num": num_real, "mirror": mirror}
        self.sampling = Sampling(truncation_psi, truncation_cutoff, noise_mode)

    def plan(self, bench: EvalContext) -> None:
        """Ask for the balls."""
        self._asked(bench)

    def _asked(self, bench: EvalContext) -> Asked:
        return self.ask(sweeps(bench, self.extractor, *self._passes(bench)), self.k)

    def _passes(self, bench: EvalContext) -> tuple[FeaturePass, FeaturePass]:
        real = bench.real_images(**self.real)
        if real.num <= self.k:
            raise UserError(f"{real.num} real images have no neighbour {self.k}: at least {self.k + 1} are needed.")
        generated = bench.generated(self.num_generated, self.sampling)
        _check(self.k, generated.num)  # of given images there may be fewer than were asked for
        return real, generated

    def _protocol(self, bench: EvalContext) -> dict[str, Any]:
        real, generated = self._passes(bench)
        return self.extractor.protocol | real.protocol | generated.protocol | {"neighbour": self.k}

    def _name(self, part: str, bench: EvalContext) -> str:
        real, generated = (one_pass.protocol for one_pass in self._passes(bench))
        suffix = "" if self.k == self.usual_k else f"_k{self.k}"
        famous = f"{part}_{VGG16}_50000" if suffix else f"pr50k3_full_{part}"
        network = None if part in ("density", "coverage") else VGG16
        family = {"family": f"{part}_{VGG16}", "stand_in": part, "famous": famous, "famous_extractor": network}
        return distribution_name(extractor=self.extractor.name, real=real, generated=generated, **family) + suffix


class PrecisionRecall(Manifold):
    """Metric: improved precision and recall, named pr50k3_full_precision and _recall under the papers' protocol."""

    usual_k = 3
    ask = staticmethod(ask_precision_recall)

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield precision, then recall, with intervals over the images that are counted, the balls as given."""
        real, generated = self._passes(bench)
        of_generated, of_real = self._asked(bench).value
        protocol = self._protocol(bench)
        yield _proportion(self._name("precision", bench), of_generated, generated, protocol, PRECISION_MEANING)
        yield _proportion(self._name("recall", bench), of_real, real, protocol, RECALL_MEANING)


class DensityCoverage(Manifold):
    """Metric: density and coverage, which one outlier among the images cannot spoil."""

    usual_k = 5
    ask = staticmethod(ask_density_coverage)

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield density, then coverage, with intervals over the images that are counted, the balls as given."""
        real, _ = self._passes(bench)
        counts, met = self._asked(bench).value
        protocol = self._protocol(bench)
        method = {"interval": "95 %, percentile bootstrap over generated images, 1000 resamples, balls as given"}
        low, high = mean_count_interval(counts.numpy(), seed=bench.seed)
        value, interval = float(counts.double().mean()) / self.k, (low / self.k, high / self.k)
        yield MetricResult(self._name("density", bench), value, protocol | method, interval, meaning=DENSITY_MEANING)
        yield _proportion(self._name("coverage", bench), met, real, protocol, COVERAGE_MEANING)


def _check(k: int, num_generated: int) -> None:
    if not 1 <= k < num_generated:
        raise UserError(f"k={k} does not fit {num_generated} generated images: from 1 to one less than they are.")


def _proportion(name: str, inside: Tensor, images: FeaturePass, protocol: dict[str, Any], meaning: str) -> MetricResult:
    """The part of a pass's images that are inside; an image and its mirror image count once in the interval."""
    value = float(inside.double().mean())
    protocol = protocol | {"interval": "95 %, Wilson's score interval over the images that are counted, balls as given"}
    interval = proportion_interval(value, images.num // images.copies)
    return MetricResult(name, value, protocol, interval, meaning=meaning)
