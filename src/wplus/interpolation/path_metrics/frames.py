"""Images along a path: do its ends match the real images, is identity kept, is its middle a double exposure?"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.images import to_float, to_uint8
from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory, features_of
from wplus.losses.pixel import psnr

ENDPOINT_PSNR = PathNumber(name="endpoint_psnr_db", by_net=False, unit="dB", direction="higher", format=".1f",
    shown="short", meaning=(
    "PSNR of the two end frames against the real images, pixels in [-1, 1], at most 100; where it is low, nothing else "
    "means much."))  # fmt: skip
ENDPOINT_DISTANCE = PathNumber(name="endpoint", direction="lower", format=".3f", meaning=(
    "Perceptual distance of the two end frames from the real images; 0 where they are the images, and where it is "
    "large, nothing else means much."))  # fmt: skip
ENDPOINT_MISS = PathNumber(name="endpoint_miss", direction="lower", format=".2f", shown="file", meaning=(
    "Larger error of the two end frames over the distance between the two real images, as lengths in feature space; 0 "
    "is none, 1 is as far from the image as the other image is."))  # fmt: skip


def fidelity(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Compare the ends with the real images. Check this before all other numbers: bad inversions yield smooth paths.

    The ends are clipped and rounded to 8 bits as when stored, like in the table of a folder of inversions.
    `endpoint_<net>` (LPIPS: Zhang et al. 2018, arXiv:1801.03924) and `endpoint_psnr_db` are means over the two ends;
    PSNR is 10 log10(2^2 / mse) for the range [-1, 1] (papers that compute 2 / mse report 3 dB less). `endpoint_miss` is
    sqrt(max d(end, its image) / d(a, b)), since distances of the LPIPS family are squared lengths. It is our own, is
    limited by a comparison's `endpoint_threshold`, and is omitted if the images are equal.
    """
    if trajectory.targets is None:
        return
    targets = trajectory.targets.to(trajectory.images)
    ends = to_float(to_uint8(trajectory.images[[0, -1]])).to(trajectory.images)
    features = tools.features(targets)
    distances = tools.distances(tools.features(ends), features).clamp_min(0)
    yield ENDPOINT_PSNR, float(psnr(ends, targets).double().mean())
    yield ENDPOINT_DISTANCE.by(tools.perceptual.name), float(distances.mean())
    if apart := float(tools.distances([maps[:1] for maps in features], [maps[1:] for maps in features])):
        yield ENDPOINT_MISS, math.sqrt(float(distances.max()) / apart)


THIRD_PERSON = PathNumber(name="third_person", direction="higher", format=".3f", shown="short", meaning=(
    "Lowest similarity of any frame to the end it resembles more, at most 1; where it is low, a third identity appears "
    "along the path."))  # fmt: skip
BACKWARDS = PathNumber(name="backwards", direction="lower", format=".3f", shown="file", meaning=(
    "Share of the steps on which a frame becomes less like the goal or more like the start; 0 is none. Rounding "
    "counts, so it depends on the number of frames."))  # fmt: skip
BACKTRACK = PathNumber(name="backtrack", direction="lower", format=".3f", meaning=(
    "Total change of the similarities to start and goal in the wrong direction, over the change needed; 0 "
    "is none."))  # fmt: skip
CROSSOVER = PathNumber(name="crossover", format=".2f", shown="file", meaning=(
    "Where on the path the frames become more like the goal than the start: 0.5 is halfway, 0 immediately, 1 only at "
    "the end."))  # fmt: skip


