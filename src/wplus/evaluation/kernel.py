"""Kernel distance between the features of real and generated images, unbiased for any number of images.

Binkowski et al. 2018 (arXiv:1801.01401) call it KID, which refers to one particular Inception network; with any other
extractor the value is named `kd_<extractor>`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import student_t
from wplus.errors import UserError, check_number
from wplus.evaluation.context import EvalContext, check_groups
from wplus.evaluation.names import distribution_name
from wplus.evaluation.pairwise import KernelSums, Pairs, pairs_of
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.extractor import Extractor

NUM_SUBSETS, SUBSET_SIZE = 100, 1000  # as defined, and as in NVlabs' code and torch-fidelity

DISTANCE = MetricInfo(
    meaning="How far the generated images are from the real ones as a distribution, without a bias for small samples: "
    "0 is ideal, and equal distributions may come out slightly below.",
    direction="lower",
)
DEVIATION = MetricInfo(meaning="Standard deviation of the kernel distance from one subset of images to another.")


@dataclass(frozen=True)
class KernelDistances:
    """Unbiased estimates of the squared maximum mean discrepancy.

    subsets        (S,) one estimate per pair of subsets, float64
    without_group  (G,) estimates leaving out one group of generated images, up to a constant of the real images
    """

    subsets: Tensor
    without_group: Tensor

    @property
    def mean(self) -> float:
        """The kernel distance: the mean over subsets."""
        return float(self.subsets.mean())

    @property
    def std(self) -> float:
        """Standard deviation over subsets (normalised by their number, as other libraries do)."""
        return float(self.subsets.std(correction=0))

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean; None without groups.

        It covers two sources of uncertainty: which images were generated (delete-a-group jackknife, Student's t with
        G-1 degrees of freedom), and which subsets were drawn from them (variance over subsets / their number).
        """
        num = len(self.without_group)
        if num < 2:
            return None
        of_images = (num - 1) * self.without_group.var(correction=0)
        of_subsets = self.subsets.var(correction=0) / len(self.subsets)
        reach = student_t(num - 1) * float((of_images + of_subsets).sqrt())
        return self.mean - reach, self.mean + reach


def ask_kernel_distances(
    pairs: Pairs, *, num_subsets: int, subset_size: int, num_groups: int, seed: int
) -> Callable[[], KernelDistances]:
    """Request the kernel sums over subsets and groups of images; the returned function evaluates the distances.

    For m images x and m images y, MMD^2 = sum_{i != j} (k(x_i, x_j) + k(y_i, y_j)) / (m (m - 1))
    - 2 sum_ij k(x_i, y_j) / m^2. Subset s draws m images from each side without replacement, seeded by
    (seed, side, s). Generated images are assigned to groups round-robin.
    """
    num_x, num_y = pairs.num_real, pairs.num_generated
    m = min(num_x, num_y, subset_size)
    what = f"{num_subsets} subsets of {m}, seed {seed}"
    x, y = (in_subsets(num_subsets, m, num, seed, side=side) for side, num in enumerate((num_x, num_y)))
    group = (torch.arange(num_y) % max(num_groups, 1) == torch.arange(num_groups)[:, None]).double()
    num_left, all_x, all_y = num_y - group.sum(dim=1), torch.ones(num_groups, num_x), torch.ones(num_groups, num_y)

    xx = pairs.real.ask(KernelSums(what, x, x))
    yy = pairs.generated.ask(KernelSums(what, y, y))
    xy = pairs.cross.ask(KernelSums(what, x, y))
    of_group = pairs.generated.ask(KernelSums(f"{num_groups} groups", group, group))
    of_group_and_all = pairs.generated.ask(KernelSums(f"{num_groups} groups and all", group, all_y.double()))
    of_all_and_group = pairs.cross.ask(KernelSums(f"all and {num_groups} groups", all_x.double(), group))

    def distances() -> KernelDistances:
        subsets = (xx.value.sums + yy.value.sums) / (m * (m - 1)) - 2 * xy.value.sums / m**2
        # Subtract the group's pairs with all images from both sides, and add back its own pairs, subtracted twice.
        with_all, with_x = of_group_and_all.value.sums, of_all_and_group.value.sums
        within = (with_all.sum() - 2 * with_all + of_group.value.sums) / (num_left * (num_left - 1))
        between = (with_x.sum() - with_x) / (num_left * num_x)
        return KernelDistances(subsets, within - 2 * between)

    return distances


