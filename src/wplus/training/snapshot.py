"""The images, metrics and models that a run saves at every snapshot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from wplus.checkpoint import save
from wplus.core.images import image_grid, save_png, to_float, watchable_scale
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.random import step_seed
from wplus.core.stats import bootstrap_mean
from wplus.data import ImageSet
from wplus.errors import check_number
from wplus.latents.labels import labels_in_turn
from wplus.losses.image_pair import ImageDistance
from wplus.pretrained.seen import marked
from wplus.tracking import Tracker
from wplus.tracking.local import MESSAGE, read_records
from wplus.tracking.tracker import KIMG
from wplus.training.best import FILE as BEST
from wplus.training.best import VALIDATION, Best
from wplus.training.encoder import EncoderModule
from wplus.training.gan import GanModule
from wplus.training.module import TrainingModule
from wplus.training.posthoc_ema import FOLDER, file_name

GRID_COLUMNS = 8
BATCH = 16


@dataclass(frozen=True)
class Picture:
    """An image file in samples/: its name without suffix, its key in a tracker, and its caption."""

    name: str
    key: str
    caption: str
    image: Tensor
    """uint8 (C, H, W)."""


@dataclass(frozen=True)
class LogMessage:
    """A message about a snapshot, printed on the terminal and stored in the log."""

    text: str
    level: Literal["info", "warning"] = "info"


@dataclass(frozen=True)
class ProbeResult:
    """Results of looking at a training at one moment; any of them may be empty."""

    pictures: Sequence[Picture] = ()
    values: Mapping[str, tuple[float, MetricInfo]] = field(default_factory=dict)
    """Name -> value to log and its description."""
    histograms: Mapping[str, Any] = field(default_factory=dict)
    """Name -> values of any shape."""
    messages: Sequence[LogMessage] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    """Entries for `Tracker.summary`, valid until a later result replaces them."""

    @classmethod
    def measured(cls, results: Iterable[MetricResult], *, pictures: Sequence[Picture] = ()) -> "ProbeResult":
        """Report results as `val/<name>`: values in the log, with interval and protocol in the summary."""
        found = {f"{VALIDATION}{result.name}": result for result in results}
        values = {name: (each.value, each.info) for name, each in found.items()}
        return cls(pictures, values, summary={name: each.entry() for name, each in found.items()})


class View(Protocol):
    """Produces the results that a snapshot reports about a training."""

    def look(self, module: Any, folder: Path) -> ProbeResult:
        """Return the results for a `TrainingModule` in its current state; `folder` is the run's."""
        ...


