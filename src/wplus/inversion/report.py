"""Report on a folder of inversions: scores per image, convergence, images side by side, a video."""

import itertools
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.files import atomic_write
from wplus.core.images import (
    as_uint8,
    captioned_rows,
    grouped_rows,
    image_grid,
    save_png,
    to_float,
    to_uint8,
    watchable_scale,
)
from wplus.core.metric_result import MetricInfo
from wplus.core.tables import Table
from wplus.core.video import Mp4Writer
from wplus.errors import UserError
from wplus.inversion.folder import TARGET, InversionFolder
from wplus.inversion.init import prior as latent_prior
from wplus.inversion.result import Inversion, Score
from wplus.inversion.task import InversionTask, Progress
from wplus.latents.foreign import SUFFIXES, read_latents
from wplus.latents.latent import ws_of
from wplus.latents.space import space_named, whitened
from wplus.latents.spaces.s import style_stats
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import PSNR, psnr_of
from wplus.models.generator import StyledSynthesis
from wplus.pretrained.seen import SUFFIX, is_seen
from wplus.tracking import Tracker

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f6fb4", "#d1622b", "#3a8f4d", "#8a56a8", "#7a7a7a", "#b8a02a", "#2aa7b8", "#b82a6f", "#6f4a2a", "#222222")
PRIOR_DISTANCE = MetricInfo(
    meaning="Squared Mahalanobis distance of the latent from the mapping network's outputs, over its numbers (in s "
    "channel by channel, in f/w+ without the map): about 1 for samples, large where the generator has learned nothing.",
    direction="lower",
)
STYLE_DISTANCE = MetricInfo(
    meaning="Cosine distance of the latent's styles, in deviations from their mean, to those of the nearest of 2000 "
    "samples of the generator: 0 for one of these, about 1 for styles that have nothing in common with them.",
    direction="lower",
)
SECONDS = MetricInfo(
    meaning="Wall time of the batch divided by its images.", unit="s", direction="lower", per_item=False
)
LATENT_ERROR = MetricInfo(
    meaning="Distance of ws from the true ones, root mean square over layers, in deviations of w from its mean; two "
    "samples of the prior are 1.4 apart.",
    direction="lower",
)
_SCORE = "score "  # prefix of the names of scores in a latent's metadata
_TERMS = {"loss": "loss", "l2": "L2 (mean squared error)", "perceptual": "perceptual"}  # terms whose curves are drawn
_MAX_CURVES, _MAX_ROWS, _IMAGES_PER_ROW = 64, 16, 4


def scores(
    found: Inversion, task: InversionTask, terms: Mapping[str, ImageDistance], true_ws: Tensor | None = None
) -> dict[str, Score]:
    """Column -> numbers (N,): `image_scores` of the images as stored, rounded to 8 bits, and all other scores.

    Given true ws (N, num_ws, w_dim), adds `latent_error` for spaces that have ws; a w and the same w in every layer of
    w+ have equal errors.
    """
    columns = image_scores(to_float(to_uint8(found.images)), task.images, terms, task.masks)
    space, generator = task.latent_space, task.generator
    ws = task.to_ws(found.latents) if space.has_ws else None
    distance = space.prior_distance(found.latents, generator) if ws is None else whitened(generator).distance(ws)
    columns["prior_distance"] = Score(distance, PRIOR_DISTANCE)
    if isinstance(generator.synthesis, StyledSynthesis):
        columns["style_distance"] = Score(_style_distances(found.latents, task), STYLE_DISTANCE)
    columns |= {**found.scores, "seconds": Score(found.seconds, SECONDS)}
    if true_ws is not None and ws is not None:
        deviation = float(latent_prior(task.generator, space_named("w"), None, 1).std)
        errors = (ws - true_ws.to(ws)).flatten(1).norm(dim=1) / (math.sqrt(ws.shape[1]) * deviation)
        columns["latent_error"] = Score(errors, LATENT_ERROR)
    return columns


@torch.no_grad()
def _style_distances(latents: Tensor, task: InversionTask) -> Tensor:
    """Style distances (N,), one by one: the rounding of a matrix product depends on the number of its rows."""
    space, generator, stats = task.latent_space, task.generator, style_stats(task.generator)
    labels = [None] * len(latents) if task.labels is None else task.labels.split(1)
    rows = zip(latents.split(1), labels, strict=True)
    return torch.cat([stats.distance(space.styles(latent, generator, label)) for latent, label in rows])


def with_marks(
    columns: Mapping[str, Score], terms: Mapping[str, ImageDistance], saw: Collection[str]
) -> dict[str, Score]:
    """The same columns, with those of nets used to train the generator marked (`wplus.pretrained.seen`)."""
    seen = {f"{kind}{term.name}" for term in terms.values() if is_seen(term.provenance, saw)
            for kind in ("", "similarity_", "locality_")}  # fmt: skip
    return {f"{name}{SUFFIX}" if name in seen else name: score for name, score in columns.items()}


