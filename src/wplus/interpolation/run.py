"""The full interpolation pipeline: from latents to keyframes, to a curve, to frames, to a video and its metrics."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wplus.checkpoint import Models
from wplus.core.files import ensure_folder
from wplus.core.images import captioned_rows, save_png
from wplus.core.progress import Bar
from wplus.core.video import check_writing, upscale_factor, video_writers
from wplus.errors import UserError, check_number
from wplus.interpolation.keyframes import Keyframes, keyframes_of
from wplus.interpolation.path import Curve, LatentPath, PathContext, check_path, is_for, timeline
from wplus.interpolation.path_metrics.shape import evenness
from wplus.interpolation.render import NeighbourDistances, render
from wplus.interpolation.trajectory import MetricTools, PathMetric, measure
from wplus.interpolation.transitions import trajectories_along
from wplus.interpolation.video import Filmstrip, Video, compared, draw, report
from wplus.latents.latent import Latent
from wplus.latents.space import space_named, spaces
from wplus.latents.weight_delta import WeightDelta
from wplus.losses.image_pair import ImageDistance
from wplus.tracking import Tracker

CROSS_FADE = "a cross-fade of feature maps: between its ends both images are there at once"


@dataclass(kw_only=True)
class Filming:
    """How paths between latents are filmed and measured; UserError for options that are invalid for any latents."""

    paths: Mapping[str, LatentPath]  # by display name
    perceptual: ImageDistance  # measures the steps
    path_metrics: Mapping[str, PathMetric] = field(default_factory=dict)  # further metrics for each transition
    identity: ImageDistance | None = None  # identity descriptor for the path metric `drift`
    space: str = "auto"
    noise: str = "auto"
    loop: bool = False  # return to the first latent; the video ends one frame before it, so that it loops seamlessly
    num_frames: int = 60
    alpha: str = "b_at_one"
    batch_size: int = 16
    num_columns: int = 9  # frames of each transition in the filmstrip
    writing: Mapping[str, Any] = field(default_factory=dict)  # options of `video_writers`: fps, upscale, frames

    def __post_init__(self) -> None:
        if not self.paths:
            raise UserError("path must name at least one path, as in path=lerp or path=[lerp,slerp], got none.")
        if self.space != "auto":
            space_named(self.space)
            self._check_paths(self.space)
        timeline(2, self.num_frames, alpha=self.alpha)
        check_number("num_columns", self.num_columns, lowest=2, whole=True)
        check_number("batch_size", self.batch_size, lowest=1, whole=True)
        check_writing(**self.writing)
        self._forward = self.alpha == "b_at_one"

    @property
    def space_for_images(self) -> str:
        """Space into which images are inverted: `space`, or with auto w, or w+ if a path does not support w."""
        return ("w" if self._suits("w") else "w+") if self.space == "auto" else self.space

    def run(
        self, models: Models, latents: Sequence[Latent], *, names: Sequence[str], output_dir: str | Path,
        tracker: Tracker, deltas: Sequence[WeightDelta | None] | None = None,
    ) -> dict[str, Video]:  # fmt: skip
        """Interpolate through `latents` along each path; return the videos by path name.

        Writes filmstrip.png, distances.png, video.mp4, video.gif (and frames/) into `output_dir`, or with several paths
        into a folder for each, plus comparison.png with a row per path. Logs them to `tracker`.
        """
        device = models.generator.mapping.w_avg.device
        keyframes = keyframes_of(
            latents, models.generator, names=names, space=self.space, noise=self.noise, deltas=deltas,
            closed=self.loop, preferred=[space for space in spaces() if self._suits(space)],
        ).to(device)  # fmt: skip
        self._check_paths(keyframes.space)
        tracker.decided(self._decided(keyframes, models.generator.resolution))
        perceptual, several = self.perceptual.to(device), len(self.paths) > 1
        context = PathContext(models.generator, perceptual, batch_size=self.batch_size, num_frames=self.num_frames)
        folder, videos = ensure_folder(output_dir), {}
        for name in self.paths:
            own_folder = ensure_folder(folder / name) if several else folder
            videos[name] = self._video(models, keyframes, context, name, own_folder)
            draw(videos[name])
        report(videos, tracker)
        if several:
            picture = save_png(folder / "comparison.png", captioned_rows(*compared(videos)))
            tracker.image("interpolate/comparison", picture, caption=f"the same keyframes by {', '.join(videos)}")
        return videos

    def _decided(self, keyframes: Keyframes, resolution: int) -> dict[str, Any]:
        """Values chosen for options that are `auto`."""
        upscale = upscale_factor(self.writing.get("upscale", "auto"), resolution)
        return {"space": keyframes.space, "noise": "const" if keyframes.noise is None else "own", "upscale": upscale}

    def _suits(self, space: str) -> bool:
        return all(is_for(path, space) for path in self.paths.values())

    def _check_paths(self, space: str) -> None:
        for path in self.paths.values():
            check_path(path, space)

    def _video(self, models: Models, keyframes: Keyframes, context: PathContext, name: str, folder: Path) -> Video:
        path, names = self.paths[name], keyframes.names if self._forward else keyframes.names[::-1]
        curve = path(keyframes, context)
        files, filmstrip, distances = self._film(keyframes, context, curve, name, folder)
        scores = [dict(evenness(*each)) for each in zip(distances.steps, distances.chords.tolist(), strict=True)]
        if self.path_metrics:
            identity = None if self.identity is None else self.identity.to(keyframes.codes.device)
            tools = MetricTools(context.perceptual, identity, whitened=context.whitened, batch_size=self.batch_size)
            ways = trajectories_along(keyframes, context, path=path, curve=curve)
            further = [measure(way, self.path_metrics, tools) for way in ways]
            ordered = further if self._forward else further[::-1]
            scores = [one | other for one, other in zip(scores, ordered, strict=True)]
        fades = f" ({CROSS_FADE})" if space_named(keyframes.space).cross_fades else ""
        titles = tuple(f"{a} to {b}: {name} in {keyframes.space}{fades}" for a, b in itertools.pairwise(names))
        protocol = self._protocol(models, keyframes, name)
        return Video(files, titles, filmstrip, distances.steps, tuple(scores), protocol)

    def _film(
        self, keyframes: Keyframes, context: PathContext, curve: Curve, name: str, folder: Path
    ) -> tuple[dict[str, Path], Filmstrip, NeighbourDistances]:
        """Render, write and measure one curve. The last frame of a loop is measured but not shown a second time."""
        t = timeline(len(keyframes), self.num_frames, alpha=self.alpha)
        num_shown, done = len(t) - keyframes.closed, 0
        distances = NeighbourDistances(context.perceptual, steps_per_transition=self.num_frames - 1)
        filmstrip = Filmstrip(len(keyframes) - 1, self.num_frames - 1, num_columns=self.num_columns,
                              parameter="t" if self._forward else "alpha")  # fmt: skip
        with video_writers(folder, **self.writing) as writers, Bar(f"Filming {name}", len(t)) as progress:
            for images in render(context.generator, keyframes, curve, t, self.batch_size):
                distances.add(images)
                filmstrip.add(images)
                for writer in writers.values() if done < num_shown else ():
                    writer.add(images[: num_shown - done])
                done += len(images)
                progress.update(len(images))
        files = {kind: writer.path for kind, writer in writers.items()}
        return files | {name: folder / f"{name}.png" for name in ("filmstrip", "distances")}, filmstrip, distances

    def _protocol(self, models: Models, keyframes: Keyframes, path: str) -> dict[str, Any]:
        own, tuned = "own of the latents, great circle", "tuned for the keyframes, straight between them"
        judges = {"identity": dict(self.identity.provenance)} if self.identity and self.path_metrics else {}
        return {
            "distance": self.perceptual.name,
            "distance_provenance": dict(self.perceptual.provenance),
            "generator": models.fingerprint,
            "space": keyframes.space,
            "path": path,
            **({"caveat": CROSS_FADE} if space_named(keyframes.space).cross_fades else {}),
            "noise": "stored, the same in every frame" if keyframes.noise is None else own,
            "num_frames": self.num_frames,
            "alpha": self.alpha,
            "keyframes": list(keyframes.names),
            "loop": keyframes.closed,
            "generator_weights": "its own" if keyframes.deltas is None else tuned,
            **judges,
            **({"saw": list(models.saw)} if models.saw else {}),
        }
