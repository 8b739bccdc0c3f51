"""Create, measure, draw and store the trajectories of one pair by all methods, one file per pair for resuming."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.core.images import captioned_rows, save_png, to_uint8
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import Endpoints, source_space
from wplus.evaluation.interpolation.realism import shown_frames
from wplus.interpolation.keyframes import Keyframes, keyframes_of
from wplus.interpolation.path import Curve, LatentPath, PathContext, check_path, even_positions, is_for
from wplus.interpolation.path_metrics.cost import Cost, measured
from wplus.interpolation.trajectory import MetricTools, PathMetric, PathNumber, Trajectory, cross_dissolve, measure
from wplus.interpolation.transitions import trajectory_between
from wplus.interpolation.video import shown_columns
from wplus.inversion.task import describe
from wplus.latents.space import Space, space_named, spaces
from wplus.pretrained.extractor import Extractor

CROSS_DISSOLVE = "cross_dissolve"  # the baseline that blends the real images pixel by pixel
FILE = SafetensorsFormat(
    noun="trajectories of a pair", entry="wplus_trajectories", version=1,
    foreign="The trajectories in '{path}' are of generator {maker}, not of {fingerprint}",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A path in a space, named SPACE_PATH: `w_lerp`, `z_slerp`, `w+_geodesic+arc_length`."""

    space: Space
    path: LatentPath
    name: str


def methods_of(
    paths: Mapping[str, LatentPath], in_spaces: Sequence[Space], names: Sequence[str] | None = None
) -> list[Method]:
    """Return every path in each of the spaces it supports, or only the methods in `names`; UserError for an unknown
    method or a path in an unsupported space."""
    if names is None:
        for space in in_spaces:
            space_named(space)
        return [
            _method(space, name, path) for space in in_spaces for name, path in paths.items() if is_for(path, space)
        ]
    return [_called(name, paths) for name in names]


def _method(space: Space, name: str, path: LatentPath) -> Method:
    return Method(space, path, f"{space.replace('/', '')}_{name}")  # slashes separate parts of result names


def _called(name: str, paths: Mapping[str, LatentPath]) -> Method:
    """Return the method with this name; UserError if it is unknown or its path does not support the space."""
    space, _, path = name.partition("_")
    try:
        found = _method(str(space_named(space)), path, paths[path])
    except (UserError, KeyError):
        raise UserError(f"methods must be named SPACE_PATH, SPACE one of {', '.join(spaces())}, PATH one of "
                        f"{', '.join(paths)}, got '{name}'.") from None  # fmt: skip
    check_path(found.path, space)
    return found


