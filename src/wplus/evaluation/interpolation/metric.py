"""The metric `interpolation`: a fixed list of pairs of real images, every method on every pair, one table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wplus.checkpoint import load
from wplus.core.distributed import all_agree, is_first
from wplus.core.files import ensure_folder
from wplus.core.images import to_float
from wplus.core.metric_result import MetricResult
from wplus.core.progress import silent
from wplus.core.tables import PAIRED_CELLS, paired_cells
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext, check_images, generator_protocol
from wplus.evaluation.feature_pass import FeaturePass, FeatureRows, Request
from wplus.evaluation.interpolation import ends as end_points
from wplus.evaluation.interpolation import report
from wplus.evaluation.interpolation.columns import meaning, shown
from wplus.evaluation.interpolation.gate import PASS, check_gate
from wplus.evaluation.interpolation.methods import DISSOLVE, all_methods, chosen_methods, described
from wplus.evaluation.interpolation.pairs import PairList, draw_pairs, read_pairs
from wplus.evaluation.interpolation.realism import RealFeatures, check_num_real
from wplus.evaluation.interpolation.summary import WORST, Summary, summarise
from wplus.evaluation.interpolation.walking import PairResult, Walker
from wplus.interpolation.curve import Path as LatentPath
from wplus.interpolation.curve import PathContext
from wplus.interpolation.path_metrics.critic import Critic, company_of
from wplus.interpolation.walk import Metric, MetricTools, even_positions
from wplus.inversion.folder import describe, require_same_settings
from wplus.latents.latent import Space
from wplus.losses.image_pair import ImageDistance

DRAW = "draw"
_NUM_REFERENCES = 24  # real images that keep the discriminator company; a multiple of 3, for its groups of 4


class Interpolation:
    """Compare ways to interpolate between held-out real images.

    Into the command's folder, under interpolation/: table.md, table.json, table.csv, rows.csv, along.png, a picture of
    every pair in pictures/, the pairs' own results in pairs/ (an interrupted command goes on with those that are
    missing), and the inversions in inversions/<space>.

    Args:
        paths: name -> path, see `wplus.interpolation.curve`.
        spaces: those in which every path is tried, where it makes sense.
        methods: instead, an explicit choice such as [z_slerp, w_lerp]; None: every path in every space.
        path_metrics: name -> metric, see `wplus.interpolation.walk`.
        perceptual: of the LPIPS family; it measures, the inverter uses it, and a path may search by it.
        identity: descriptor of `drift`; None leaves it out.
        extractor: features that sets of frames are compared with real images by.
        inverter: finds the end points, see `wplus.inversion.result`.
        latents: space -> folder of inversions that exist, instead of the inverter.
        pairs: file of a list of pairs; "draw" draws `num_pairs` and writes pairs.json.
        num_frames: of a walk, ends included.
        frames_per_bin: of each walk in each bin of t, for the distances between sets.
        num_real: real images that the sets are compared with; None: all.
        discriminator: "auto" takes the checkpoint's own where it has one, "none" none, else the file that holds one.
        baseline: method that the others are tested against; None: the first.
        gate: part of the distance between two images by which an end may miss its own (`gate.py`); None: no gate.
        pictures: "all" draws every pair, "none" none.
        inversion_batch_size: images that are inverted together; for speed alone.
    """

    def __init__(
        self,
        *,
        paths: Mapping[str, LatentPath],
        path_metrics: Mapping[str, Metric],
        perceptual: ImageDistance,
        identity: ImageDistance | None,
        extractor: Any,
        inverter: Callable[..., Any],
        spaces: Sequence[Space] = ("z", "w", "w+"),
        methods: Sequence[str] | None = None,
        latents: Mapping[Space, str] | None = None,
        pairs: str = DRAW,
        num_pairs: int = 200,
        num_frames: int = 33,
        frames_per_bin: int = 3,
        num_real: int | None = 5000,
        discriminator: str = "auto",
        baseline: str | None = None,
        gate: float | None = 0.5,
        pictures: str = "all",
        inversion_batch_size: int = 50,
    ) -> None:
        self.methods = all_methods(spaces, paths) if methods is None else chosen_methods(methods, paths)
        if not self.methods:
            raise UserError("No method is left to compare: none of the paths is for any of the spaces.")
        names = [method.name for method in self.methods]
        self.baseline = names[0] if baseline is None else baseline
        if self.baseline not in [*names, DISSOLVE]:
            raise UserError(f"baseline={baseline} is not one of the methods: {', '.join(names)}, {DISSOLVE}.")
        if num_frames < 17:
            raise UserError(f"num_frames={num_frames} is too few: bins of t need 17 or more.")
        if pictures not in ("all", "none"):
            raise UserError(f"pictures={pictures} is not known; allowed are all, none.")
        for name, value in (("frames_per_bin", frames_per_bin), ("inversion_batch_size", inversion_batch_size)):
            if value < 1:
                raise UserError(f"{name}={value} is not allowed: it must be 1 or more.")
        check_gate(gate, path_metrics)
        self.metrics, self.perceptual, self.identity, self.extractor = path_metrics, perceptual, identity, extractor
        self.inverter, self.latents, self.pairs, self.num_pairs = inverter, dict(latents or {}), pairs, num_pairs
        self.num_frames, self.frames_per_bin, self.num_real = num_frames, frames_per_bin, num_real
        self.discriminator, self.pictures, self.inversion_batch_size = discriminator, pictures, inversion_batch_size
        self.gate = gate
        spaces_needed = list(dict.fromkeys(method.space for method in self.methods))
        self.sources = (
            list(dict.fromkeys(end_points.source_space(space, list(self.latents)) for space in spaces_needed))
            if self.latents
            else spaces_needed
        )

    def plan(self, bench: EvalContext) -> None:
        """Ask for the real images' features, and refuse what cannot work before anything heavy."""
        if bench.real is None or bench.held_out is None or bench.output_dir is None:
            raise UserError("Interpolations are measured on real images, held-out ones too, and need an output folder.")
        check_images(bench.models.generator, bench.held_out)
        if self.pairs != DRAW:
            read_pairs(self.pairs, bench.held_out)
        end_points.check_folders(self.latents)
        self._critic(bench)
        check_num_real(self._real(bench).num)
        self._features(bench)

    def __call__(self, bench: EvalContext) -> Iterator[MetricResult]:
        """Yield the numbers that the tables show, of every method; every number there is goes into the folder."""
        folder = ensure_folder(Path(bench.output_dir) / "interpolation")  # type: ignore[arg-type]
        pairs = self._pairs(bench, folder)
        critic = self._critic(bench)
        settings = self._settings(bench, pairs, critic)
        given = self._given(bench, pairs)
        if is_first():
            require_same_settings(ensure_folder(folder / "pairs"), settings, noun="walks")
        all_agree(True)
        found = given or self._inverted(bench, pairs, folder)
        results = self._results(bench, pairs, folder, found, critic)
        rows = self._features(bench).value.rows
        real = RealFeatures(rows, device=bench.device, progress=bench.progress)
        summary = summarise(results, pairs, real=real, extractor=self.extractor.name, baseline=self.baseline,
                            t=even_positions(self.num_frames), gate=self.gate, seed=bench.seed)  # fmt: skip
        protocol = {**settings, "gate": self.gate}  # which no stored walk depends on
        if is_first():
            report.write(folder, summary, protocol)
            self._track(bench, folder, summary, pairs)
        yield from self._measurements(summary, protocol)

    # What a comparison needs

    def _real(self, bench: EvalContext) -> FeaturePass:
        num = None if self.num_real is None else min(self.num_real, len(bench.real))  # type: ignore[arg-type]
        return bench.real_images(num=num)

    def _features(self, bench: EvalContext) -> Request[FeatureRows]:
        return self._real(bench).ask(self.extractor, FeatureRows())

    def _pairs(self, bench: EvalContext, folder: Path) -> PairList:
        if self.pairs != DRAW:
            return read_pairs(self.pairs, bench.held_out)  # type: ignore[arg-type]
        pairs = draw_pairs(
            bench.held_out, num_pairs=self.num_pairs, distance=self.perceptual, seed=bench.seed,  # type: ignore[arg-type]
            batch_size=bench.batch_size, device=bench.device, progress=bench.progress,
        )  # fmt: skip
        if is_first():
            pairs.save(folder / "pairs.json")
        return pairs

    def _critic(self, bench: EvalContext) -> Critic | None:
        if self.discriminator == "none" or (
            self.discriminator == "auto" and "discriminator" not in bench.models.networks
        ):
            return None
        own = self.discriminator == "auto"
        network = bench.models.discriminator if own else load(self.discriminator, needs=["discriminator"]).discriminator
        _check_size(network, bench.held_out)
        digests = bench.held_out.digests  # type: ignore[union-attr]
        company = company_of(network)
        num = 0 if company == 0 else _NUM_REFERENCES // company * company or company
        rows = torch.from_numpy(np.lexsort(digests.T[::-1])[:num].copy())
        references = to_float(bench.held_out.batch(rows)[0].to(bench.device))  # type: ignore[union-attr]
        return Critic(network.to(bench.device), references)

    def _settings(self, bench: EvalContext, pairs: PairList, critic: Critic | None) -> dict[str, Any]:
        """Everything that decides the numbers, as plain values: the protocol, and what a folder is continued by."""
        listed = json.dumps([pair.name for pair in pairs.pairs])
        return {
            **generator_protocol(bench.models),
            "data": pairs.data,
            "num_pairs": len(pairs.pairs),
            "pairs": hashlib.sha256(listed.encode()).hexdigest()[:16],
            "pairs_drawn": dict(pairs.protocol),
            "px": bench.models.generator.resolution,
            "num_frames": self.num_frames,
            "frames_per_bin": self.frames_per_bin,
            "num_real": self._real(bench).num,
            "noise": "own of both latents, great circle; stored where one has none",
            "generator_weights": "tuned where the latents were, straight between them",
            "methods": {method.name: described(method.path) for method in self.methods},
            "path_metrics": {name: described(metric) for name, metric in self.metrics.items()},
            "ends": {str(space): str(folder) for space, folder in self.latents.items()} or describe(self.inverter),
            "distance": self.perceptual.name,
            "distance_provenance": dict(self.perceptual.provenance),
            "identity": None if self.identity is None else dict(self.identity.provenance),
            **self.extractor.protocol,
            "discriminator": None if critic is None else critic.fingerprint,
            "seed": bench.seed,
        }

    def _given(self, bench: EvalContext, pairs: PairList) -> end_points.Ends | None:
        """The end points where there are latents of them; a missing one is told before the folder is anybody's."""
        if not self.latents:
            return None
        return end_points.read_ends(self.latents, pairs.names, fingerprint=bench.models.fingerprint)

    def _inverted(self, bench: EvalContext, pairs: PairList, folder: Path) -> end_points.Ends:
        return end_points.invert_ends(
            end_points.subset(bench.held_out, pairs.names), self.sources, folder=folder / "inversions",
            models=bench.models, invert=self.inverter, perceptual=self.perceptual.to(bench.device),
            batch_size=self.inversion_batch_size, seed=bench.seed,
        )  # fmt: skip

    # Walking

    def _results(self, bench: EvalContext, pairs: PairList, folder: Path, ends: end_points.Ends, critic: Critic | None
                 ) -> dict[str, PairResult]:  # fmt: skip
        files = dict(zip(pairs.pairs, _file_names(pairs), strict=True))
        fingerprint = bench.models.fingerprint
        stored = {pair: folder / "pairs" / f"{name}.safetensors" for pair, name in files.items()}
        walker = self._walker(bench, ends, critic)
        # The share of all pairs, not of the missing ones: while one process lists those, another may store one of them.
        mine = [pair for pair in bench.share(pairs.pairs) if not stored[pair].is_file()]
        for pair in bench.progress(mine, f"Walks of {len(self.methods)} methods (pairs)", total=len(mine)):
            targets = to_float(end_points.subset(bench.held_out, [pair.a, pair.b]).batch(torch.arange(2))[0])
            picture = folder / "pictures" / f"{files[pair]}.png" if self.pictures == "all" else None
            result = walker.judge((pair.a, pair.b), targets.to(bench.device), picture)
            result.save(stored[pair], fingerprint=fingerprint)
        all_agree(True)  # until every process has stored its part
        return {pair.name: PairResult.load(path, fingerprint=fingerprint) for pair, path in stored.items()}

    def _walker(self, bench: EvalContext, ends: end_points.Ends, critic: Critic | None) -> Walker:
        generator = bench.models.generator
        perceptual = self.perceptual.to(bench.device)
        scene = PathContext(
            generator, perceptual, batch_size=bench.batch_size, num_frames=self.num_frames, progress=silent
        )
        judges = MetricTools(
            perceptual=perceptual,
            identity=None if self.identity is None else self.identity.to(bench.device),
            critic=critic,
            whitened=scene.whitened,
            batch_size=bench.batch_size,
        )
        return Walker(
            self.methods, scene=scene, judges=judges, metrics=self.metrics, ends=ends,
            fingerprint=bench.models.fingerprint, extractor=self.extractor.to(bench.device),
            frames_per_bin=self.frames_per_bin,
        )  # fmt: skip

    # Telling

    def _measurements(self, summary: Summary, settings: Mapping[str, Any]) -> Iterator[MetricResult]:
        shared = {key: value for key, value in settings.items() if key not in ("methods", "path_metrics")}
        paths = settings["methods"]
        protocols = {method: {**shared, "path": paths.get(method, "pixels")} for method in summary.means}
        for method in filter(summary.caveat, protocols):
            protocols[method]["caveat"] = summary.caveat(method)
        for method, means in summary.means.items():
            for name in (name for columns in shown(means).values() for name in columns):
                mean = means[name]
                protocol = {**protocols[method], "interval": _interval_kind(name)}
                yield MetricResult(f"interpolation/{method}/{name}", mean.value, protocol, mean.interval, meaning(name))

    def _track(self, bench: EvalContext, folder: Path, summary: Summary, pairs: PairList) -> None:
        names = list(dict.fromkeys(name for each in summary.means.values() for name in each))
        rows = [[method, *(each[name].value if name in each else None for name in names)]
                for method, each in summary.means.items()]  # fmt: skip
        bench.tracker.table("interpolation/methods", ["method", *names], rows)
        bench.tracker.table("interpolation/paired", PAIRED_CELLS, paired_cells(summary.paired))
        bench.tracker.image("interpolation/along", folder / "along.png", caption="means over pairs along the path")
        for name, path in report.strips(folder / "pictures", _file_names(pairs)):
            bench.tracker.image(f"interpolation/pair {name}", path, caption="a row per method, a to b")


def _check_size(discriminator: Any, images: Any) -> None:
    """UserError for a discriminator of images of another size."""
    own = discriminator.arguments.get("resolution"), discriminator.arguments.get("img_channels", 3)
    if own != (images.resolution, images.img_channels):
        raise UserError(
            f"The discriminator judges images of {own[0]} px with {own[1]} channels, these have {images.resolution} px "
            f"with {images.img_channels}: give one that fits, or discriminator=none."
        )


def _file_names(pairs: PairList) -> list[str]:
    """One per pair: its number, so that any image names do."""
    return [f"{index:04d}_{pair.stratum}" for index, pair in enumerate(pairs.pairs)]


def _interval_kind(name: str) -> str:
    if name == WORST:
        return "none: the value of one pair"
    if name == PASS:
        return "95 %, Wilson's score interval over pairs"
    if name.startswith("fd_"):
        return "95 %, jackknife over 10 groups of pairs, the real images as given"
    of_sets = name.startswith(("kd_", "precision_"))
    return "95 %, percentile bootstrap over pairs" + (", the real images as given" if of_sets else "")
