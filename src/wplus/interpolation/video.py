"""A video and what is left of it: a strip of frames, a plot of its steps, numbers of each transition."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.core.images import Row, captioned_rows
from wplus.core.metric_result import MetricResult
from wplus.errors import UserError
from wplus.interpolation.path_metrics.shape import step_cv
from wplus.interpolation.trajectory import PathNumber, mean_scores
from wplus.tracking import Tracker


class Filmstrip:
    """Takes the frames of a video in batches and keeps the few that a row shows, ends included.

    `t` (T,) are the positions of all frames, in the order in which they come.
    """

    def __init__(self, t: Tensor, *, num_transitions: int, num_columns: int = 9) -> None:
        if num_columns < 2:
            raise UserError(f"num_columns must be at least 2, to show both ends, got {num_columns}.")
        steps = (len(t) - 1) // num_transitions
        columns = torch.linspace(0, steps, min(num_columns, steps + 1)).round().long()
        self.rows = (torch.arange(num_transitions)[:, None] * steps + columns).tolist()
        self.positions = t.tolist()
        self.num_frames = 0
        self._wanted = {frame for row in self.rows for frame in row}
        self._frames: dict[int, Tensor] = {}

    def add(self, images: Tensor) -> None:
        """Images (B, C, H, W), the next B frames."""
        for offset, image in enumerate(images):
            if self.num_frames + offset in self._wanted:
                self._frames[self.num_frames + offset] = image.cpu()
        self.num_frames += len(images)

    def captioned(self, parameter: str = "t") -> list[list[tuple[Tensor, str]]]:
        """Each row's frames with their places in the transition.

        `parameter` "t" counts from the transition's first keyframe to its second, "alpha" the other way round.
        """
        return [
            [(self._frames[frame], f"{parameter} = {self._place(row, frame, parameter):.2f}") for frame in row]
            for row in self.rows
        ]

    def _place(self, row: list[int], frame: int, parameter: str) -> float:
        t = self.positions[frame] - min(self.positions[row[0]], self.positions[row[-1]])
        return t if parameter == "t" else 1 - t


def save_rows(path: Path, rows: Sequence[Row], titles: Sequence[str], **options: int) -> Path:
    """Write rows of captioned pictures, one title each, as a PNG; options are those of `captioned_rows`."""
    canvas = captioned_rows(rows, titles, **options)
    return atomic_write(path, lambda file: canvas.save(file, format="PNG"))


@dataclass(frozen=True)
class Video:
    """What one path gave; transitions are in the order in which the video shows them."""

    files: dict[str, Path]  # filmstrip, distances, mp4, gif, and frames (a folder) where they were kept
    titles: tuple[str, ...]  # one for each transition
    filmstrip: Filmstrip  # A row of frames for each transition
    steps: Tensor  # perceptual distance of every frame to the next, (transitions, frames - 1)
    scores: tuple[Mapping[PathNumber, float], ...]
    """What is measured of each transition: how even its frames are, and what the path metrics say."""
    protocol: dict[str, Any]  # how that was measured

    @property
    def means(self) -> dict[PathNumber, float]:
        """The means over transitions of those scores that all have."""
        return mean_scores(self.scores)

    @property
    def parameter(self) -> str:
        """What counts the way from one keyframe to the next: t, or alpha where that is the convention."""
        return "t" if self.protocol["alpha"] == "b_at_one" else "alpha"

    @property
    def rows(self) -> list[list[tuple[Tensor, str]]]:
        """The filmstrip's frames with captions."""
        return self.filmstrip.captioned(self.parameter)


def draw(video: Video) -> None:
    """Write the two pictures; what the transitions are called stands in both."""
    save_rows(video.files["filmstrip"], video.rows, video.titles)
    num, how = len(video.titles), f"{video.protocol['path']} in {video.protocol['space']}"
    heading = video.titles[0] if num == 1 else f"{num} transitions, {how}; means over transitions:"
    words = ", ".join(f"{number.name.replace('_', ' ')} {value:{number.format}}"
                      for number, value in video.means.items() if not number.metric)  # fmt: skip
    title, net = f"{heading}\n{words}", video.protocol["distance"]
    plot_distances(video.files["distances"], video.steps, title=title, distance_name=net)


def compared(videos: Mapping[str, Video]) -> tuple[list[Any], list[str]]:
    """Rows and titles of all videos, those of one transition one below the other."""
    titles = [
        [f"{title}, step cv {step_cv(steps):.2f}" for title, steps in zip(video.titles, video.steps, strict=True)]
        for video in videos.values()
    ]
    rows = [video.rows for video in videos.values()]
    return [list(itertools.chain(*zip(*each, strict=True))) for each in (rows, titles)]  # type: ignore[return-value]


def report(videos: Mapping[str, Video], tracker: Tracker) -> None:
    """Log videos: pictures, a row for each transition, numbers: those of the first alone, those of several together."""
    numbers = list(dict.fromkeys(number for each in videos.values() for row in each.scores for number in row))
    rows: list[list[Any]] = []
    for path, video in videos.items():
        tracker.video("interpolate/video", video.files.get("mp4", video.files["gif"]))
        tracker.image("interpolate/filmstrip", video.files["filmstrip"], caption="; ".join(video.titles))
        caption = f"perceptual distance between frames, {video.protocol['path']}"
        tracker.image("interpolate/distances", video.files["distances"], caption=caption)
        rows += [[path, title, *map(row.get, numbers)] for title, row in zip(video.titles, video.scores, strict=True)]
    tracker.table("interpolate/transitions", ["path", "transition", *(number.name for number in numbers)], rows)
    results = {path: [MetricResult.of(number, number.name, value, protocol=video.protocol)
                      for number, value in video.means.items()] for path, video in videos.items()}  # fmt: skip
    tracker.results(next(iter(results.values())))
    if len(videos) > 1:
        entries = {path: {each.name: each.entry() for each in found} for path, found in results.items()}
        tracker.methods("interpolate/paths", entries)


def table(videos: Mapping[str, Video]) -> str:
    """The numbers of videos as text: a line for each number, a column for each path; then what the numbers are."""
    means = [video.means for video in videos.values()]
    numbers = [number for number in dict.fromkeys(itertools.chain(*means)) if number.shown != "file"]
    rows = [["", *videos]] if len(videos) > 1 else []
    rows += [[number.name, *(f"{each[number]:.4g}" if number in each else "–" for each in means)] for number in numbers]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", *(f"{number.name}: {number.sentence}" for number in numbers)])


def plot_distances(path: Path, steps: Tensor, *, title: str, distance_name: str) -> Path:
    """Draw the step distances (K-1, T) over the position along the path, with their mean; writes a PNG."""
    from matplotlib.figure import Figure  # slow to import, needed here only

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    flat = steps.flatten().numpy()
    edges = torch.arange(len(flat) + 1).double() / steps.shape[1]
    axes.stairs(flat, edges.numpy(), fill=True, color="#4878cf")
    axes.axhline(flat.mean(), color="#444444", linewidth=1, linestyle="--", label="mean (perfectly even steps)")
    for key in range(1, len(steps)):
        axes.axvline(key, color="#bbbbbb", linewidth=1)
    axes.set(xlabel="position along the video (whole numbers are keyframes)", xlim=(0, len(steps)))
    axes.set(ylabel=f"{distance_name} to the next frame", ylim=(0, None))
    axes.set_title(title, fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="best")
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=120))