def drift(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Similarities s_a(t), s_b(t) of every frame to the first and the last frame: cosine of descriptors, at most 1.

    Ideally s_a decreases and s_b increases monotonically, and they cross halfway. Papers compare identities by this
    cosine (of ArcFace descriptors, Deng et al. 2019, arXiv:1801.07698); the numbers derived from it along a path are
    our own.

    `third_person` is min over t of max(s_a, s_b), bounded below by what the end frames have in common. `backwards` is
    the share of the 2 (T - 1) steps that violate monotonicity; `backtrack` measures their size, which depends much less
    on T.
    """
    if tools.identity is None:
        return
    net, descriptors = tools.identity.name, features_of(tools.identity, trajectory.images, tools.batch_size)
    with torch.no_grad():
        to_a, to_b = (
            1 - tools.identity.distance(descriptors, [maps[end] for maps in descriptors]).double().cpu()
            for end in (slice(0, 1), slice(-1, None))
        )
    trajectory.along["similarity_a"], trajectory.along["similarity_b"] = to_a, to_b
    wrong = torch.cat([to_a.diff().clamp_min(0), (-to_b.diff()).clamp_min(0)])
    yield THIRD_PERSON.by(net), float(torch.maximum(to_a, to_b).min())
    yield BACKWARDS.by(net), float((wrong > 0).double().mean())
    yield CROSSOVER.by(net), crossover(trajectory.t, to_b - to_a)
    needed = float(to_a[0] - to_a[-1] + to_b[-1] - to_b[0])
    if needed > 0:
        yield BACKTRACK.by(net), float(wrong.sum()) / needed


def crossover(t: Tensor, lead: Tensor) -> float:
    """First t (T,) at which lead (T,) reaches 0, interpolated linearly between frames; the last t if it never does."""
    reached = (lead >= 0).nonzero()[:, 0]
    index = int(reached[0]) if len(reached) else -1
    if index <= 0:
        return float(t[index])
    before, after = float(lead[index - 1]), float(lead[index])
    return float(t[index - 1] + (t[index] - t[index - 1]) * -before / (after - before))


DISTINCTNESS = PathNumber(name="distinctness", direction="higher", format=".3f", meaning=(
    "Perceptual distance of the frame halfway from the nearest pixel mixture of the ends, over the distance between "
    "the ends; 0 is a double exposure."))  # fmt: skip
DETAIL_DIP = PathNumber(name="detail_dip", by_net=False, direction="lower", format=".3f", meaning=(
    "Share of the energy of fine detail that the frame halfway lacks compared to the ends; 0 is none, 0.5 a double "
    "exposure, below 0 more detail than at the ends."))  # fmt: skip


@torch.no_grad()
def ghosting(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Two indicators of a double exposure in the frame halfway (averaged over two if T is even). Both are our own.

    The nearest mixture (1 - m) a + m b, m in [0, 1], is by squared pixel differences. A path that jumps shows one of
    its ends halfway, which is a mixture, too; the steps tell these cases apart. `detail_dip` is
    1 - E(halfway) / mean(E(ends)) with E from `detail_energy`: a mixture of two unrelated images has half the energy of
    its ends, whereas a morph preserves it.
    """
    middle, ends = trajectory.images[trajectory.middle], trajectory.images[[0, -1]]
    mixtures = nearest_mixtures(middle, ends[0], ends[1])
    found = tools.distances([maps[trajectory.middle] for maps in trajectory.features], tools.features(mixtures))
    if chord := tools.chord(trajectory):
        yield DISTINCTNESS, float(found.mean()) / chord
    if energy := detail_energy(ends).mean():
        yield DETAIL_DIP, float(1 - detail_energy(middle).mean() / energy)


def nearest_mixtures(images: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """For images (N, C, H, W), the mixtures (1 - m) a + m b, m in [0, 1], with the smallest squared difference."""
    way = b - a
    m = ((images - a) * way).sum(dim=(1, 2, 3)) / way.square().sum().clamp_min(1e-12)
    return a + m.clamp(0, 1).view(-1, 1, 1, 1) * way


def detail_energy(images: Tensor) -> Tensor:
    """Mean square of the detail that a small blur removes: images (N, C, H, W) -> (N,) float64.

    The blur is the binomial [1, 2, 1] / 4 along rows and columns with reflected borders, so this is the detail of
    single pixels at any resolution.
    """
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64, device=images.device)
    x = images.double().flatten(0, 1)[:, None]  # (N * C, 1, H, W)
    x = x - F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), (kernel[:, None] * kernel)[None, None])
    return x.square().mean(dim=(1, 2, 3)).view(len(images), -1).mean(dim=1).cpu()
