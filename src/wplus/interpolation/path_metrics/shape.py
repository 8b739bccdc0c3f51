"""Evenness, length, straightness and symmetry of a path, all from perceptual distances between its frames."""

import torch
from torch import Tensor

from wplus.core.random import rng
from wplus.errors import check_number
from wplus.interpolation.path import even_positions
from wplus.interpolation.trajectory import MetricTools, PathNumber, Scores, Trajectory

STEP_CV = PathNumber(name="step_cv", direction="lower", format=".3f", shown="short", worst=True, meaning=(
    "Unevenness of the steps from frame to frame: standard deviation over mean; 0 is perfectly even."))  # fmt: skip
STEP_SMOOTHNESS = PathNumber(name="step_smoothness", direction="higher", format=".3f", shown="file", meaning=(
    "1 minus the Gini coefficient of the steps from frame to frame (AID, arXiv:2403.17924); 1 is "
    "perfectly even."))  # fmt: skip
STEP_JUMP_RATIO = PathNumber(name="step_jump_ratio", direction="lower", format=".2f", meaning=(
    "Largest step from frame to frame over the mean step; 1 is perfectly even, the number of steps means a "
    "single jump."))  # fmt: skip
PATH_LENGTH = PathNumber(name="path_length", direction="lower", shown="file", meaning=(
    "Length of the path in feature space; longer paths pass through more different images."))  # fmt: skip
TORTUOSITY = PathNumber(name="tortuosity", direction="lower", format=".2f", shown="short", meaning=(
    "Length of the path in feature space over the straight distance between its ends; 1 is the shortest "
    "there is."))  # fmt: skip
CHORD = PathNumber(name="chord", shown="file", meaning=(
    "Perceptual distance between the two ends of the path: how far apart the images it joins are."))  # fmt: skip


def evenness(steps: Tensor, chord: float) -> Scores:
    """Numbers of one transition from its step distances (T,) and the distance between its ends.

    `step_cv`, `step_smoothness` and `step_jump_ratio` use the distances directly, as in the literature (DiffMorpher,
    arXiv:2312.07409, reports the variance, which depends on the scale). `path_length` sums their square roots, because
    distances of the LPIPS family are squared lengths between features, and only lengths add up along a path;
    `tortuosity` divides it by the root of the chord, and is omitted if the ends are equal.
    """
    total, length = float(steps.sum()), float(steps.clamp_min(0).sqrt().sum())
    yield STEP_CV, step_cv(steps)
    yield STEP_SMOOTHNESS, 1 - gini(steps)
    yield STEP_JUMP_RATIO, float(steps.max()) / (total / len(steps)) if total else 1.0
    yield PATH_LENGTH, length if total else 0.0
    if total and chord:
        yield TORTUOSITY, length / chord**0.5


def step_cv(steps: Tensor) -> float:
    """Standard deviation over mean of steps (T,); 0 if nothing moves, which is perfectly even."""
    total = float(steps.sum())
    return float(steps.std(correction=0)) / (total / len(steps)) if total else 0.0


def gini(values: Tensor) -> float:
    """Gini coefficient of non-negative values (T,): 0 if all are equal, near 1 if one holds the entire sum.

    Mean absolute difference over twice the mean (Gini 1912), in its sorted form.
    """
    ordered, num = values.double().sort().values, len(values)
    if not ordered.sum():
        return 0.0
    ranks = torch.arange(1, num + 1, dtype=torch.float64)
    return float(((2 * ranks - num - 1) * ordered).sum() / (num * ordered.sum()))


def steps(trajectory: Trajectory, tools: MetricTools) -> Scores:
    """Evenness, length and tortuosity of the steps, see `evenness`, and the chord."""
    distances, chord = tools.distances(trajectory.rows(0, -1), trajectory.rows(1, None)), tools.chord(trajectory)
    trajectory.along["step"] = torch.cat([distances[:1], (distances[1:] + distances[:-1]) / 2, distances[-1:]])
    yield from evenness(distances, chord)
    yield CHORD, chord


TURNING = PathNumber(name="turning_deg", unit="degrees", direction="lower", format=".0f", meaning=(
    "By how many degrees the path turns in feature space, cut into pieces of equal length; 0 is "
    "straight."))  # fmt: skip
