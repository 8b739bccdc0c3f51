"""The metric `interpolation`: compare all methods on a fixed list of pairs of real images, in one table."""

import copy
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wplus.checkpoint import load
from wplus.core.distributed import all_agree, is_first, share
from wplus.core.files import ensure_folder
from wplus.core.images import to_float
from wplus.core.metric_result import MetricResult
from wplus.core.progress import silent
from wplus.core.tables import PAIRED_CELLS, paired_cells
from wplus.data.image_set import ImageSet
from wplus.errors import UserError, check_choice, check_number
from wplus.evaluation.context import EvalContext, by_digest, check_images, generator_protocol
from wplus.evaluation.feature_pass import FeaturePass, FeatureRows
from wplus.evaluation.interpolation import pairs as pair_lists
from wplus.evaluation.interpolation import tables
from wplus.evaluation.interpolation.pairs import Endpoints, PairList, subset
from wplus.evaluation.interpolation.realism import NUM_NEIGHBOURS, RealFeatures
from wplus.evaluation.interpolation.summary import Summary, check_threshold, summarise
from wplus.evaluation.interpolation.trajectories import CROSS_DISSOLVE, PairResult, PairRunner, methods_of
from wplus.interpolation.path import LatentPath, PathContext, even_positions
from wplus.interpolation.path_metrics.discriminator_score import DiscriminatorScore, company_of
from wplus.interpolation.retime import Retiming, retimed
from wplus.interpolation.run import CROSS_FADE
from wplus.interpolation.trajectory import MetricTools, PathMetric
from wplus.inversion.folder import require_same_settings
from wplus.inversion.task import describe
from wplus.latents.space import Space, space_named, space_of
from wplus.losses.image_pair import ImageDistance
from wplus.models.generator import GeneratorNetwork
from wplus.pretrained.extractor import Extractor
from wplus.pretrained.seen import INSTRUMENTS

_NUM_REFERENCES = 24  # real images that fill the discriminator's groups of 4, hence a multiple of 3


