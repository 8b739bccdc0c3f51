"""Results of the library: images, films and numbers that show themselves in a notebook and can be saved."""

from __future__ import annotations

import base64
import html
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wplus.core.files import atomic_write, ensure_folder, write_json
from wplus.core.images import Row, captioned_rows, save_png, to_pil
from wplus.core.metric_result import ARROWS, MetricResult
from wplus.core.tables import Table
from wplus.errors import UserError
from wplus.evaluation.measure import in_words
from wplus.interpolation.video import Video
from wplus.inversion.folder import DELTA, output_names
from wplus.inversion.run import FolderInversion
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.latents.weight_delta import WeightDelta, load_delta

_NUM_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images and the latents behind them; a part of them is `pictures[2]` or `pictures[:4]`.

    Attributes:
        images: uint8 (N, C, H, W) on the CPU.
        latents: one for each image.
        names: one for each image: seed:0, the name of a file, ...
        deltas: what tuning (`method="pti"`) added to the generator for each image, or None.
    """

    images: Tensor
    latents: tuple[Latent, ...]
    names: tuple[str, ...]
    deltas: tuple[WeightDelta | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "deltas", self.deltas or (None,) * len(self.names))

    @property
    def latent(self) -> Latent:
        """The latent of the one image; UserError where there are several."""
        if len(self.latents) != 1:
            raise UserError(f"There are {len(self.latents)} latents: take .latents, or one image, as in pictures[0].")
        return self.latents[0]

    @property
    def pil(self) -> list[Image.Image]:
        """The images as Pillow's."""
        return [to_pil(image) for image in self.images]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Pictures:
        rows = list(range(len(self)))[index]
        return self._take([rows] if isinstance(rows, int) else rows)

    def __iter__(self) -> Iterator[Pictures]:
        return (self[row] for row in range(len(self)))

    def save(self, path: str | Path) -> Path:
        """Write NAME.png and NAME.safetensors, the latent, of each image into a folder; or, to FILE.png, one picture
        of all."""
        target = Path(path)
        if target.suffix.lower() == ".png":
            return save_png(target, self.picture())
        folder = ensure_folder(target)
        files = output_names([name.replace(":", "") for name in self.names])
        for name, image, latent in zip(files, self.images, self.latents, strict=True):
            save_png(folder / f"{name}.png", image)
            save_latent(folder / f"{name}.safetensors", latent)
        return folder

    def picture(self) -> Image.Image:
        """All of them as one picture, small ones enlarged."""
        return captioned_rows(*self._rows())

    def _rows(self) -> tuple[list[Row], list[str]]:
        pairs = list(zip(self.images, self.names, strict=True))
        rows = [pairs[first : first + _NUM_COLUMNS] for first in range(0, len(pairs), _NUM_COLUMNS)]
        return list(rows), [""] * len(rows)

    def _take(self, rows: list[int]) -> Pictures:
        def some(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[row] for row in rows)

        parts = {name: some(getattr(self, name)) for name in ("latents", "names", "deltas")}
        return replace(self, images=self.images[rows], **parts)

    def __repr__(self) -> str:
        _, _, height, width = self.images.shape
        shown = ", ".join([*self.names[:4], *(["..."] if len(self) > 4 else [])])
        return f"<{type(self).__name__}: {len(self)} of {width} x {height} px: {shown}>"

    def _repr_html_(self) -> str:
        return _image_tag(_png(self.picture()), repr(self))


@dataclass(frozen=True, eq=False, repr=False)
class Inversions(Pictures):
    """Inverted images, beside what they aimed at.

    Attributes:
        targets: uint8 (N, C, H, W).
        table: the scores of every image, those of table.csv.
    """

    targets: Tensor = field(default_factory=lambda: torch.empty(0))
    table: Table = field(default_factory=lambda: Table({}))

    @classmethod
    def of(cls, inversion: FolderInversion, table: Table, names: Sequence[str] | None) -> Inversions:
        """What an inversion has written into its folder, in the order of the images' `names`; None: its own."""
        store = inversion.store
        files = dict(zip(inversion.images.names, inversion.names, strict=True))
        wanted = list(files.values()) if names is None else [files[name] for name in names]
        latents = [load_latent(store.path("latents", name), fingerprint=store.fingerprint) for name in wanted]
        tuned = [DELTA in latent.metadata for latent in latents]
        deltas = [load_delta(store.path("deltas", name), fingerprint=store.fingerprint) if is_tuned else None
                  for name, is_tuned in zip(wanted, tuned, strict=True)]  # fmt: skip
        made, aimed = (torch.stack([store.image(kind, name) for name in wanted]) for kind in ("images", "targets"))
        return cls(made, tuple(latents), tuple(wanted), tuple(deltas), targets=aimed, table=table)

    def _rows(self) -> tuple[list[Row], list[str]]:
        pairs = zip(self.targets, self.images, self.names, strict=True)
        cells = [cell for target, image, name in pairs for cell in ((target, name), (image, "inverted"))]
        rows = [cells[first : first + _NUM_COLUMNS] for first in range(0, len(cells), _NUM_COLUMNS)]
        return list(rows), [""] * len(rows)

    def _take(self, rows: list[int]) -> Inversions:
        taken = super()._take(rows)
        assert isinstance(taken, Inversions)
        kept = {name: self.table.rows[name] for name in taken.names if name in self.table.rows}
        return replace(taken, targets=self.targets[rows], table=replace(self.table, rows=kept))


