"""Results of filming a path: the video, a strip of frames, a plot of its steps, and numbers per transition."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.core.images import Row, captioned_rows, save_png
from wplus.core.metric_result import MetricResult
from wplus.interpolation.path_metrics.shape import step_cv
from wplus.interpolation.trajectory import PathNumber
from wplus.pretrained.seen import marked_result
from wplus.tracking import Tracker


def shown_columns(num_frames: int, num_columns: int) -> list[int]:
    """Indices of the frames shown in a row of pictures: evenly spaced up to rounding, ends included, none twice."""
    return torch.linspace(0, num_frames - 1, min(num_columns, num_frames)).round().long().tolist()


class Filmstrip:
    """Takes the frames of a video in batches and keeps the few to be shown, one row per transition."""

    def __init__(self, num_transitions: int, num_steps: int, *, num_columns: int = 9, parameter: str = "t") -> None:
        """`parameter` names the position between two keyframes in captions: t, or alpha if that is the convention."""
        columns = shown_columns(num_steps + 1, num_columns)
        self.rows = [[start * num_steps + column for column in columns] for start in range(num_transitions)]
        self.captions = [f"{parameter} = {column / num_steps:.2f}" for column in columns]
        self._wanted, self._num_frames = set(itertools.chain(*self.rows)), 0
        self._frames: dict[int, Tensor] = {}

    def add(self, images: Tensor) -> None:
        """Add the next B frames, images (B, C, H, W)."""
        for frame, image in enumerate(images, start=self._num_frames):
            if frame in self._wanted:
                self._frames[frame] = image.cpu()
        self._num_frames += len(images)

    @property
    def captioned(self) -> list[Row]:
        """Each row's frames with their positions in the transition."""
        return [list(zip(map(self._frames.__getitem__, row), self.captions, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Video:
    """Results of one path; transitions are in the order in which the video shows them."""

    files: dict[str, Path]  # filmstrip, distances, mp4, gif, and frames (a folder) if they are kept
    titles: tuple[str, ...]  # one per transition
    filmstrip: Filmstrip  # one row of frames per transition
    steps: Tensor  # perceptual distance from every frame to the next, (transitions, frames - 1)
    scores: tuple[Mapping[PathNumber, float], ...]  # per transition: evenness and path metrics
    protocol: dict[str, Any]  # how they were measured

    @property
    def means(self) -> dict[PathNumber, float]:
        """Means over transitions of the scores that all of them have."""
        numbers = [number for number in self.scores[0] if all(number in each for each in self.scores)]
        return {number: sum(each[number] for each in self.scores) / len(self.scores) for number in numbers}


def draw(video: Video) -> None:
    """Write the filmstrip and the plot of distances; both show the titles of the transitions."""
    save_png(video.files["filmstrip"], captioned_rows(video.filmstrip.captioned, video.titles))
    num, how = len(video.titles), f"{video.protocol['path']} in {video.protocol['space']}"
    heading = video.titles[0] if num == 1 else f"{num} transitions, {how}; means over transitions:"
    words = ", ".join(f"{number.name.replace('_', ' ')} {value:{number.format}}"
                      for number, value in video.means.items() if not number.metric)  # fmt: skip
    title, net = f"{heading}\n{words}", video.protocol["distance"]
    plot_distances(video.files["distances"], video.steps, title=title, distance_name=net)


def compared(videos: Mapping[str, Video]) -> tuple[list[Row], list[str]]:
    """Rows and titles of all videos, grouped by transition."""
    num = len(next(iter(videos.values())).titles)
    each = [(video, transition) for transition in range(num) for video in videos.values()]
    rows = [video.filmstrip.captioned[transition] for video, transition in each]
    return rows, [f"{video.titles[index]}, step cv {step_cv(video.steps[index]):.2f}" for video, index in each]


def report(videos: Mapping[str, Video], tracker: Tracker) -> None:
    """Log videos: pictures, a row per transition, the first video's numbers, and a comparison if there are several."""
    numbers = list(dict.fromkeys(number for each in videos.values() for row in each.scores for number in row))
    rows: list[list[Any]] = []
    for path, video in videos.items():
        tracker.video("interpolate/video", video.files.get("mp4", video.files["gif"]))
        tracker.image("interpolate/filmstrip", video.files["filmstrip"], caption="; ".join(video.titles))
        caption = f"perceptual distance between frames, {video.protocol['path']}"
        tracker.image("interpolate/distances", video.files["distances"], caption=caption)
        rows += [[path, title, *map(row.get, numbers)] for title, row in zip(video.titles, video.scores, strict=True)]
    tracker.table("interpolate/transitions", ["path", "transition", *(number.name for number in numbers)], rows)
    results = {path: [_result(number, value, video) for number, value in video.means.items()]
               for path, video in videos.items()}  # fmt: skip
    tracker.results(next(iter(results.values())))
    if len(videos) > 1:
        entries = {path: {each.name: each.entry() for each in found} for path, found in results.items()}
        tracker.methods("interpolate/paths", entries)


def _result(number: PathNumber, value: float, video: Video) -> MetricResult:
    result = MetricResult.of(number, number.name, value, protocol=dict(video.protocol))
    return marked_result(result, video.protocol.get("saw", ())) if number.by_net else result


def table(videos: Mapping[str, Video]) -> str:
    """Format the numbers of videos as text: a line per number and a column per path, then the numbers' meanings."""
    means = [video.means for video in videos.values()]
    numbers = [number for number in dict.fromkeys(itertools.chain(*means)) if number.shown != "file"]
    rows = [["", *videos]] if len(videos) > 1 else []
    rows += [[number.name, *(f"{each[number]:.4g}" if number in each else "–" for each in means)] for number in numbers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    better = {"neither": "", "higher": " Higher is better.", "lower": " Lower is better."}
    return "\n".join([*lines, "", *(f"{each.name}: {each.meaning}{better[each.direction]}" for each in numbers)])


def plot_distances(path: Path, steps: Tensor, *, title: str, distance_name: str) -> Path:
    """Plot the step distances (K-1, T) over the position along the path, with their mean, as a PNG."""
    from matplotlib.figure import Figure  # slow to import, needed here only

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    flat = steps.flatten().numpy()
    edges = torch.arange(len(flat) + 1).double() / steps.shape[1]
    axes.stairs(flat, edges.numpy(), fill=True, color="#4878cf")
    axes.axhline(flat.mean(), color="#444444", linewidth=1, linestyle="--", label="mean (perfectly even steps)")
    for key in range(1, len(steps)):
        axes.axvline(key, color="#bbbbbb", linewidth=1)
    axes.set(xlabel="position along the video (whole numbers are keyframes)", xlim=(0, len(steps)),
             ylabel=f"{distance_name} to the next frame", ylim=(0, None))  # fmt: skip
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="best")
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))