@torch.no_grad()
def image_scores(
    images: Tensor, targets: Tensor, terms: Mapping[str, ImageDistance], masks: Tensor | None = None
) -> dict[str, Score]:
    """Column -> numbers (N,) of images and targets (N, C, R, R) in [-1, 1], within masks (N, 1, R, R) if given.

    `l2` is accompanied by `psnr_db`.
    """
    if masks is not None:
        images, targets = images * (masks > 0), targets * (masks > 0)
    columns: dict[str, Score] = {}
    for name, term in terms.items():
        column, values, info = term.score(term(images, targets, masks))
        columns[column] = Score(values, info)
        if name == "l2":
            columns["psnr_db"] = Score(psnr_of(values), PSNR)
    return columns


def score_notes(columns: Mapping[str, Score], row: int) -> dict[str, str]:
    """The scores of one image as metadata of a latent, to be read by `read_table`."""
    return {
        f"{_SCORE}{name}": json.dumps({"value": score.values[row].item(), **asdict(score.info)})
        for name, score in columns.items()
    }


def read_table(notes: Mapping[str, Mapping[str, str]]) -> Table:
    """The table of scores, by image, stored in the metadata of latents."""
    info: dict[str, MetricInfo] = {}
    rows: dict[str, dict[str, float]] = {image: {} for image in notes}
    for image, note in notes.items():
        for name in (name for name in note if name.startswith(_SCORE)):
            column, content = name.removeprefix(_SCORE), json.loads(note[name])
            rows[image][column] = float(content.pop("value"))
            info[column] = MetricInfo(**content)
    return Table(rows, {name: note[TARGET] for name, note in notes.items() if TARGET in note}, info)


@torch.no_grad()
def read_ground_truth(folder: str | Path, names: Sequence[str], models: Models) -> dict[str, Tensor]:
    """True ws (num_ws, w_dim) from the latents in `folder` named like the images, in any space that maps to w+.

    UserError for a latent that is missing or belongs to another generator.
    """
    paths = {name: [Path(folder) / f"{name}{suffix}" for suffix in SUFFIXES] for name in names}
    files = {name: next((path for path in each if path.is_file()), None) for name, each in paths.items()}
    for name, file in files.items():
        if file is None:
            raise UserError(f"ground_truth must have a latent of every image, got none at '{paths[name][0]}'.")
    latents = {name: read_latents(file, models)[0][1] for name, file in files.items() if file is not None}
    return {name: ws_of(latent, models.generator).cpu() for name, latent in latents.items()}


def report(
    store: InversionFolder, names: Sequence[str], *, settings: Mapping[str, Any], tracker: Tracker,
    has_pictures: bool = True,
) -> Table:  # fmt: skip
    """Write table.csv, table.json, convergence.png and grid.png for the finished images, and track them.

    Without pictures only the tables are written: drawing takes longer than a pass of an encoder.
    """
    table = read_table({name: store.metadata(name) for name in names})
    if not names:
        return table
    protocol = {**settings, "num_images": len(names), "pixels": "8 bits, range [-1, 1]", "interval": "95 % bootstrap"}
    table.write(store.folder, protocol)
    if not has_pictures:
        return table
    histories = {settings["space"]: read_history(store, names)}
    tracker.image("invert/convergence", plot_convergence(histories, store.folder / "convergence.png"))
    tracker.image("invert/grid", draw_grid(store, names), caption="target, inversion")
    if store.video.is_file():
        tracker.video("invert/video", store.video)
    files = [[name, store.path("targets", name), store.path("images", name)] for name in names]
    cells = [[*paths, *row.values()] for paths, row in zip(files, table.rows.values(), strict=True)]
    tracker.table("invert/images", ["name", "target", "inversion", *table.columns], cells)
    tracker.summary(table.entries("invert/", protocol))
    name = f"latents-{store.settings_digest}"
    tracker.artifact(store.folder / "latents", name=name, kind="latents", metadata=settings)
    return table


def read_history(store: InversionFolder, names: Sequence[str]) -> dict[str, Tensor]:
    """Term -> (steps, N) of the first images; shorter histories repeat their last value."""
    histories = [store.history(name) for name in names[:_MAX_CURVES]]
    terms = [term for term in histories[0] if all(term in history for history in histories)]
    found = {}
    for term in terms:
        columns = [history[term] for history in histories]
        longest = max(map(len, columns))
        filled = [torch.cat([values, values[-1:].expand(longest - len(values))]) for values in columns]
        found[term] = torch.stack(filled, dim=1)
    return found


