"""The trajectories of one pair by every method: made, measured, drawn, and stored in one file, to be continued by."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.core.images import to_uint8
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import Endpoints, source_space
from wplus.evaluation.interpolation.realism import shown_frames
from wplus.interpolation.keyframes import Keyframes, keyframes_of
from wplus.interpolation.path import Curve, LatentPath, PathContext, check_path, even_positions, is_for
from wplus.interpolation.path_metrics.cost import Cost, measured
from wplus.interpolation.trajectory import MetricTools, PathMetric, PathNumber, Trajectory, cross_dissolve, measure
from wplus.interpolation.transitions import trajectory_between
from wplus.interpolation.video import save_rows
from wplus.latents.latent import SPACES, Space, check_space
from wplus.pretrained.extractor import Extractor

CROSS_DISSOLVE = "cross_dissolve"
"""The baseline that mixes the real images pixel by pixel."""
FILE = SafetensorsFormat(
    noun="trajectories of a pair",
    entry="wplus_trajectories",
    version=1,
    foreign="The trajectories in '{path}' are of generator {maker}, not of {fingerprint}",
)
NUM_COLUMNS = 9  # of a picture
TILE_PX = 96


@dataclass(frozen=True)
class Method:
    """A path in a space, called SPACE_PATH: `w_lerp`, `z_slerp`, `w+_geodesic+arc_length`."""

    space: Space
    path: LatentPath
    name: str


def all_methods(spaces: Sequence[Space], paths: Mapping[str, LatentPath]) -> list[Method]:
    """Every path in every space that it is for."""
    for space in spaces:
        check_space(space)
    found = [Method(space, path, f"{space}_{name}") for space in spaces for name, path in paths.items()]
    return [method for method in found if is_for(method.path, method.space)]


def methods_called(names: Sequence[str], paths: Mapping[str, LatentPath]) -> list[Method]:
    """Methods by name; UserError for an unknown one and for a path in a space that it is not for."""
    found = {f"{space}_{path}": Method(space, paths[path], f"{space}_{path}") for space in SPACES for path in paths}
    for name in names:
        if name not in found:
            raise UserError(f"methods must be called SPACE_PATH, SPACE one of {', '.join(SPACES)}, PATH one of "
                            f"{', '.join(paths)}, got '{name}'.")  # fmt: skip
        check_path(found[name].path, found[name].space)
    return [found[name] for name in names]


def with_options(function: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function behind partials, and the values of all its options, defaults included."""
    options: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        function, options = function.func, {**function.keywords, **options}
    parameters = inspect.signature(function).parameters.items()
    defaults = {name: each.default for name, each in parameters if each.default is not inspect.Parameter.empty}
    return function, {**defaults, **options}


def described(value: Any) -> Any:
    """A function with its options as plain values, for protocols and comparisons; other values as they are."""
    if not callable(value):
        return value
    function, options = with_options(value)
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    return {"function": name, **{key: described(each) for key, each in options.items()}}


# Searches that several methods share


