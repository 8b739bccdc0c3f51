"""The library's other results: videos and numbers, which display themselves in notebooks."""

from __future__ import annotations

import base64
import html
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import torch
from PIL import Image
from torch import Tensor

from wplus.core.files import atomic_write, ensure_folder, write_json
from wplus.core.images import pixels_of
from wplus.core.metric_result import ARROWS, MetricResult
from wplus.errors import UserError
from wplus.evaluation.measure import in_words
from wplus.interpolation.video import Video
from wplus.latents.latent import Latent

_FILES = (".avi", ".bmp", ".gif", ".jpeg", ".jpg", ".json", ".mov", ".mp4", ".npy", ".npz", ".png", ".pt",
          ".safetensors", ".tif", ".tiff", ".webm", ".webp", ".zip")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Interpolation:
    """An interpolation between images: a video of each path, and its measurements.

    Attributes:
        videos: by path, with titles, steps and scores.
        latents: the keyframes.
        names: the keyframes' names.
    """

    videos: Mapping[str, Video]
    latents: tuple[Latent, ...]
    names: tuple[str, ...]

    @property
    def _first(self) -> Video:
        return next(iter(self.videos.values()))

    @cached_property
    def images(self) -> Tensor:
        """The frames of the (first) path, uint8 (T, C, H, W)."""
        files = sorted(self._first.files["frames"].glob("frame_*.png"))
        return torch.stack([pixels_of(Image.open(file)) for file in files])

    @property
    def numbers(self) -> dict[str, dict[str, float]]:
        """Means over transitions, by path and name, of the uniformity of steps and of the path metrics."""
        return {path: {each.name: value for each, value in video.means.items()} for path, video in self.videos.items()}

    def save(self, path: str | Path) -> Path:
        """Copy all files into a folder; or the (first) video to FILE.mp4 or FILE.gif, or its filmstrip to FILE.png."""
        target, kind = Path(path), Path(path).suffix.lower().removeprefix(".")
        if kind in ("mp4", "gif", "png"):
            source = self._first.files.get("filmstrip" if kind == "png" else kind)
            if source is None:
                raise UserError(f"There is no {kind} of this interpolation; there are {', '.join(self._first.files)}.")
            return atomic_write(target, lambda file: file.write(source.read_bytes()))
        folder_of(target, kinds="FILE.mp4, FILE.gif or FILE.png")
        for name, video in self.videos.items():
            own = ensure_folder(target / name if len(self.videos) > 1 else target)
            for file in video.files.values():
                if file.is_dir():
                    shutil.copytree(file, own / file.name, dirs_exist_ok=True)
                elif file.is_file():
                    shutil.copyfile(file, own / file.name)
        return target

    def __repr__(self) -> str:
        return f"<Interpolation: {' to '.join(self.names)} by {', '.join(self.videos)}, {len(self.images)} frames>"

    def _repr_html_(self) -> str:
        shown = []
        for video in self.videos.values():
            kind = "mp4" if "mp4" in video.files else "gif"
            data = base64.b64encode(video.files[kind].read_bytes()).decode()
            film = f'<video autoplay loop muted controls src="data:video/mp4;base64,{data}"></video>'
            title = html.escape("; ".join(video.titles))
            shown.append(f"<figure>{film if kind == 'mp4' else image_tag(data, title, kind)}"
                         f"<figcaption>{title}</figcaption></figure>")  # fmt: skip
        return "".join(shown)


class Measurements(Sequence[MetricResult]):
    """Results with intervals and protocols; index with `measured[0]`, or by name, `measured["fd_effnet_lite0"]`."""

    def __init__(self, results: Sequence[MetricResult]) -> None:
        self.results = list(results)

    def __len__(self) -> int:
        return len(self.results)

    @overload
    def __getitem__(self, key: int | str) -> MetricResult: ...
    @overload
    def __getitem__(self, key: slice) -> Measurements: ...
    def __getitem__(self, key: int | str | slice) -> MetricResult | Measurements:
        if isinstance(key, slice):
            return Measurements(self.results[key])
        if isinstance(key, int):
            return self.results[key]
        found = [result for result in self.results if result.name == key]
        if not found:
            raise UserError(f"A result must be one of {', '.join(self.values)}, got '{key}'.")
        return found[0]

    @property
    def values(self) -> dict[str, float]:
        """The values alone, by name."""
        return {result.name: result.value for result in self.results}

    def save(self, path: str | Path) -> Path:
        """Write the results as JSON, in the format of a command's result.json."""
        return write_json(path, {result.name: result.entry() for result in self.results})

    def __repr__(self) -> str:
        return f"<Measurements: {'; '.join(map(str, self.results))}>"

    def _repr_html_(self) -> str:
        cells = [[each.name, f"{each.value:.4g} {each.unit}{ARROWS[each.direction]}", _bounds(each), each.meaning,
                  in_words(each.protocol)] for each in self.results]  # fmt: skip
        head = "".join(f"<th>{word}</th>" for word in ("number", "value", "95 % interval", "what", "measured with"))
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        return f"<table><tr>{head}</tr>{body}</table>"


def folder_of(path: str | Path, *, kinds: str) -> Path:
    """A folder to save into; UserError if the name has the extension of a file type that is not supported."""
    if Path(path).suffix.lower() in _FILES:
        raise UserError(f"This is saved into a folder, or as {kinds}, got '{path}'.")
    return Path(path)


def _bounds(result: MetricResult) -> str:
    return "" if result.interval is None else f"{result.interval[0]:.4g} to {result.interval[1]:.4g}"


def image_tag(data: str, alt: str, kind: str = "png") -> str:
    """An HTML image tag with base64 data."""
    return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(alt)}">'
