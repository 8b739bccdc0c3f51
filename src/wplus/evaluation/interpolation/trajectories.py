"""The trajectories of one pair by every method: made, measured, drawn, and stored in one file, to be continued by."""

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
from wplus.interpolation.video import save_rows, shown_columns
from wplus.inversion.task import describe
from wplus.latents.space import Space, space_named, spaces
from wplus.pretrained.extractor import Extractor

CROSS_DISSOLVE = "cross_dissolve"  # the baseline that mixes the real images pixel by pixel
FILE = SafetensorsFormat(
    noun="trajectories of a pair", entry="wplus_trajectories", version=1,
    foreign="The trajectories in '{path}' are of generator {maker}, not of {fingerprint}",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A path in a space, called SPACE_PATH: `w_lerp`, `z_slerp`, `w+_geodesic+arc_length`."""

    space: Space
    path: LatentPath
    name: str


def methods_of(
    paths: Mapping[str, LatentPath], in_spaces: Sequence[Space], names: Sequence[str] | None = None
) -> list[Method]:
    """Every path in every one of the spaces that it is for; or instead those called `names`, UserError for an unknown
    one and for a path in a space that it is not for."""
    if names is None:
        for space in in_spaces:
            space_named(space)
        return [
            _method(space, name, path) for space in in_spaces for name, path in paths.items() if is_for(path, space)
        ]
    return [_called(name, paths) for name in names]


def _method(space: Space, name: str, path: LatentPath) -> Method:
    return Method(space, path, f"{space.replace('/', '')}_{name}")  # slashes divide the names of numbers


def _called(name: str, paths: Mapping[str, LatentPath]) -> Method:
    """The method with this name; UserError for an unknown one, and for a path in a space that it is not for."""
    space, _, path = name.partition("_")
    try:
        found = _method(str(space_named(space)), path, paths[path])
    except (UserError, KeyError):
        raise UserError(f"methods must be called SPACE_PATH, SPACE one of {', '.join(spaces())}, PATH one of "
                        f"{', '.join(paths)}, got '{name}'.") from None  # fmt: skip
    check_path(found.path, space)
    return found


class CurveMemory:
    """Curves of one pair by path, space and direction, each made once; whoever uses one again is charged for it.

    `geodesic+arc_length` is `geodesic` at another pace, and its search need not be made twice.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[Curve, Cost]] = {}
        self.reused: list[Cost] = []  # what curves that were met again took when they were made

    def path(self, path: LatentPath) -> LatentPath:
        """`path`, and the paths among its options, with this memory: what is callable there is a path."""
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
            self.charge(cost, since=since)  # what was saved inside belongs to this curve's price, too
            self._made[key] = curve, cost
            return curve

        return remembered

    def charge(self, cost: Cost, *, since: int) -> None:
        """Make `cost` what it would have been without memory: that of the curves in `reused` from `since` on, too."""
        reused = self.reused[since:]
        cost.seconds += sum(each.seconds for each in reused)
        if cost.memory_mib is not None:
            cost.memory_mib = max([cost.memory_mib, *(each.memory_mib or 0.0 for each in reused)])


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
    """Makes and measures the trajectories of pairs, by all methods and the cross-dissolve of the real images."""

    methods: Sequence[Method]
    context: PathContext
    tools: MetricTools
    metrics: Mapping[str, PathMetric]
    extractor: Extractor
    endpoints: Endpoints
    fingerprint: str
    frames_per_bin: int

    def run(self, names: tuple[str, str], targets: Tensor, picture: Path | None = None) -> PairResult:
        """The pair of images called `names`, targets (2, C, H, W) in [-1, 1]; drawn to `picture` where one is given."""
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
        """Each frame that is looked at goes through the extractor once, those of all methods in the same batches."""
        places = shown_frames(even_positions(self.context.num_frames), frames_per_bin=self.frames_per_bin)
        numbers, counts = torch.cat(list(places.values())), list(map(len, places.values()))
        images = to_uint8(torch.cat([each.images[numbers.to(each.images.device)] for each in trajectories.values()]))
        (features,) = in_batches(lambda batch: [self.extractor(batch).float().cpu()], images, self.tools.batch_size)
        return {name: dict(zip(places, rows.split(counts), strict=True))
                for name, rows in zip(trajectories, features.split(len(numbers)), strict=True)}  # fmt: skip


def draw(path: Path, trajectories: Mapping[str, Trajectory], scores: Mapping[str, Mapping[PathNumber, float]],
         targets: Tensor) -> None:  # fmt: skip
    """The real images, and a row of frames per method with its main numbers; writes a PNG."""
    rows = [[(targets[0].cpu(), "a, real"), (targets[1].cpu(), "b, real")]]
    for each in trajectories.values():
        columns = shown_columns(len(each.t), 9)
        rows.append([(each.images[column].float().cpu(), f"{float(each.t[column]):.2f}") for column in columns])
    save_rows(path, rows, ["real images", *(f"{name}: {in_words(row)}" for name, row in scores.items())], min_px=96)


def in_words(row: Mapping[PathNumber, float]) -> str:
    """The main numbers of a trajectory in one line."""
    return ", ".join(f"{number.label or number.name} {value:{number.format}}".replace("_", " ")
                     for number, value in row.items() if number.shown == "short")  # fmt: skip