class CurveMemory:
    """Curves of one pair by path, space and direction, each made once; whoever uses one again is charged for it.

    `geodesic+arc_length` is `geodesic` at another pace, and its search need not be made twice.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Curve, Cost]] = {}
        self.reused: list[Cost] = []
        """What curves that were met again took when they were made."""

    def path(self, path: LatentPath) -> LatentPath:
        """`path`, and the paths among its options, with this memory; the parts of a path are remembered, too."""
        function, options = with_options(path)
        inner = functools.partial(function, **{key: self._option(each) for key, each in options.items()})
        name = json.dumps(described(path), sort_keys=True, default=str)

        def remembered(keyframes: Keyframes, context: PathContext) -> Curve:
            return self._curve(f"{name} {keyframes.space} {keyframes.names}", inner, keyframes, context)

        return remembered

    def _option(self, value: Any) -> Any:
        """Paths are the options that are functions or partials of such."""
        return self.path(value) if callable(value) else value

    def charge(self, cost: Cost, *, since: int) -> None:
        """Make `cost` what it would have been without memory: add the curves in `reused` from number `since` on.

        Their seconds are added; the peak is theirs where that is higher.
        """
        reused = self.reused[since:]
        cost.seconds += sum(each.seconds for each in reused)
        if cost.memory_mib is not None:
            cost.memory_mib = max([cost.memory_mib, *(each.memory_mib or 0.0 for each in reused)])

    def _curve(self, key: str, path: LatentPath, keyframes: Keyframes, context: PathContext) -> Curve:
        if key in self._made:
            curve, cost = self._made[key]
            self.reused.append(cost)
            return curve
        since = len(self.reused)
        with measured(keyframes.codes.device) as cost:
            curve = path(keyframes, context)
        self.charge(cost, since=since)  # what was saved inside belongs to this curve's price, too
        self._made[key] = curve, cost
        return curve


# One pair


@dataclass(frozen=True)
class PairResult:
    """What was found on one pair, by method."""

    rows: Mapping[str, Mapping[str, float]]  # values by the name of the number
    numbers: Mapping[str, PathNumber]  # what each number is, by its name
    along: Mapping[str, Mapping[str, Tensor]]  # curves (T,) over t
    features: Mapping[str, Mapping[str, Tensor]]  # (F, dim) of frames, by place (see `shown_frames`)

    def save(self, path: Path, *, fingerprint: str) -> Path:
        """In one file, whole or not at all."""
        parts = {"along": self.along, "features": self.features}
        tensors = {f"{kind} {method} {key}": tensor for kind, methods in parts.items()
                   for method, each in methods.items() for key, tensor in each.items()}  # fmt: skip
        numbers = [asdict(number) for number in self.numbers.values()]
        return FILE.write(path, {"generator": fingerprint, "rows": self.rows, "numbers": numbers}, tensors)

    @staticmethod
    def load(path: Path, *, fingerprint: str) -> PairResult:
        """From its file."""
        return FILE.read(path, _assemble, fingerprint=fingerprint)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> PairResult:
    rows, numbers = header["rows"], [PathNumber(**each) for each in header["numbers"]]
    parts: dict[str, dict[str, dict[str, Tensor]]] = {
        kind: {method: {} for method in rows} for kind in ("along", "features")
    }
    for name, tensor in tensors.items():
        kind, method, key = name.split(" ", 2)
        parts[kind][method][key] = tensor
    return PairResult(rows, {number.name: number for number in numbers}, **parts)


@dataclass(kw_only=True)
class PairRunner:
    """Makes and measures the trajectories of pairs, by all methods and the cross-dissolve of the real images."""

    methods: Sequence[Method]
    context: PathContext
    tools: MetricTools
    metrics: Mapping[str, PathMetric]
    extractor: Extractor
    endpoints: Endpoints
    fingerprint: str
    frames_per_bin: int

    def __post_init__(self) -> None:
        self.frames = shown_frames(even_positions(self.context.num_frames), frames_per_bin=self.frames_per_bin)

    def run(self, names: tuple[str, str], targets: Tensor, picture: Path | None = None) -> PairResult:
        """The pair of images called `names`, targets (2, C, H, W) in [-1, 1]; drawn to `picture` where one is given."""
        memory = CurveMemory()
        trajectories = {method.name: self._trajectory(method, names, targets, memory) for method in self.methods}
        trajectories[CROSS_DISSOLVE] = cross_dissolve(
            f"{names[0]} to {names[1]}", targets, perceptual=self.context.perceptual,
            num_frames=self.context.num_frames, batch_size=self.context.batch_size,
        )  # fmt: skip
        scores = {name: measure(each, self.metrics, self.tools) for name, each in trajectories.items()}
        if picture is not None:
            draw(picture, trajectories, scores, targets)
        return PairResult(
            rows={name: {number.name: value for number, value in row.items()} for name, row in scores.items()},
            numbers={number.name: number for row in scores.values() for number in row},
            along={name: {key: curve.float().cpu() for key, curve in each.along.items()}
                   for name, each in trajectories.items()},
            features=self._features(trajectories),
        )  # fmt: skip

    def _trajectory(self, method: Method, names: tuple[str, str], targets: Tensor, memory: CurveMemory) -> Trajectory:
        given = self.endpoints[source_space(method.space, list(self.endpoints))]
        ends = [given[name] for name in names]
        keyframes = keyframes_of(
            [end.latent for end in ends], self.context.generator, names=names, space=method.space,
            deltas=[end.delta(fingerprint=self.fingerprint) for end in ends],
        ).to(targets.device)  # fmt: skip
        since = len(memory.reused)
        found = trajectory_between(keyframes, self.context, path=memory.path(method.path), targets=targets)
        if found.cost is not None:
            memory.charge(found.cost, since=since)
        return found

    @torch.no_grad()
    def _features(self, trajectories: Mapping[str, Trajectory]) -> dict[str, dict[str, Tensor]]:
        """Each frame that is looked at goes through the extractor once, those of all methods in the same batches."""
        numbers = torch.cat(list(self.frames.values()))
        chosen = [each.images[numbers.to(each.images.device)] for each in trajectories.values()]
        images = to_uint8(torch.cat(chosen))
        (features,) = in_batches(lambda batch: [self.extractor(batch).float().cpu()], images, self.tools.batch_size)
        counts = [len(each) for each in self.frames.values()]
        return {name: dict(zip(self.frames, rows.split(counts), strict=True))
                for name, rows in zip(trajectories, features.split(len(numbers)), strict=True)}  # fmt: skip


def draw(
    path: Path,
    trajectories: Mapping[str, Trajectory],
    scores: Mapping[str, Mapping[PathNumber, float]],
    targets: Tensor,
) -> Path:
    """The real images, and a row of frames per method with its main numbers; writes a PNG."""
    rows = [[(targets[0].cpu(), "a, real"), (targets[1].cpu(), "b, real")]]
    for each in trajectories.values():
        columns = torch.linspace(0, len(each.t) - 1, min(NUM_COLUMNS, len(each.t))).round().long().tolist()
        rows.append([(each.images[column].float().cpu(), f"{float(each.t[column]):.2f}") for column in columns])
    titles = ["real images", *(f"{name}: {in_words(row)}" for name, row in scores.items())]
    return save_rows(path, rows, titles, min_px=TILE_PX)


def in_words(row: Mapping[PathNumber, float]) -> str:
    """The main numbers of a trajectory in one line."""
    return ", ".join(f"{number.label or number.name} {value:{number.format}}".replace("_", " ")
                     for number, value in row.items() if number.shown == "short")  # fmt: skip