def in_subsets(num_subsets: int, size: int, num_images: int, seed: int, *, side: int) -> Tensor:
    """Return membership indicators (num_subsets, num_images) float64: 1 where an image is in a subset, else 0."""
    chosen = torch.zeros(num_subsets, num_images, dtype=torch.float64)
    for subset in range(num_subsets):
        rng = np.random.default_rng([seed, side, subset])
        chosen[subset, torch.from_numpy(rng.choice(num_images, size, replace=False))] = 1
    return chosen


def kernel_distances(real: Tensor, generated: Tensor, *, num_subsets: int = NUM_SUBSETS, subset_size: int = SUBSET_SIZE,
                     num_groups: int = 10, seed: int = 0,
                     device: torch.device | str = "cpu") -> KernelDistances:  # fmt: skip
    """Kernel distances between features (N, dim) and (M, dim); subsets have min(N, M, subset_size) vectors."""
    options = {"num_subsets": num_subsets, "subset_size": subset_size, "num_groups": num_groups, "seed": seed}
    return ask_kernel_distances(Pairs.of(real, generated, device), **options)()


# The metric


def kd(context: EvalContext, *, extractor: Extractor, num_generated: int = 10_000, num_real: int | str | None = None,
       mirror: str = "none", num_subsets: int = NUM_SUBSETS, subset_size: int = SUBSET_SIZE, num_groups: int = 10,
       truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
       noise_mode: NoiseMode = "const") -> Iterator[MetricResult]:  # fmt: skip
    """Yield the kernel distance with an interval, then its standard deviation over subsets if these differ.

    Args:
        num_subsets, subset_size: the definition uses 100 subsets of 1000 images, or of all images if there are fewer.
        num_groups: groups of generated images for the interval; 0: no interval.
        num_generated, num_real, mirror, ...: which images, as in `wplus.evaluation.frechet.fd`.
    """
    generated = context.generated(num_generated, Sampling(truncation_psi, truncation_cutoff, noise_mode))
    check_number("num_subsets", num_subsets, lowest=1, whole=True)
    check_number("subset_size", subset_size, lowest=2, whole=True)
    check_groups(num_groups, generated.num)
    real = context.real_images(num=num_real, mirror=mirror)
    if real.num < 2:
        raise UserError(f"num_real must be at least 2 for a kernel distance, got {real.num}.")
    options = {"num_subsets": num_subsets, "subset_size": subset_size, "num_groups": num_groups, "seed": context.seed}
    distances = ask_kernel_distances(pairs_of(context, extractor, real, generated), **options)

    def results() -> Iterator[MetricResult]:
        found, size = distances(), min(real.num, generated.num, subset_size)
        protocol = extractor.protocol | real.protocol | generated.protocol
        protocol |= {"kernel": "(x.y / dim + 1)^3, unbiased", "num_subsets": num_subsets, "subset_size": size}
        is_usual = (num_subsets, subset_size) == (NUM_SUBSETS, SUBSET_SIZE)
        name = distribution_name("kid", "kd", protocol, famous="kid50k_full" if is_usual else "kid_50000")
        name += f"_{num_subsets}x{subset_size}" * (not is_usual)
        how = f"95 %, jackknife over {num_groups} groups of generated images, and the draw of the subsets"
        method = {"interval": how} if found.interval else {}
        yield MetricResult.of(DISTANCE, name, found.mean, protocol=protocol | method, interval=found.interval)
        if size < max(real.num, generated.num):
            none = {"interval": "none: a spread over subsets, which share images"}
            yield MetricResult.of(DEVIATION, f"{name}_std", found.std, protocol=protocol | none)

    return results()