@dataclass(kw_only=True)
class Interpolation:
    """Compare paths between held-out real images.

    Writes into interpolation/ in the command's folder: table.md, table.json, table.csv, rows.csv, along.png, a picture
    of every pair in pictures/, each pair's results in pairs/ (an interrupted command resumes with the missing ones),
    and the inversions in inversions/<space>.
    """

    paths: Mapping[str, LatentPath]
    path_metrics: Mapping[str, PathMetric]
    perceptual: ImageDistance  # of the LPIPS family; used for measuring, by the inverter, and by paths that search
    identity: ImageDistance | None  # descriptor used by `drift`; null leaves it out
    extractor: Extractor  # features for comparing sets of frames with real images
    inverter: Callable[..., Any]  # finds the endpoints, in each space
    retime: Mapping[str, Retiming | None] | None = None
    spaces: Sequence[Space] = ("z", "w", "w+")  # every path is run in each of these spaces that it supports
    methods: Sequence[str] | None = None  # instead, a list of SPACE_PATH such as [z_slerp, w_lerp+arc_length]
    latents: Mapping[Space, str] | str | None = (
        None  # instead, folders of inversions by space, such as {w: runs/invert-w}, or one folder, in its space
    )
    pairs: str = "draw"  # draw: num_pairs held-out pairs, with `latents` of those, to pairs.json | such a file
    num_pairs: int = 200  # a third each of near, mid and far pairs
    num_frames: int = 33  # per trajectory, both ends included
    frames_per_bin: int = 3  # frames in each of four parts of a trajectory, compared with real images as a set
    num_real: int | None = 5000  # real images for that comparison; null: all
    discriminator: str = "auto"  # auto: the checkpoint's own, if it has one | none | a checkpoint with one
    baseline: str | None = None  # method that the others are tested against; null: the first
    endpoint_threshold: float | None = 0.5  # largest endpoint error, relative to the images' distance; null: no limit
    pictures: str = "all"  # all: one per pair | none
    inversion_batch_size: int = 50

    def __post_init__(self) -> None:
        if not isinstance(self.latents, str | Mapping | None):
            raise UserError(f"latents must be a folder, or folders by space as in {{w: FOLDER}}, got {self.latents!r}.")
        self._latents = (
            {pair_lists.space_in(self.latents): self.latents} if isinstance(self.latents, str) else self.latents
        )
        spaces = list(self._latents or ()) if isinstance(self.latents, str) else self.spaces
        paths = retimed(self.paths, self.retime)
        self._methods = methods_of(paths, spaces, self.methods)
        if not self._methods:
            raise UserError(f"paths must include one that supports one of the spaces {', '.join(spaces)}, got "
                            f"{', '.join(paths) or 'none'}.")  # fmt: skip
        names = [method.name for method in self._methods]
        check_choice("baseline", self.baseline or names[0], [*names, CROSS_DISSOLVE])
        check_choice("pictures", self.pictures, ("all", "none"))
        check_number("num_frames", self.num_frames, lowest=17, whole=True)  # needed to fill the bins of t
        check_number("frames_per_bin", self.frames_per_bin, lowest=1, whole=True)
        check_number("inversion_batch_size", self.inversion_batch_size, lowest=1, whole=True)
        check_threshold(self.endpoint_threshold, self.path_metrics)
        self._spaces = list(dict.fromkeys(method.space for method in self._methods))
        for space in self._spaces if self._latents else ():
            pair_lists.source_space(space, list(self._latents or ()))

    def __call__(self, context: EvalContext) -> Iterator[MetricResult]:
        """Request the real images' features, and reject invalid input before any heavy computation. The iterator yields
        the numbers shown in tables, for every method; the folder gets all numbers."""
        return self._settled(context.models.generator)._asked(context)

    def _settled(self, generator: GeneratorNetwork) -> "Interpolation":
        """Resolve the spaces for one generator, such as f/w+ to its block; UserError if the generator lacks one."""
        found, own = copy.copy(self), {each: str(space_of(each, generator)) for each in self._spaces}
        found._methods = [replace(method, space=own[method.space]) for method in self._methods]
        found._spaces = list(dict.fromkeys(own.values()))
        if self._latents is not None:
            found._latents = {str(space_of(space, generator)): folder for space, folder in self._latents.items()}
        return found

    def _asked(self, context: EvalContext) -> Iterator[MetricResult]:
        """Implement `__call__` once the spaces are resolved."""
        held_out = context.held_out
        if context.real is None or held_out is None or context.output_dir is None:
            raise UserError("Interpolations are measured on real images, held-out ones too, and need an output folder.")
        check_images(context.models.generator, held_out)
        listed = None if self.pairs == "draw" else pair_lists.read_pairs(self.pairs, held_out)
        for space, given in (self._latents or {}).items():
            if not Path(given).is_dir():
                raise UserError(f"The folder '{given}' of latents in {space} does not exist: wplus invert writes it.")
        discriminator = self._discriminator(context, held_out)
        real = context.real_images(num=None if self.num_real is None else min(self.num_real, len(context.real)))
        check_number("num_real", real.num, lowest=NUM_NEIGHBOURS + 1, whole=True)
        real.ask(self.extractor, FeatureRows())
        return self._measured(context, held_out, listed, discriminator, real, context.output_dir / "interpolation")

    def _measured(
        self, context: EvalContext, held_out: ImageSet, listed: PairList | None,
        discriminator: DiscriminatorScore | None, real_images: FeaturePass, folder: Path,
    ) -> Iterator[MetricResult]:  # fmt: skip
        pairs = listed or self._drawn(context, held_out, ensure_folder(folder))
        settings = self._settings(context, pairs, discriminator) | {"num_real": real_images.num}
        # Report missing latents before settings are written to the folder.
        fingerprint, latents = context.models.fingerprint, self._latents
        given = pair_lists.read_endpoints(latents, pairs.names, fingerprint=fingerprint) if latents else None
        if is_first():
            require_same_settings(ensure_folder(folder / "pairs"), settings, noun="trajectories")
        all_agree(True)
        endpoints = given or pair_lists.invert_endpoints(
            subset(held_out, pairs.names), self._spaces, folder=folder / "inversions",
            models=context.models, invert=self.inverter, perceptual=self.perceptual.to(context.device),
            batch_size=self.inversion_batch_size, seed=context.seed,
        )  # fmt: skip
        runner = self._runner(context, endpoints, discriminator)
        results = self._results(context, held_out, pairs, folder, runner)
        rows = real_images.ask(self.extractor, FeatureRows()).value.rows  # already requested: one pass for all metrics
        real = RealFeatures(rows, device=context.device, progress=context.progress)
        summary = summarise(
            results, pairs, real=real, extractor=self.extractor.name, baseline=self.baseline or self._methods[0].name,
            t=even_positions(self.num_frames), endpoint_threshold=self.endpoint_threshold, seed=context.seed,
        )  # fmt: skip
        protocol = {**settings, "endpoint_threshold": self.endpoint_threshold}  # not used by stored trajectories
        if is_first():
            tables.write(folder, summary, protocol)
            _track(context, folder, summary, pairs)
        fading = [method.name for method in self._methods if space_named(method.space).cross_fades]
        yield from _measurements(summary, protocol, fading)

    def _drawn(self, context: EvalContext, held_out: ImageSet, folder: Path) -> PairList:
        among = pair_lists.with_latents(held_out, self._latents) if self._latents else held_out
        pairs = pair_lists.draw_pairs(
            among, num_pairs=self.num_pairs, distance=self.perceptual, seed=context.seed,
            batch_size=context.batch_size, device=context.device, progress=context.progress,
        )  # fmt: skip
        pairs = replace(pairs, data=held_out.fingerprint)  # so that the list can be reused
        if is_first():
            pairs.save(folder / "pairs.json")
        return pairs

    def _discriminator(self, context: EvalContext, held_out: ImageSet) -> DiscriminatorScore | None:
        own = self.discriminator == "auto"
        if self.discriminator == "none" or (own and "discriminator" not in context.models.networks):
            return None
        models = context.models if own else load(self.discriminator, needs=["discriminator"])
        network = models.discriminator
        check_images(network, held_out, maker="The discriminator takes")
        company = company_of(network)
        sets = max(min(_NUM_REFERENCES, len(held_out)) // max(company, 1), 1)
        chosen, _ = by_digest(held_out.digests, sets * company)
        references = to_float(held_out.batch(chosen)[0].to(context.device))
        return DiscriminatorScore(network.to(context.device), references)

    def _settings(
        self, context: EvalContext, pairs: PairList, discriminator: DiscriminatorScore | None
    ) -> dict[str, Any]:
        """All settings that determine the numbers, as plain values: the protocol, also checked before resuming."""
        listed = json.dumps([pair.name for pair in pairs.pairs])
        folders = {str(space): str(folder) for space, folder in (self._latents or {}).items()}
        return {
            **generator_protocol(context.models),
            "data": pairs.data,
            "num_pairs": len(pairs.pairs),
            "pairs": hashlib.sha256(listed.encode()).hexdigest()[:16],
            "pairs_drawn": dict(pairs.protocol),
            "px": context.models.generator.resolution,
            "num_frames": self.num_frames,
            "frames_per_bin": self.frames_per_bin,
            "noise": "own of both latents, great circle; stored where one has none",
            "generator_weights": "tuned where the latents were, straight between them",
            "methods": {method.name: describe(method.path) for method in self._methods},
            "path_metrics": {name: describe(metric) for name, metric in self.path_metrics.items()},
            "endpoints": folders or describe(self.inverter),
            "distance": self.perceptual.name,
            "distance_provenance": dict(self.perceptual.provenance),
            "identity": None if self.identity is None else dict(self.identity.provenance),
            **self.extractor.protocol,
            "discriminator": None if discriminator is None else discriminator.fingerprint,
            "seed": context.seed,
            **({"saw": list(context.models.saw)} if context.models.saw else {}),
        }

    def _runner(
        self, context: EvalContext, endpoints: Endpoints, discriminator: DiscriminatorScore | None
    ) -> PairRunner:
        device, batch_size = context.device, context.batch_size
        path_context = PathContext(
            context.models.generator, self.perceptual.to(device), batch_size=batch_size, num_frames=self.num_frames,
            progress=silent,
        )  # fmt: skip
        identity = None if self.identity is None else self.identity.to(device)
        tools = MetricTools(path_context.perceptual, identity, discriminator, path_context.whitened, batch_size)
        return PairRunner(
            methods=self._methods, context=path_context, tools=tools, metrics=self.path_metrics, endpoints=endpoints,
            fingerprint=context.models.fingerprint, extractor=self.extractor.to(device),
            frames_per_bin=self.frames_per_bin,
        )  # fmt: skip

    def _results(
        self, context: EvalContext, held_out: ImageSet, pairs: PairList, folder: Path, runner: PairRunner
    ) -> dict[str, PairResult]:
        files, fingerprint = dict(zip(pairs.pairs, _file_names(pairs), strict=True)), context.models.fingerprint
        stored = {pair: folder / "pairs" / f"{name}.safetensors" for pair, name in files.items()}
        # Share all pairs, not the missing ones: while one process lists those, another may already store one.
        mine = [pair for pair in share(pairs.pairs) if not stored[pair].is_file()]
        for pair in context.progress(mine, f"Trajectories of {len(self._methods)} methods (pairs)", total=len(mine)):
            targets = to_float(subset(held_out, [pair.a, pair.b]).batch(torch.arange(2))[0])
            picture = folder / "pictures" / f"{files[pair]}.png" if self.pictures == "all" else None
            result = runner.run((pair.a, pair.b), targets.to(context.device), picture)
            result.save(stored[pair], fingerprint=fingerprint)
        all_agree(True)  # wait until every process has stored its part
        return {pair.name: PairResult.load(path, fingerprint=fingerprint) for pair, path in stored.items()}


def _measurements(summary: Summary, settings: Mapping[str, Any], fading: Collection[str]) -> Iterator[MetricResult]:
    shared = {key: value for key, value in settings.items() if key not in ("methods", "path_metrics")}
    for method, means in summary.means.items():
        said = [each for each in (summary.caveat(method), CROSS_FADE if method in fading else "") if each]
        caveat = {"caveat": "; ".join(said)} if said else {}
        protocol = {**shared, "path": settings["methods"].get(method, "pixels"), **caveat}
        for number in [*summary.shown("short"), *summary.shown("table")]:
            if mean := means.get(number.name):
                how = protocol if number.by_net else {k: v for k, v in protocol.items() if k not in INSTRUMENTS}
                name, how = f"interpolation/{method}/{number.name}", how | {"interval": number.interval}
                yield MetricResult.of(number, name, mean.value, protocol=how, interval=mean.interval)


def _track(context: EvalContext, folder: Path, summary: Summary, pairs: PairList) -> None:
    context.tracker.table("evaluate/interpolation_paired", PAIRED_CELLS, paired_cells(summary.paired))
    along = folder / "along.png"
    context.tracker.image("evaluate/interpolation_along", along, caption="means over pairs along the path")
    names = _file_names(pairs)
    for name in names[:: max(1, len(names) // 3)][:3]:
        if (path := folder / "pictures" / f"{name}.png").is_file():
            context.tracker.image("evaluate/interpolation_pair", path, caption=f"{name}: a row per method, a to b")


def _file_names(pairs: PairList) -> list[str]:
    """File names, one per pair, based on its index, so that image names can be arbitrary."""
    return [f"{index:04d}_{pair.stratum}" for index, pair in enumerate(pairs.pairs)]