TURNING_MEAN = PathNumber(name="turning_mean_deg", unit="degrees", direction="lower", format=".0f",
    shown="file", meaning=(
    "Mean angle between successive steps in feature space; it depends on the number of frames."))  # fmt: skip


def curvature(
    trajectory: Trajectory,
    tools: MetricTools,
    *,
    num_pieces: int = 8,  # of equal length, whose chords are compared
) -> Scores:
    """How much the path turns in feature space, in degrees.

    The angle between successive displacements u = f2 - f1, v = f3 - f2 follows from the distances of frames one and
    two apart, because those of the LPIPS family are squared lengths: d13 = |u + v|^2 = d12 + d23 + 2 |u||v| cos(angle).
    0 is straight on, 180 a reversal (Henaff et al. 2019, Nature Neuroscience 22). Frames without motion have no angle.

    `turning_mean_deg` is the mean angle from frame to frame, as usually reported. For `turning_deg` the path is cut at
    its frames into `num_pieces` pieces of equal length, and the angles between their chords are summed: 157.5 for half
    a circle in 8 pieces, for any T and any speed. The sum over all frames would be the total curvature (Milnor 1950),
    which converges for smooth paths as frames are added. Network features are not smooth: on straight lines in w it
    grows like the root of T (cats, EfficientNet-Lite0), hence the fixed number of pieces.
    """
    check_number("num_pieces", num_pieces, lowest=2, whole=True)
    steps = tools.distances(trajectory.rows(0, -1), trajectory.rows(1, None))
    way = torch.nn.functional.pad(steps.clamp_min(0).sqrt().cumsum(dim=0), (1, 0))
    wanted = torch.linspace(0, 1, num_pieces + 1, dtype=way.dtype) * way[-1]
    pieces = (way - wanted[:, None]).abs().argmin(dim=1).unique()  # the frames nearest to these cuts
    angles = _angles(trajectory, tools, torch.arange(len(trajectory.t)))
    if len(angles):
        yield TURNING, float(torch.rad2deg(_angles(trajectory, tools, pieces).sum()))
        yield TURNING_MEAN, float(torch.rad2deg(angles.mean()))


def _angles(trajectory: Trajectory, tools: MetricTools, frames: Tensor) -> Tensor:
    """Angles in radians between the chords through these frames (F,): at most F - 2."""
    rows = [maps[frames.to(maps.device)] for maps in trajectory.features]
    near, far = (tools.distances([x[:-apart] for x in rows], [x[apart:] for x in rows]) for apart in (1, 2))
    return turning_angles(near, far)


def turning_angles(near: Tensor, far: Tensor) -> Tensor:
    """Angles in radians from squared lengths: near (T-1,) of displacements, far (T-2,) of sums of two of them."""
    first, second = near[:-1], near[1:]
    moving = (first > 0) & (second > 0)
    first, second, both = first[moving], second[moving], far[moving]
    # tan^2(angle / 2) = (1 - cos) / (1 + cos), because acos loses half of the digits near 0.
    a, b = first.sqrt(), second.sqrt()
    minus, plus = ((a + b).square() - both).clamp_min(0), (both - (a - b).square()).clamp_min(0)
    return 2 * torch.atan2(minus.sqrt(), plus.sqrt())


ASYMMETRY = PathNumber(name="asymmetry", direction="lower", format=".4f", meaning=(
    "Largest perceptual distance between the path from a to b and that from b to a; 0 is the same path."))  # fmt: skip


def symmetry(
    trajectory: Trajectory,
    tools: MetricTools,
    *,
    num_frames: int = 9,  # frames that are compared
    share: float = 1.0,  # of the trajectories to measure; paths that need a search repeat it for this
) -> Scores:
    """Largest distance between the path a to b at t and the path b to a at 1 - t, over `num_frames` evenly spaced t.

    It is 0 if the order of the keyframes does not matter, as for straight lines and great circles, up to rounding.
    `share` restricts this to a fraction of the trajectories, selected by name and so the same for every method.
    """
    check_number("num_frames", num_frames, lowest=2, whole=True)
    check_number("share", share, lowest=0, highest=1)
    if trajectory.back is None or float(torch.rand((), generator=rng(0, trajectory.name, "symmetry"))) >= share:
        return
    t = even_positions(num_frames)
    there, back = tools.features(trajectory.at(t)), tools.features(trajectory.back(1 - t))
    yield ASYMMETRY, float(tools.distances(there, back).max())
