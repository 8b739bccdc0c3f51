"""The whole of interpolation: latents to keyframes, to a curve, to frames, to a video and what is measured of it."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.files import ensure_folder
from wplus.core.progress import Bar
from wplus.core.video import check_writing, video_writers
from wplus.errors import UserError
from wplus.interpolation.keyframes import Keyframes, keyframes_of
from wplus.interpolation.path import Curve, LatentPath, PathContext, check_path, is_for, timeline
from wplus.interpolation.path_metrics.shape import evenness
from wplus.interpolation.render import NeighbourDistances, check_batch_size, render
from wplus.interpolation.trajectory import MetricTools, PathMetric, measure
from wplus.interpolation.transitions import trajectories_along
from wplus.interpolation.video import Filmstrip, Video, compared, draw, report, save_rows
from wplus.latents.latent import SPACES, Latent, check_space
from wplus.latents.weight_delta import WeightDelta
from wplus.losses.image_pair import ImageDistance
from wplus.tracking import Tracker


def interpolate(
    models: Models,
    latents: Sequence[Latent],
    *,
    paths: Mapping[str, LatentPath],
    perceptual: ImageDistance,
    output_dir: str | Path,
    names: Sequence[str] | None = None,
    tracker: Tracker | None = None,
    space: str = "auto",
    noise: str = "auto",
    deltas: Sequence[WeightDelta | None] | None = None,
    loop: bool = False,
    num_frames: int = 60,
    alpha: str = "b_at_one",
    batch_size: int = 16,
    num_columns: int = 9,
    path_metrics: Mapping[str, PathMetric] | None = None,
    identity: ImageDistance | None = None,
    **writing: Any,
) -> dict[str, Video]:
    """Go through `latents` once by each path; returns the videos by the paths' names.

    Writes filmstrip.png, distances.png, video.mp4, video.gif (and frames/) into `output_dir`, or, where there are
    several paths, into a folder for each, and comparison.png, whose rows are paths. Logs them to `tracker`, by default
    to none.

    Args:
        paths: by the names that they are shown under.
        perceptual: measures the steps.
        space, noise, deltas: as in `keyframes_of`.
        loop: return to the first latent: the video ends a frame before it, to be played over and over.
        alpha: as in `timeline`.
        num_columns: frames of each transition in the filmstrip.
        path_metrics: what else is said of each transition (`wplus.interpolation.trajectory`).
        identity: descriptor of who is in the images, for the path metric `drift`.
        writing: options of `video_writers`: fps, upscale, frames.
    """
    check_options(paths, space=space, num_frames=num_frames, alpha=alpha, num_columns=num_columns,
                  batch_size=batch_size, **writing)  # fmt: skip
    generator, names = models.generator, names or [f"point {index}" for index in range(len(latents))]
    preferred = [each for each in SPACES if all(is_for(path, each) for path in paths.values())]
    keyframes = keyframes_of(latents, generator, names=names, space=space, noise=noise, deltas=deltas, closed=loop,
                             preferred=preferred).to(generator.mapping.w_avg.device)  # fmt: skip
    _check_paths(paths, keyframes.space)
    t, device = timeline(len(keyframes), num_frames, alpha=alpha), keyframes.codes.device
    context = PathContext(generator, perceptual.to(device), batch_size=batch_size, num_frames=num_frames)
    identity = None if identity is None or not path_metrics else identity.to(device)
    folder, tracker, videos = ensure_folder(output_dir), tracker or Tracker(), {}
    for name, path in paths.items():
        curve = path(keyframes, context)
        own_folder = ensure_folder(folder / name) if len(paths) > 1 else folder
        options = {"name": name, "num_columns": num_columns, **writing}
        files, filmstrip, distances = _film(context, keyframes, curve, t, own_folder, **options)
        scores = [dict(evenness(*each)) for each in zip(distances.steps, distances.chords.tolist(), strict=True)]
        if path_metrics:
            tools = MetricTools(context.perceptual, identity, whitened=context.whitened, batch_size=batch_size)
            each_way = trajectories_along(keyframes, context, path=path, curve=curve)
            further = [measure(trajectory, path_metrics, tools) for trajectory in each_way]
            ordered = further if alpha == "b_at_one" else further[::-1]
            scores = [one | other for one, other in zip(scores, ordered, strict=True)]
        protocol = _protocol(models, keyframes, context, path=name, alpha=alpha, identity=identity)
        video = Video(files, _titles(keyframes, protocol), filmstrip, distances.steps, tuple(scores), protocol)
        videos[name] = video
        draw(video)
    report(videos, tracker)
    if len(videos) > 1:
        picture = save_rows(folder / "comparison.png", *compared(videos))
        tracker.image("interpolate/comparison", picture, caption=f"the same way by {', '.join(videos)}")
    return videos


def check_options(
    paths: Mapping[str, LatentPath],
    *,
    space: str = "auto",
    num_frames: int = 60,
    alpha: str = "b_at_one",
    num_columns: int = 9,
    batch_size: int = 16,
    **writing: Any,
) -> None:
    """UserError for options of `interpolate` that no latents make possible: to be asked before images are inverted."""
    if not paths:
        raise UserError("path must name at least one path, as in path=lerp or path=[lerp,slerp], got none.")
    if space != "auto":
        check_space(space)
        _check_paths(paths, space)
    Filmstrip(timeline(2, num_frames, alpha=alpha), num_transitions=1, num_columns=num_columns)
    check_batch_size(batch_size)
    check_writing(**writing)


def space_for_images(paths: Mapping[str, LatentPath], space: str) -> str:
    """Where images are inverted to: `space`, or with auto w, and w+ where a path is not for w."""
    if space != "auto":
        return space
    return "w" if all(is_for(path, "w") for path in paths.values()) else "w+"


def _check_paths(paths: Mapping[str, LatentPath], space: str) -> None:
    for path in paths.values():
        check_path(path, space)


def _film(
    context: PathContext,
    keyframes: Keyframes,
    curve: Curve,
    t: Tensor,
    folder: Path,
    *,
    name: str,
    num_columns: int,
    **writing: Any,
) -> tuple[dict[str, Path], Filmstrip, NeighbourDistances]:
    """Render one curve, write and measure it. Of a loop the last frame is measured, and not shown a second time."""
    num_shown, done = len(t) - keyframes.closed, 0
    distances = NeighbourDistances(context.perceptual, steps_per_transition=context.num_frames - 1)
    filmstrip = Filmstrip(t, num_transitions=len(keyframes) - 1, num_columns=num_columns)
    with video_writers(folder, **writing) as writers, Bar(f"Filming {name}", len(t)) as progress:
        for images in render(context.generator, keyframes, curve, t, context.batch_size):
            distances.add(images)
            filmstrip.add(images)
            for writer in writers.values() if done < num_shown else ():
                writer.add(images[: num_shown - done])
            done += len(images)
            progress.update(len(images))
    files = {kind: writer.path for kind, writer in writers.items()}
    files |= {"filmstrip": folder / "filmstrip.png", "distances": folder / "distances.png"}
    return files, filmstrip, distances


def _protocol(
    models: Models, keyframes: Keyframes, context: PathContext, *, path: str, alpha: str, identity: ImageDistance | None
) -> dict[str, Any]:
    return {
        "distance": context.perceptual.name,
        "distance_provenance": dict(context.perceptual.provenance),
        "generator": models.fingerprint,
        "space": keyframes.space,
        "path": path,
        "noise": "stored, the same in every frame" if keyframes.noise is None else "own of the latents, great circle",
        "num_frames": context.num_frames,
        "alpha": alpha,
        "keyframes": list(keyframes.names),
        "loop": keyframes.closed,
        "generator_weights": "its own"
        if keyframes.deltas is None
        else "tuned for the keyframes, straight between them",
        **({} if identity is None else {"identity": dict(identity.provenance)}),
    }


def _titles(keyframes: Keyframes, protocol: Mapping[str, Any]) -> tuple[str, ...]:
    pairs = list(itertools.pairwise(keyframes.names))
    if protocol["alpha"] == "a_at_one":
        pairs = [(b, a) for a, b in reversed(pairs)]
    return tuple(f"{first} to {second}: {protocol['path']} in {keyframes.space}" for first, second in pairs)