@dataclass(frozen=True, eq=False, repr=False)
class Edits(Pictures):
    """Edited images: for each direction a row of each latent, an image for each strength.

    Attributes:
        strengths: of each row.
        titles: what each row is.
    """

    strengths: tuple[float, ...] = ()
    titles: tuple[str, ...] = ()

    def _rows(self) -> tuple[list[Row], list[str]]:
        num = len(self.strengths)
        if len(self) != num * len(self.titles):  # a part of them
            return super()._rows()
        captions = [f"{strength:+g}" if strength else "0" for strength in self.strengths]
        rows = [list(zip(images, captions, strict=True)) for images in self.images.split(num)]
        return list(rows), list(self.titles)


@dataclass(frozen=True, eq=False)
class Interpolation:
    """The way between images: a film of each path, and what is measured of it.

    Attributes:
        videos: by path, with titles, steps and scores.
        latents: those that the way goes through.
        names: of the latents.
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
        frames = [torch.from_numpy(np.array(Image.open(file))) for file in files]
        return torch.stack([each[None] if each.ndim == 2 else each.permute(2, 0, 1) for each in frames])

    @property
    def numbers(self) -> dict[str, dict[str, float]]:
        """Means over transitions by path and name: how even the steps are, and what the path metrics say."""
        return {path: {each.name: value for each, value in video.means.items()} for path, video in self.videos.items()}

    def save(self, path: str | Path) -> Path:
        """Copy all files into a folder; or the (first) film to FILE.mp4 or FILE.gif, its filmstrip to FILE.png."""
        target, kind = Path(path), Path(path).suffix.lower().removeprefix(".")
        if kind in ("mp4", "gif", "png"):
            source = self._first.files.get("filmstrip" if kind == "png" else kind)
            if source is None:
                raise UserError(f"There is no {kind} of this way; there are {', '.join(self._first.files)}.")
            return atomic_write(target, lambda file: file.write(source.read_bytes()))
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
            shown.append(f"<figure>{film if kind == 'mp4' else _image_tag(data, title, kind)}"
                         f"<figcaption>{title}</figcaption></figure>")  # fmt: skip
        return "".join(shown)


class Measurements(Sequence[MetricResult]):
    """Numbers with their intervals and protocols; `measured[0]`, or by name, `measured["fd_effnet_lite0"]`."""

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
            raise UserError(f"A number must be one of {', '.join(self.values)}, got '{key}'.")
        return found[0]

    @property
    def values(self) -> dict[str, float]:
        """The numbers alone, by name."""
        return {result.name: result.value for result in self.results}

    def save(self, path: str | Path) -> Path:
        """Write them as JSON, as in a command's result.json."""
        return write_json(path, {result.name: result.entry() for result in self.results})

    def __repr__(self) -> str:
        return f"<Measurements: {'; '.join(map(str, self.results))}>"

    def _repr_html_(self) -> str:
        cells = [[each.name, f"{each.value:.4g} {each.unit}{ARROWS[each.direction]}", _bounds(each), each.meaning,
                  in_words(each.protocol)] for each in self.results]  # fmt: skip
        head = "".join(f"<th>{word}</th>" for word in ("number", "value", "95 % interval", "what", "measured with"))
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
        return f"<table><tr>{head}</tr>{body}</table>"


def _bounds(result: MetricResult) -> str:
    return "" if result.interval is None else f"{result.interval[0]:.4g} to {result.interval[1]:.4g}"


def _png(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()


def _image_tag(data: str, alt: str, kind: str = "png") -> str:
    return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(alt)}">'