def compare_folders(folders: Mapping[str, Path], output_dir: Path) -> tuple[Path, Path]:
    """Draw convergence.png and grid.png for several folders, label -> folder, over the images they have in common.

    Histories may differ in length. The grid has one row per image: the target, then the inversion from each folder.
    """
    stores = {label: InversionFolder(folder) for label, folder in folders.items()}
    common = sorted(set.intersection(*[set(store.names()) for store in stores.values()]))
    histories = {label: read_history(store, common) for label, store in stores.items()}
    convergence = plot_convergence(histories, output_dir / "convergence.png")
    shown, first = common[:_MAX_ROWS], next(iter(stores.values()))
    rows = [
        [(first.image("targets", name), "target"), *((each.image("images", name), key) for key, each in stores.items())]
        for name in shown
    ]
    return convergence, save_png(output_dir / "grid.png", captioned_rows(rows, shown))


def draw_grid(store: InversionFolder, names: Sequence[str]) -> Path:
    """Draw grid.png: the first images, each target beside its inversion, four per row under their names."""
    kinds = {"targets": "target", "images": "inversion"}
    return save_png(
        store.folder / "grid.png", grouped_rows(names[:_MAX_ROWS], kinds, store.image, per_row=_IMAGES_PER_ROW)
    )


def plot_convergence(
    histories: Mapping[str, Mapping[str, Tensor]], path: Path, *, terms: Sequence[str] = tuple(_TERMS)
) -> Path:
    """Plot terms over steps: one panel per term that occurs, one colour per entry of `histories` (a space, a method).

    histories: label -> term -> (steps, N), with any number of steps each. Thin lines are images, thick ones their
    geometric mean, on a logarithmic axis; for a single evaluation (an encoder) the mean is a horizontal line.
    """
    from matplotlib.figure import Figure  # slow to import, needed here only
    from matplotlib.ticker import LogLocator

    terms = [term for term in terms if any(term in history for history in histories.values())]
    figure = Figure(figsize=(5.2 * len(terms), 3.8), layout="constrained")
    for axes, term in zip(np.ravel(figure.subplots(1, len(terms))), terms, strict=True):
        for colour, (label, history) in zip(itertools.cycle(COLOURS), histories.items(), strict=False):
            if term in history:
                _draw(axes, history[term].double().numpy(), colour, f"{label} (mean of {history[term].shape[1]})")
        axes.set(xlabel="evaluations of the generator", ylabel=_TERMS[term], yscale="log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(True, which="both", alpha=0.25)
        axes.legend()
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=130))


def _draw(axes: "Axes", values: np.ndarray, colour: str, label: str) -> None:
    """Draw values (steps, N); zeros, which a logarithmic axis cannot show, are replaced by the smallest float32."""
    positive = np.maximum(np.where(np.isfinite(values), values, np.nan), np.finfo(np.float32).tiny)
    mean = np.exp(np.log(positive).mean(axis=1))
    if len(values) == 1:
        axes.axhline(mean[0], color=colour, linewidth=2, linestyle="--", label=label)
        return
    steps = np.arange(1, len(values) + 1)
    axes.plot(steps, positive[:, :_MAX_CURVES], color=colour, linewidth=0.6, alpha=0.35)
    axes.plot(steps, mean, color=colour, linewidth=2, label=label)


class InversionVideo(Mp4Writer):
    """A callback that writes an mp4 frame by frame: one tile per image, target on the left, inversion on the right.

    Steps between frames cost nothing; each frame waits for the device. Restarts follow one another; the result is shown
    last, for one second.
    """

    MAX_IMAGES = 8  # of the batch
    MAX_FRAMES = 120  # evenly spaced over the steps
    _FPS, _SECONDS = 30.0, 4.0  # the duration to which any number of steps is stretched or compressed

    def __init__(self, path: str | Path, targets: Tensor) -> None:
        super().__init__(path, upscale=1)
        self._targets = as_uint8(targets[: self.MAX_IMAGES]).cpu()

    def __call__(self, progress: Progress) -> None:
        """Add a frame if this step is one of the evenly spaced ones."""
        num_frames = min(self.MAX_FRAMES, progress.num_steps)
        self.fps = min(self._FPS, max(1.0, num_frames / self._SECONDS))
        before, now = ((step * num_frames) // progress.num_steps for step in (progress.step - 1, progress.step))
        if now > before:
            self._add_pairs(progress.images)

    def finish(self, images: Tensor) -> None:
        """Add the result (N, C, R, R)."""
        for _ in range(round(self.fps)):
            self._add_pairs(images)

    def _add_pairs(self, images: Tensor) -> None:
        pairs = torch.cat([self._targets, as_uint8(images[: self.MAX_IMAGES]).cpu()], dim=3)
        scale = watchable_scale(pairs.shape[2])
        self.add(image_grid(pairs, num_cols=min(2, len(pairs)), scale=scale, gap=8)[None])
