"""The whole of interpolation: latents in; strip, films, frames, plot and numbers out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from wplus.files import ensure_folder
from wplus.interpolation.evenness import NeighbourDistances, evenness, mean_evenness, plot_distances
from wplus.interpolation.keypoints import KeyPoints, key_points
from wplus.interpolation.paths import Path as LatentPath
from wplus.interpolation.paths import timeline
from wplus.interpolation.render import render
from wplus.interpolation.strip import Strip
from wplus.latents import Latent
from wplus.progress import bar
from wplus.tracking import Tracker
from wplus.video import film_writers


@dataclass(frozen=True)
class Film:
    """What an interpolation gave."""

    files: dict[str, Path]
    """strip, distances, mp4, gif, and frames (a folder) where they were kept."""
    titles: tuple[str, ...]
    """One for each transition, in the order of the film."""
    steps: Tensor
    """Perceptual distance of every frame to the next, (transitions, frames - 1)."""
    chords: Tensor
    """Perceptual distance of every key point to the next, (transitions,)."""
    protocol: dict[str, Any]
    """How `values` were measured."""

    @property
    def values(self) -> dict[str, float]:
        """Evenness, length and tortuosity, averaged over transitions; see `wplus.interpolation.evenness`."""
        return mean_evenness(self.steps, self.chords)


def interpolate(
    models: Any,
    latents: Sequence[Latent],
    *,
    path: LatentPath,
    perceptual: Any,
    output_dir: str | Path,
    names: Sequence[str] | None = None,
    tracker: Tracker | None = None,
    space: str = "auto",
    noise: str = "auto",
    num_frames: int = 60,
    alpha: str = "b_at_one",
    batch_size: int = 16,
    num_columns: int = 9,
    **writing: Any,
) -> Film:
    """Film the way through two or more latents of `models.generator`, in the given order.

    Frames are made, measured and written batch by batch: memory does not grow with `num_frames`, the frames of one
    transition with both its ends. Writes strip.png, distances.png, film.mp4, film.gif (and frames/) into `output_dir`
    and logs them to `tracker`, by default to none.

    `path` joins two codes (wplus.interpolation.paths); `perceptual` measures the steps (wplus.losses.perceptual);
    `space` and `noise` are those of `key_points`, `alpha` that of `timeline`; the strip shows `num_columns` frames of
    each transition; `writing` are the options of `film_writers`: fps, upscale, frames.
    """
    names = tuple(names or (f"point {index}" for index in range(len(latents))))
    t = timeline(len(latents), num_frames, alpha=alpha)
    device = models.generator.mapping.w_avg.device
    points = key_points(latents, models.generator, names=names, space=space, noise=noise).to(device)
    distances = NeighbourDistances(perceptual.to(device), steps_per_transition=num_frames - 1)
    strip = Strip(t, num_transitions=len(points) - 1, num_columns=num_columns)
    folder = ensure_folder(output_dir)
    with film_writers(folder, **writing) as writers, bar("Interpolating", len(t)) as progress:
        for images in render(models.generator, points, path=path, t=t, batch_size=batch_size):
            for taker in (distances, strip, *writers.values()):
                taker.add(images)
            progress.update(len(images))
    protocol = _protocol(models, points, path=path, perceptual=perceptual, num_frames=num_frames, alpha=alpha)
    files = {name: writer.path for name, writer in writers.items()}
    files |= {"strip": folder / "strip.png", "distances": folder / "distances.png"}
    film = Film(files, _titles(points, protocol), distances.steps, distances.chords, protocol)
    _draw(film, strip)
    report(film, tracker or Tracker())
    return film


def report(film: Film, tracker: Tracker) -> None:
    """Log a film: its pictures, its numbers, and a row for each transition."""
    tracker.video("interpolation/film", film.files["mp4"])
    tracker.image("interpolation/strip", film.files["strip"], caption="; ".join(film.titles))
    tracker.image("interpolation/distances", film.files["distances"], caption="perceptual distance between frames")
    rows = [{"transition": title, **evenness(steps, float(chord))} for title, steps, chord in _transitions(film)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    tracker.table("interpolation/transitions", columns, [[row.get(name) for name in columns] for row in rows])
    numbers = {name: {"value": value, "protocol": film.protocol} for name, value in film.values.items()}
    tracker.summary({f"interpolation/{name}": entry for name, entry in numbers.items()})


def _transitions(film: Film) -> Sequence[tuple[str, Tensor, Tensor]]:
    return list(zip(film.titles, film.steps, film.chords, strict=True))


def _protocol(models: Any, points: KeyPoints, *, path: LatentPath, perceptual: Any, **options: Any) -> dict[str, Any]:
    return {
        "distance": perceptual.name,
        "distance_provenance": dict(perceptual.provenance),
        "generator": models.fingerprint,
        "space": points.space,
        "path": _path_name(path),
        "noise": "stored, the same in every frame" if points.noise is None else "own of the latents, great circle",
        **options,
        "key_points": list(points.names),
    }


def _path_name(path: Any) -> str:
    """Partials (what a config builds) are named after the function inside."""
    while hasattr(path, "func"):
        path = path.func
    return path.__name__


def _titles(points: KeyPoints, protocol: dict[str, Any]) -> tuple[str, ...]:
    pairs = list(itertools.pairwise(points.names))
    if protocol["alpha"] == "a_at_one":
        pairs = [(b, a) for a, b in reversed(pairs)]
    return tuple(f"{first} to {second}: {protocol['path']} in {points.space}" for first, second in pairs)


def _draw(film: Film, strip: Strip) -> None:
    """Write the two pictures; what the transitions are called stands in both."""
    parameter = "t" if film.protocol["alpha"] == "b_at_one" else "alpha"
    strip.save(film.files["strip"], titles=film.titles, parameter=parameter)
    num, how = len(film.titles), f"{film.protocol['path']} in {film.protocol['space']}"
    heading = film.titles[0] if num == 1 else f"{num} transitions, {how}; means over transitions:"
    title = f"{heading}\n{_in_words(film.values)}"
    plot_distances(film.files["distances"], film.steps, title=title, distance_name=film.protocol["distance"])


def _in_words(values: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in values.items())
