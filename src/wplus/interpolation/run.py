"""The whole of interpolation: latents in; strips, films, frames, plots and numbers out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from wplus.core.files import ensure_folder
from wplus.core.progress import Bar
from wplus.core.video import check_writing, video_writers
from wplus.errors import UserError
from wplus.interpolation.curve import Curve, PathContext, check_path, has_sense, timeline
from wplus.interpolation.curve import Path as LatentPath
from wplus.interpolation.evenness import NeighbourDistances, evenness, mean_evenness, plot_distances
from wplus.interpolation.filmstrip import Strip, save_rows
from wplus.interpolation.keyframes import Keyframes, key_points
from wplus.interpolation.render import check_batch_size, render
from wplus.interpolation.transitions import measure_walks, walks_along
from wplus.interpolation.walk import Metric, MetricTools
from wplus.latents.latent import SPACES, Latent, check_space
from wplus.losses.image_pair import ImageDistance
from wplus.tracking import Tracker


@dataclass(frozen=True)
class Film:
    """What one path gave."""

    files: dict[str, Path]
    """strip, distances, mp4, gif, and frames (a folder) where they were kept."""
    titles: tuple[str, ...]
    """One for each transition, in the order of the film."""
    strip: Strip
    """A row of frames for each transition."""
    steps: Tensor
    """Perceptual distance of every frame to the next, (transitions, frames - 1)."""
    chords: Tensor
    """Perceptual distance of every key point to the next, (transitions,)."""
    protocol: dict[str, Any]
    """How `values` were measured."""
    judged: tuple[Mapping[str, float], ...] = ()
    """What further metrics say of each transition (`wplus.interpolation.walk`), in the order of the film."""

    @property
    def evenness(self) -> dict[str, float]:
        """Evenness, length and tortuosity, averaged over transitions; see `wplus.interpolation.evenness`."""
        return mean_evenness(self.steps, self.chords)

    @property
    def values(self) -> dict[str, float]:
        """`evenness`, and the means over transitions of what else was measured of all of them."""
        first, num = next(iter(self.judged), {}), len(self.judged)
        names = [name for name in first if all(name in row for row in self.judged)]
        return self.evenness | {name: sum(row[name] for row in self.judged) / num for name in names}

    @property
    def parameter(self) -> str:
        """What counts the way from one key point to the next: t, or alpha where that is the convention."""
        return "t" if self.protocol["alpha"] == "b_at_one" else "alpha"


def interpolate(
    models: Any,
    latents: Sequence[Latent],
    *,
    paths: Mapping[str, LatentPath],
    perceptual: Any,
    output_dir: str | Path,
    names: Sequence[str] | None = None,
    tracker: Tracker | None = None,
    space: str = "auto",
    noise: str = "auto",
    deltas: Sequence[Any] | None = None,
    loop: bool = False,
    num_frames: int = 60,
    alpha: str = "b_at_one",
    batch_size: int = 16,
    num_columns: int = 9,
    path_metrics: Mapping[str, Metric] | None = None,
    identity: ImageDistance | None = None,
    **writing: Any,
) -> dict[str, Film]:
    """Film the chain of `latents` once by each path; returns the films by the paths' names.

    Writes strip.png, distances.png, video.mp4, video.gif (and frames/) into `output_dir`, or, where there are several
    paths, into a folder for each, and comparison.png, whose rows are paths. Logs them to `tracker`, by default to none.

    `paths` join the latents (wplus.interpolation.curve), by the names that they are shown under; `perceptual` measures
    the steps (wplus.losses.perceptual); `space`, `noise` and `deltas` are those of `key_points`, `alpha` is that of
    `timeline`;
    `loop` returns to the first latent: the film ends a frame before it, to be played over and over; the strip shows
    `num_columns` frames of each transition; `path_metrics` say more of each transition, by `identity` who is in its
    pictures (wplus.interpolation.walk); `writing` are the options of `video_writers`: fps, upscale, frames.
    """
    check_options(paths, space=space, num_frames=num_frames, alpha=alpha, num_columns=num_columns,
                  batch_size=batch_size, **writing)  # fmt: skip
    names = tuple(names or (f"point {index}" for index in range(len(latents))))
    t = timeline(len(latents) + loop, num_frames, alpha=alpha)
    generator = models.generator
    wanted = [each for each in SPACES if all(has_sense(path, each) for path in paths.values())]
    chosen = {"space": space, "noise": noise, "deltas": deltas, "wanted": wanted}
    points = key_points(latents, generator, names=names, closed=loop, **chosen)
    points = points.to(generator.mapping.w_avg.device)
    _check(paths, points.space)
    scene = PathContext(generator, perceptual.to(points.codes.device), batch_size=batch_size, num_frames=num_frames)
    folder, tracker = ensure_folder(output_dir), tracker or Tracker()
    films: dict[str, Film] = {}
    for name, path in paths.items():
        place = ensure_folder(folder / name) if len(paths) > 1 else folder
        protocol = _protocol(models, points, path=name, perceptual=perceptual, num_frames=num_frames, alpha=alpha)
        curve = path(points, scene)
        film = _film(scene, points, curve, t, place, protocol, num_columns=num_columns, **writing)
        films[name] = _judged(film, scene, points, path, curve, metrics=path_metrics or {}, identity=identity)
        report(films[name], tracker, suffix=f"_{name}" if len(paths) > 1 else "")
    if len(films) > 1:
        picture = save_rows(folder / "comparison.png", *_compared(films))
        tracker.image("interpolation/comparison", picture, caption=f"the same way by {', '.join(films)}")
    return films


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
        raise UserError("There is no path to film: choose one, as in path=lerp, or several, as in path=[lerp,slerp].")
    if space != "auto":
        check_space(space)
        _check(paths, space)
    Strip(timeline(2, num_frames, alpha=alpha), num_transitions=1, num_columns=num_columns)
    check_batch_size(batch_size)
    check_writing(**writing)


def space_for_images(paths: Mapping[str, LatentPath], space: str) -> str:
    """Where images are inverted to: `space`, or with auto w, and w+ where a path makes no sense in w."""
    if space != "auto":
        return space
    return "w" if all(has_sense(path, "w") for path in paths.values()) else "w+"


def _check(paths: Mapping[str, LatentPath], space: str) -> None:
    for path in paths.values():
        check_path(path, space)


def _film(
    scene: PathContext,
    points: Keyframes,
    curve: Curve,
    t: Tensor,
    folder: Path,
    protocol: dict[str, Any],
    *,
    num_columns: int,
    **writing: Any,
) -> Film:
    """Render one curve, write and measure it. Of a loop the last frame is measured, and not filmed a second time."""
    num_transitions, num_shown = len(points) - 1, len(t) - points.closed
    distances = NeighbourDistances(scene.perceptual, steps_per_transition=scene.num_frames - 1)
    strip, done = Strip(t, num_transitions=num_transitions, num_columns=num_columns), 0
    with video_writers(folder, **writing) as writers, Bar(f"Filming {protocol['path']}", len(t)) as progress:
        for images in render(scene.generator, points, curve, t, scene.batch_size):
            distances.add(images)
            strip.add(images)
            for writer in writers.values() if done < num_shown else ():
                writer.add(images[: num_shown - done])
            done += len(images)
            progress.update(len(images))
    files = {name: writer.path for name, writer in writers.items()}
    files |= {"strip": folder / "strip.png", "distances": folder / "distances.png"}
    film = Film(files, _titles(points, protocol), strip, distances.steps, distances.chords, protocol)
    _draw(film)
    return film


def _judged(
    film: Film,
    scene: PathContext,
    points: Keyframes,
    path: LatentPath,
    curve: Curve,
    *,
    metrics: Mapping[str, Metric],
    identity: ImageDistance | None,
) -> Film:
    """The film with what the metrics say of its transitions, each taken from its first key point to its second."""
    if not metrics:
        return film
    identity = None if identity is None else identity.to(points.codes.device)
    judges = MetricTools(scene.perceptual, identity, whitened=scene.whitened, batch_size=scene.batch_size)
    rows = measure_walks(walks_along(points, scene, path=path, curve=curve), metrics, judges)
    provenance = {} if identity is None else {"identity": dict(identity.provenance)}
    ordered = rows if film.parameter == "t" else rows[::-1]
    return replace(film, judged=tuple(ordered), protocol=film.protocol | provenance)


def table(films: Mapping[str, Film]) -> str:
    """The numbers of films as text: a line for each number, a column for each path."""
    columns = [film.values for film in films.values()]
    rows = [["", *films]] if len(films) > 1 else []
    rows += [[name, *(f"{values.get(name, float('nan')):.4g}" for values in columns)] for name in columns[0]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def report(film: Film, tracker: Tracker, *, suffix: str = "") -> None:
    """Log a film: its pictures, its numbers, and a row for each transition; `suffix` tells it from others."""
    tracker.video(f"interpolation/film{suffix}", film.files.get("mp4", film.files["gif"]))
    tracker.image(f"interpolation/strip{suffix}", film.files["strip"], caption="; ".join(film.titles))
    caption = f"perceptual distance between frames, {film.protocol['path']}"
    tracker.image(f"interpolation/distances{suffix}", film.files["distances"], caption=caption)
    judged = film.judged or ({},) * len(film.titles)
    rows = [
        {"transition": title, **evenness(steps, float(chord)), **more}
        for (title, steps, chord), more in zip(_transitions(film), judged, strict=True)
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    tracker.table(f"interpolation/transitions{suffix}", columns, [[row.get(name) for name in columns] for row in rows])
    numbers = {name: {"value": value, "protocol": film.protocol} for name, value in film.values.items()}
    tracker.summary({f"interpolation/{name}{suffix}": entry for name, entry in numbers.items()})


def _transitions(film: Film) -> Sequence[tuple[str, Tensor, Tensor]]:
    return list(zip(film.titles, film.steps, film.chords, strict=True))


def _protocol(models: Any, points: Keyframes, *, path: str, perceptual: Any, **options: Any) -> dict[str, Any]:
    return {
        "distance": perceptual.name,
        "distance_provenance": dict(perceptual.provenance),
        "generator": models.fingerprint,
        "space": points.space,
        "path": path,
        "noise": "stored, the same in every frame" if points.noise is None else "own of the latents, great circle",
        **options,
        "key_points": list(points.names),
        "loop": points.closed,
        "generator_weights": "its own" if points.deltas is None else "tuned for the key points, straight between them",
    }


def _titles(points: Keyframes, protocol: dict[str, Any]) -> tuple[str, ...]:
    pairs = list(itertools.pairwise(points.names))
    if protocol["alpha"] == "a_at_one":
        pairs = [(b, a) for a, b in reversed(pairs)]
    return tuple(f"{first} to {second}: {protocol['path']} in {points.space}" for first, second in pairs)


def _draw(film: Film) -> None:
    """Write the two pictures; what the transitions are called stands in both."""
    film.strip.save(film.files["strip"], titles=film.titles, parameter=film.parameter)
    num, how = len(film.titles), f"{film.protocol['path']} in {film.protocol['space']}"
    heading = film.titles[0] if num == 1 else f"{num} transitions, {how}; means over transitions:"
    title = f"{heading}\n{_in_words(film.evenness)}"
    plot_distances(film.files["distances"], film.steps, title=title, distance_name=film.protocol["distance"])


def _compared(films: Mapping[str, Film]) -> tuple[list[Any], list[str]]:
    """Rows and titles of all films, those of one transition one below the other."""
    rows = [film.strip.captioned(film.parameter) for film in films.values()]
    titles = [
        [
            f"{title}, step cv {evenness(steps, float(chord))['step_cv']:.2f}"
            for title, steps, chord in _transitions(film)
        ]
        for film in films.values()
    ]
    return [list(itertools.chain(*zip(*table, strict=True))) for table in (rows, titles)]


def _in_words(values: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in values.items())