class Exporter:
    """Writes the results of `view` at a snapshot, and the model.

    Files under `folder`: samples/NAME.png, model.safetensors (always the latest), the best model so far as judged by
    `best` (None: not kept), and in ema/ the averages for `wplus ema`. An existing image is not overwritten, unless its
    name contains the clock (`kimg-...`).
    """

    def __init__(
        self, folder: Path, tracker: Tracker, view: View, *, data: Mapping[str, Any], seed: int,
        best: Best | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.tracker, self.view, self.data, self.seed = folder, tracker, view, dict(data), seed
        self.best = best
        self._told: set[str] = set()

    def __call__(self, module: TrainingModule, *, is_due: bool = True, is_again: bool = False) -> None:
        """Write the current results and the model. A snapshot that is not due, as when a run is interrupted, cannot
        become the best one, so that interruptions do not change the choice. If the snapshot has been taken before, as
        for a finished run, only values missing from the record are logged.
        """  # fmt: skip
        kimg = module.images_seen / 1000
        rows = read_records(self.folder) if is_again else ()
        self._told = {key for row in rows if row.get(KIMG) == kimg for key in row}
        self._tell(self.view.look(module, self.folder), kimg)
        metadata = {"data": self.data, "seed": self.seed, "nimg": module.images_seen, **module.describe()}
        path = save(self.folder / "model.safetensors", **module.exported, metadata=metadata)
        for sigma, average in module.stored_averages.items() if module.images_seen else ():
            stored = metadata | {"weights": f"power average, sigma {sigma:g}"}
            file = self.folder / FOLDER / file_name(sigma, module.images_seen)
            save(file, generator=average, metadata=stored)
        self.tracker.artifact(
            path, name=self.folder.name, kind="model", aliases=["latest", f"kimg-{kimg:g}"], metadata=metadata
        )
        if self.best is not None and is_due:
            self._keep_best(self.best, module, kimg, metadata)

    def _keep_best(self, best: Best, module: TrainingModule, kimg: float, metadata: Mapping[str, Any]) -> None:
        if best.name in self._told:
            return
        if best.is_reached(kimg):
            metadata = {**metadata, "best": best.metadata}
            path = save(self.folder / BEST, **module.exported, metadata=metadata)
            self.tracker.artifact(
                path, name=f"{self.folder.name}-best", kind="model", aliases=["best"], metadata=metadata
            )
        if best.value is not None:
            self._tell_values({best.name: (best.value, best.result.info)}, kimg)
            self.tracker.summary({best.name: best.result.entry()})

    def _tell(self, seen: ProbeResult, kimg: float) -> None:
        for picture in seen.pictures:
            path = self.folder / "samples" / f"{picture.name}.png"
            if picture.name.startswith("kimg-") or not path.exists():
                save_png(path, picture.image)
                if picture.key in self._told:
                    continue
                self.tracker.image(picture.key, path, caption=picture.caption, kimg=kimg)
        self._tell_values(seen.values, kimg)
        for name, numbers in seen.histograms.items():
            if name not in self._told:
                self.tracker.histogram(name, numbers, kimg=kimg)
        for message in seen.messages if MESSAGE not in self._told else ():
            print(f"At {kimg:g} kimg: {message.text}", flush=True)  # a progress bar forwards it to the terminal
            self.tracker.log_message(message.text, level=message.level, kimg=kimg)
        if seen.summary:
            self.tracker.summary(seen.summary)

    def _tell_values(self, values: Mapping[str, tuple[float, MetricInfo]], kimg: float) -> None:
        if not values:
            return
        self.tracker.describe({name: info for name, (_, info) in values.items()})
        found = {name: value for name, (value, _) in values.items()}
        new = {name: value for name, value in found.items() if name not in self._told}
        if new:
            self.tracker.log(new, kimg=kimg)
        if self.best is not None:
            self.best.log(found, kimg=kimg)  # including values already in the record


class SampleView:
    """Grids of real images and of the averaged generator's images for fixed latents.

    Labels cycle through the classes column by column, or through labels from the data if these are not classes. The
    latents depend on the seed only, so grids of two runs can be compared.
    """

    def __init__(self, data: ImageSet, *, seed: int, num_samples: int) -> None:
        check_number("num_samples", num_samples, lowest=1, whole=True)
        self.data, self.seed, self.num_samples = data, seed, num_samples

    def look(self, module: GanModule, folder: Path) -> ProbeResult:
        """Return two grids and no values."""
        real = grid(self.data.batch(torch.arange(min(self.num_samples, len(self.data))))[0])
        made = Picture(at(module), "samples/fixed_latents", "generated from fixed latents", grid(self.sample(module)))
        return ProbeResult([Picture("real", "samples/real", "real images", real), made])

    @torch.no_grad()
    def sample(self, module: GanModule) -> Tensor:
        """Generate images (num_samples, C, H, W) with the moving average, truncation 1 and stored noise."""
        generator = module.ema
        source = torch.Generator().manual_seed(step_seed(self.seed, "samples"))
        z = torch.randn(self.num_samples, generator.z_dim, generator=source).to(module.device)
        c = labels_in_turn(generator, len(z), each_class=True)
        return torch.cat([
            generator(z[rows], None if c is None else c[rows]).cpu() for rows in torch.arange(len(z)).split(BATCH)
        ])  # fmt: skip


class InversionView:
    """Inversions of the first `num_samples` held-out images, the same at every snapshot of every run."""

    def __init__(self, held_out: ImageSet, *, num_samples: int) -> None:
        check_number("num_samples", num_samples, lowest=1, whole=True)
        count = min(num_samples, len(held_out))
        self.images = to_float(held_out.batch(torch.arange(count))[0])

    def look(self, module: EncoderModule, folder: Path) -> ProbeResult:
        """Return a grid that alternates rows of images and of their inversions, and the mean of each loss."""
        found = [module.reconstruct(part.to(module.device)) for part in self.images.split(BATCH)]
        pairs = zip(found, self.images.split(BATCH), strict=True)
        compared = [module.compare(images, part.to(module.device)) for images, part in pairs]
        distances = {module.losses[key]: torch.cat([part[key] for part in compared]) for key in compared[0]}
        results = [self._mean(loss, each, module) for loss, each in distances.items() if each.isfinite().all()]
        caption = "held-out images (odd rows) and their inversions (even rows)"
        image = grid(alternating(self.images, torch.cat(found).cpu()))
        return ProbeResult.measured(results, pictures=[Picture(at(module), "samples/inversions", caption, image)])

    def _mean(self, loss: ImageDistance, distances: Tensor, module: EncoderModule) -> MetricResult:
        about = f"Distance {loss.name} of held-out images from their inversions, mean over images; 0 for equal ones."
        protocol = {"split": "held_out", "num_images": len(distances), "kimg": module.images_seen / 1000,
                    "distance_provenance": dict(loss.provenance)}  # fmt: skip
        mean = bootstrap_mean(distances.cpu().numpy())
        if mean.interval is not None:
            protocol["interval"] = "95 %, percentile bootstrap over images"
        info = MetricInfo(meaning=about, direction="lower")
        # Use the distance's own name, since the network behind `perceptual` differs between runs.
        name = marked(loss.name, loss.provenance, module.generator.saw)
        return MetricResult.of(info, name, distances.mean().item(), protocol=protocol, interval=mean.interval)


def alternating(*sets: Tensor) -> Tensor:
    """Interleave image sets (N, C, H, W) so that their rows alternate in a grid; short rows are padded with white."""
    missing = -len(sets[0]) % GRID_COLUMNS
    white = sets[0].new_ones(missing, *sets[0].shape[1:])
    rows = [torch.cat([images, white]).unflatten(0, (-1, GRID_COLUMNS)) for images in sets]
    return torch.stack(rows, dim=1).flatten(0, 2)


def at(module: TrainingModule) -> str:
    """Return an image name that contains the clock and sorts by it."""
    return f"kimg-{module.images_seen / 1000:010.3f}"


def grid(images: Tensor) -> Tensor:
    """Arrange images (N, C, H, W) in rows of eight, enlarged to a viewable size."""
    return image_grid(images, num_cols=GRID_COLUMNS, scale=watchable_scale(images.shape[3], min_px=64))
