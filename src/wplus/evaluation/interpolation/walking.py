"""All walks of one pair: made, judged, shown, and stored in one file, so that an interrupted command goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.batching import in_batches
from wplus.core.files import atomic_write
from wplus.core.images import captioned_rows, to_uint8
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.evaluation.interpolation.ends import Ends
from wplus.evaluation.interpolation.methods import DISSOLVE, Method
from wplus.evaluation.interpolation.realism import shown_frames
from wplus.evaluation.interpolation.sharing import Remembered
from wplus.interpolation.curve import PathContext
from wplus.interpolation.keyframes import key_points
from wplus.interpolation.transitions import measure_walks, walk_between
from wplus.interpolation.walk import Metric, MetricTools, Trajectory, cross_dissolve, even_positions

FILE = SafetensorsFormat(
    noun="walks of a pair",
    entry="wplus_walks",
    version=1,
    foreign="The walks in '{path}' are of generator {maker}, not of {fingerprint}",
)
NUM_COLUMNS = 9  # of a picture
TILE_PX = 96


@dataclass(frozen=True)
class PairResult:
    """What was found on one pair.

    Attributes
        rows      method -> metric -> value
        along     method -> name -> (T,) curve over t
        features  method -> place (see `shown_frames`) -> (F, dim) features of frames
    """

    rows: Mapping[str, Mapping[str, float]]
    along: Mapping[str, Mapping[str, Tensor]]
    features: Mapping[str, Mapping[str, Tensor]]

    def save(self, path: Path, *, fingerprint: str) -> Path:
        """In one file, whole or not at all."""
        parts = {"along": self.along, "features": self.features}
        tensors = {f"{kind} {method} {key}": tensor for kind, methods in parts.items()
                   for method, each in methods.items() for key, tensor in each.items()}  # fmt: skip
        return FILE.write(path, {"generator": fingerprint, "rows": self.rows}, tensors)

    @staticmethod
    def load(path: Path, *, fingerprint: str) -> PairResult:
        """From its file."""
        return FILE.read(path, _assemble, fingerprint=fingerprint)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> PairResult:
    rows = header["rows"]
    along, features = ({method: {} for method in rows} for _ in range(2))
    for name, tensor in tensors.items():
        kind, method, key = name.split(" ", 2)
        (along if kind == "along" else features)[method][key] = tensor
    return PairResult(rows, along, features)


class Walker:
    """Makes and judges the walks of pairs, with all methods and the cross-dissolve of the real images."""

    def __init__(
        self,
        methods: Sequence[Method],
        *,
        scene: PathContext,
        judges: MetricTools,
        metrics: Mapping[str, Metric],
        extractor: Callable[[Tensor], Tensor],
        ends: Ends,
        fingerprint: str,
        frames_per_bin: int,
    ) -> None:
        self.methods, self.scene, self.judges, self.metrics = methods, scene, judges, metrics
        self.extractor, self.ends, self.fingerprint = extractor, ends, fingerprint
        self.frames = shown_frames(even_positions(scene.num_frames), frames_per_bin=frames_per_bin)

    def judge(self, names: tuple[str, str], targets: Tensor, picture: Path | None = None) -> PairResult:
        """The pair of images called `names`, targets (2, C, H, W) in [-1, 1]; drawn to `picture` where one is given."""
        memory = Remembered()
        walks = {method.name: self._walk(method, names, targets, memory) for method in self.methods}
        walks[DISSOLVE] = cross_dissolve(
            f"{names[0]} to {names[1]}", targets, perceptual=self.scene.perceptual,
            num_frames=self.scene.num_frames, batch_size=self.scene.batch_size,
        )  # fmt: skip
        rows = dict(zip(walks, measure_walks(list(walks.values()), self.metrics, self.judges), strict=True))
        if picture is not None:
            draw(picture, walks, rows, targets)
        along = {name: {key: curve.float().cpu() for key, curve in walk.along.items()} for name, walk in walks.items()}
        return PairResult(rows, along, self._features(walks))

    def _walk(self, method: Method, names: tuple[str, str], targets: Tensor, memory: Remembered) -> Trajectory:
        generator = self.scene.generator
        ends = [self.ends.of(name, method.space) for name in names]
        deltas = [end.delta(fingerprint=self.fingerprint) for end in ends]
        points = key_points([end.latent for end in ends], generator, names=names, space=method.space, deltas=deltas)
        since = len(memory.reused)
        walk = walk_between(points.to(targets.device), self.scene, path=memory.path(method.path), targets=targets)
        if walk.cost is not None:
            memory.charge(walk.cost, since=since)
        return walk

    @torch.no_grad()
    def _features(self, walks: Mapping[str, Trajectory]) -> dict[str, dict[str, Tensor]]:
        """Each frame that is looked at goes through the extractor once, those of all methods in the same batches."""
        numbers = torch.cat(list(self.frames.values()))
        images = to_uint8(torch.cat([walk.images[numbers.to(walk.images.device)] for walk in walks.values()]))
        (features,) = in_batches(lambda batch: [self.extractor(batch).float().cpu()], images, self.judges.batch_size)
        per_walk = features.split(len(numbers))
        counts = [len(each) for each in self.frames.values()]
        return {name: dict(zip(self.frames, rows.split(counts), strict=True))
                for name, rows in zip(walks, per_walk, strict=True)}  # fmt: skip


# The picture of a pair


def draw(path: Path, walks: Mapping[str, Trajectory], rows: Mapping[str, Mapping[str, float]], targets: Tensor) -> Path:
    """The real images, and a row of frames per method with its main numbers; writes a PNG."""
    strips = [[(targets[0].cpu(), "a, real"), (targets[1].cpu(), "b, real")]]
    titles = ["real images"]
    for name, walk in walks.items():
        columns = torch.linspace(0, len(walk.t) - 1, min(NUM_COLUMNS, len(walk.t))).round().long().tolist()
        strips.append([(walk.images[column].float().cpu(), f"{float(walk.t[column]):.2f}") for column in columns])
        titles.append(f"{name}: {in_words(rows[name])}")
    canvas = captioned_rows(strips, titles, min_px=TILE_PX)
    return atomic_write(path, lambda file: canvas.save(file, format="PNG"))


_IN_WORDS = (
    ("end_psnr_db", "ends {:.1f} dB"),
    ("end_miss", "miss {:.2f}"),
    ("relative_ppl", "PPL/d {:.1f}"),
    ("tortuosity", "length/chord {:.2f}"),
    ("step_cv", "CV {:.2f}"),
    ("turning_deg", "turns {:.0f}°"),
    ("third_person_", "third person {:.2f}"),
    ("distinctness", "off dissolve {:.2f}"),
    ("logit_dip", "logit dip {:.1f}"),
    ("prior_max", "prior {:.3g}"),
)


def in_words(row: Mapping[str, float]) -> str:
    """The main numbers of a walk in one line."""
    found = ((form, value) for start, form in _IN_WORDS for name, value in row.items() if name.startswith(start))
    return ", ".join(form.format(value) for form, value in found)