class CurveMemory:
    """Cache of one pair's curves by path, space and direction; reusing a curve still adds its cost to the method's.

    `geodesic+arc_length` is `geodesic` re-timed, so its search need not be run twice.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Curve, Cost]] = {}
        self.reused: list[Cost] = []  # original costs of the curves that were reused

    def path(self, path: LatentPath) -> LatentPath:
        """Wrap `path`, and any paths among its options (every callable default), to use this cache."""
        options = [each for each in inspect.signature(path).parameters.values() if each.default is not each.empty]
        parts = {each.name: self.path(each.default) for each in options if callable(each.default)}
        inner = functools.partial(path, **parts)
        name = json.dumps(describe(path), sort_keys=True, default=str)

        def remembered(keyframes: Keyframes, context: PathContext) -> Curve:
            key = f"{name} {keyframes.space} {keyframes.names}"
            if key in self._made:
                self.reused.append(self._made[key][1])
                return self._made[key][0]
            since = len(self.reused)
            with measured(keyframes.codes.device) as cost:
                curve = inner(keyframes, context)
            self.charge(cost, since=since)  # this curve's cost includes the reused inner ones
            self._made[key] = curve, cost
            return curve

        return remembered

    def charge(self, cost: Cost, *, since: int) -> None:
        """Add to `cost` that of the curves in `reused` from index `since` on, as if they had not been cached."""
        reused = self.reused[since:]
        cost.seconds += sum(each.seconds for each in reused)
        if cost.memory_mib is not None:
            cost.memory_mib = max([cost.memory_mib, *(each.memory_mib or 0.0 for each in reused)])


@dataclass(frozen=True)
class PairResult:
    """Results for one pair, by method."""

    rows: Mapping[str, Mapping[str, float]]  # values by name of the number
    numbers: Mapping[str, PathNumber]  # definitions of the numbers by name
    along: Mapping[str, Mapping[str, Tensor]]  # curves (T,) over t
    features: Mapping[str, Mapping[str, Tensor]]  # (F, dim) of frames, by place (see `shown_frames`)

    def save(self, path: Path, *, fingerprint: str) -> Path:
        """Write the result to one file, atomically."""
        parts = {"along": self.along, "features": self.features}
        tensors = {f"{kind} {method} {key}": tensor for kind, methods in parts.items()
                   for method, each in methods.items() for key, tensor in each.items()}  # fmt: skip
        numbers = [asdict(number) for number in self.numbers.values()]
        return FILE.write(path, {"generator": fingerprint, "rows": self.rows, "numbers": numbers}, tensors)

    @staticmethod
    def load(path: Path, *, fingerprint: str) -> PairResult:
        """Load a result from its file."""

        def assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> PairResult:
            numbers = {each["name"]: PathNumber(**each) for each in header["numbers"]}
            parts: dict[str, Any] = {kind: {method: {} for method in header["rows"]} for kind in ("along", "features")}
            for name, tensor in tensors.items():
                kind, method, key = name.split(" ", 2)
                parts[kind][method][key] = tensor
            return PairResult(header["rows"], numbers, **parts)

        return FILE.read(path, assemble, fingerprint=fingerprint)


@dataclass(kw_only=True)
class PairRunner:
    """Creates and measures the trajectories of pairs, for all methods and the cross-dissolve of the real images."""

    methods: Sequence[Method]
    context: PathContext
    tools: MetricTools
    metrics: Mapping[str, PathMetric]
    extractor: Extractor
    endpoints: Endpoints
    fingerprint: str
    frames_per_bin: int

    def run(self, names: tuple[str, str], targets: Tensor, picture: Path | None = None) -> PairResult:
        """Run the pair of images `names` with targets (2, C, H, W) in [-1, 1], and draw it to `picture` if given."""
        memory = CurveMemory()
        trajectories = {method.name: self._trajectory(method, names, targets, memory) for method in self.methods}
        trajectories[CROSS_DISSOLVE] = cross_dissolve(f"{names[0]} to {names[1]}", targets, self.context)
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
        ends, since = [given[name] for name in names], len(memory.reused)
        keyframes = keyframes_of(
            [end.latent for end in ends], self.context.generator, names=names, space=method.space,
            deltas=[end.delta(fingerprint=self.fingerprint) for end in ends],
        ).to(targets.device)  # fmt: skip
        found = trajectory_between(keyframes, self.context, path=memory.path(method.path), targets=targets)
        if found.cost is not None:
            memory.charge(found.cost, since=since)
        return found

    @torch.no_grad()
    def _features(self, trajectories: Mapping[str, Trajectory]) -> dict[str, dict[str, Tensor]]:
        """Extract features of the selected frames, once per frame, with the frames of all methods batched together."""
        places = shown_frames(even_positions(self.context.num_frames), frames_per_bin=self.frames_per_bin)
        numbers, counts = torch.cat(list(places.values())), list(map(len, places.values()))
        images = to_uint8(torch.cat([each.images[numbers.to(each.images.device)] for each in trajectories.values()]))
        (features,) = in_batches(lambda batch: [self.extractor(batch).float().cpu()], images, self.tools.batch_size)
        return {name: dict(zip(places, rows.split(counts), strict=True))
                for name, rows in zip(trajectories, features.split(len(numbers)), strict=True)}  # fmt: skip


def draw(path: Path, trajectories: Mapping[str, Trajectory], scores: Mapping[str, Mapping[PathNumber, float]],
         targets: Tensor) -> None:  # fmt: skip
    """Write a PNG with the real images and, per method, a row of frames titled with its main numbers."""
    rows = [[(targets[0].cpu(), "a, real"), (targets[1].cpu(), "b, real")]]
    for each in trajectories.values():
        columns = shown_columns(len(each.t), 9)
        rows.append([(each.images[column].float().cpu(), f"{float(each.t[column]):.2f}") for column in columns])
    titles = ["real images", *(f"{name}: {in_words(row)}" for name, row in scores.items())]
    save_png(path, captioned_rows(rows, titles, min_px=96))


def in_words(row: Mapping[PathNumber, float]) -> str:
    """Format the main numbers of a trajectory in one line."""
    return ", ".join(f"{number.label or number.name} {value:{number.format}}".replace("_", " ")
                     for number, value in row.items() if number.shown == "short")  # fmt: skip
