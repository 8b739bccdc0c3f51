"""The library's results that are images, with their latents and scores: samples, inversions, edits, translations."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from wplus.core.files import ensure_folder
from wplus.core.images import Row, captioned_rows, save_png, to_pil
from wplus.core.metric_result import MetricResult
from wplus.core.tables import Table
from wplus.editing.directions import Directions, save_directions
from wplus.errors import UserError
from wplus.evaluation.translation import FolderTranslation
from wplus.inversion.folder import DELTA, output_names
from wplus.inversion.run import FolderInversion
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.latents.weight_delta import WeightDelta, load_delta
from wplus.library.results import Measurements, folder_of, image_tag

_NUM_COLUMNS = 8


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images and the latents behind them; index with `pictures[2]` or `pictures[:4]`.

    Attributes:
        images: uint8 (N, C, H, W) on the CPU.
        latents: one per image; empty for translations.
        names: one per image: seed:0, a file name, ...
        deltas: for each image, the weight delta that tuning (`method="pti"`) added to the generator, or None.
    """

    images: Tensor
    latents: tuple[Latent, ...]
    names: tuple[str, ...]
    deltas: tuple[WeightDelta | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "deltas", self.deltas or (None,) * len(self.names))

    @property
    def latent(self) -> Latent:
        """The latent of a single image; UserError if there are several, or none."""
        if not self.latents:
            raise UserError("These images were made without latents: invert them, as in model.invert(pictures).")
        if len(self.latents) != 1:
            raise UserError(f"There are {len(self.latents)} latents: take .latents, or one image, as in pictures[0].")
        return self.latents[0]

    @property
    def pil(self) -> list[Image.Image]:
        """The images as Pillow images."""
        return [to_pil(image) for image in self.images]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Pictures:
        rows = list(range(len(self)))[index]
        return self._take([rows] if isinstance(rows, int) else rows)

    def __iter__(self) -> Iterator[Pictures]:
        return (self[row] for row in range(len(self)))

    def save(self, path: str | Path) -> Path:
        """Write each image as NAME.png, and its latent, if any, as NAME.safetensors, into a folder; or, if the path is
        FILE.png, a single picture of all images."""
        target = Path(path)
        if target.suffix.lower() == ".png":
            return save_png(target, self.picture())
        folder = ensure_folder(folder_of(target, kinds="FILE.png"))
        files = output_names([name.replace(":", "") for name in self.names])
        for name, image in zip(files, self.images, strict=True):
            save_png(folder / f"{name}.png", image)
        for name, latent in zip(files, self.latents, strict=False):
            save_latent(folder / f"{name}.safetensors", latent)
        return folder

    def picture(self) -> Image.Image:
        """All images in one picture; small ones are enlarged."""
        return captioned_rows(*self._rows())

    def _rows(self) -> tuple[list[Row], list[str]]:
        pairs = list(zip(self.images, self.names, strict=True))
        rows = [pairs[first : first + _NUM_COLUMNS] for first in range(0, len(pairs), _NUM_COLUMNS)]
        return list(rows), [""] * len(rows)

    def _take(self, rows: list[int]) -> Pictures:
        def some(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[row] for row in rows) if values else ()

        parts = {name: some(getattr(self, name)) for name in ("latents", "names", "deltas")}
        return replace(self, images=self.images[rows], **parts)

    def __repr__(self) -> str:
        _, _, height, width = self.images.shape
        shown = ", ".join([*self.names[:4], *(["..."] if len(self) > 4 else [])])
        return f"<{type(self).__name__}: {len(self)} of {width} x {height} px: {shown}>"

    def _repr_html_(self) -> str:
        return image_tag(_png(self.picture()), repr(self))


@dataclass(frozen=True, eq=False, repr=False)
class Inversions(Pictures):
    """Inverted images, together with their targets.

    Attributes:
        targets: uint8 (N, C, H, W).
        table: the scores of every image, as in table.csv.
    """

    targets: Tensor = field(default_factory=lambda: torch.empty(0))
    table: Table = field(default_factory=lambda: Table({}))

    @classmethod
    def of(cls, inversion: FolderInversion, table: Table, names: Sequence[str] | None) -> Inversions:
        """Read an inversion's folder, in the order of the images' `names`; None: in the folder's own order."""
        store = inversion.store
        wanted = _in_order(inversion, names)
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
    """Edited images: one row per direction and latent, one image per strength.

    Attributes:
        strengths: the strengths in each row.
        titles: the title of each row.
        measurements: with a classifier: how far edits move an image, what they change and what they preserve.
    """

    strengths: tuple[float, ...] = ()
    titles: tuple[str, ...] = ()
    measurements: Measurements = field(default_factory=lambda: Measurements([]))

    def _rows(self) -> tuple[list[Row], list[str]]:
        num = len(self.strengths)
        if len(self) != num * len(self.titles):  # a part of them
            return super()._rows()
        captions = [f"{strength:+g}" if strength else "0" for strength in self.strengths]
        rows = [list(zip(images, captions, strict=True)) for images in self.images.split(num)]
        return list(rows), list(self.titles)

    def _repr_html_(self) -> str:
        return super()._repr_html_() + (self.measurements._repr_html_() if len(self.measurements) else "")


@dataclass(frozen=True, eq=False, repr=False)
class Translations(Pictures):
    """Translated images, together with their inputs and, if known, the ground truth.

    Attributes:
        inputs: uint8 (N, C, H, W).
        truth: uint8 (N, C, H, W), or None.
        table: the scores of every image, those of table.csv.
        shares: how often factors changed as intended, and how often the others were preserved.
    """

    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    truth: Tensor | None = None
    table: Table = field(default_factory=lambda: Table({}))
    shares: Measurements = field(default_factory=lambda: Measurements([]))

    @classmethod
    def of(
        cls, translation: FolderTranslation, table: Table, shares: Sequence[MetricResult], names: Sequence[str] | None
    ) -> Translations:
        """Read a translation's folder, in the order of the images' `names`; None: in the folder's own order."""
        wanted = _in_order(translation, names)
        kinds = ("images", "inputs") if translation.truth is None else ("images", "inputs", "truth")
        made = {kind: torch.stack([translation.read(kind, name) for name in wanted]) for kind in kinds}
        return cls(made["images"], (), tuple(wanted), inputs=made["inputs"], truth=made.get("truth"), table=table,
                   shares=Measurements(shares))  # fmt: skip

    def _rows(self) -> tuple[list[Row], list[str]]:
        shown = [(self.inputs, "input"), (self.images, "translation")]
        shown += [] if self.truth is None else [(self.truth, "truth")]
        cells = [(images[row], word) for row in range(len(self)) for images, word in shown]
        width = _NUM_COLUMNS // len(shown) * len(shown)
        rows = [cells[first : first + width] for first in range(0, len(cells), width)]
        num = width // len(shown)
        return list(rows), [", ".join(self.names[first : first + num]) for first in range(0, len(self), num)]

    def _take(self, rows: list[int]) -> Translations:
        taken = super()._take(rows)
        assert isinstance(taken, Translations)
        kept = {name: self.table.rows[name] for name in taken.names if name in self.table.rows}
        truth = None if self.truth is None else self.truth[rows]
        return replace(taken, inputs=self.inputs[rows], truth=truth, table=replace(self.table, rows=kept))


@dataclass(frozen=True)
class FoundDirections(Directions):
    """Directions, with a preview of their effect.

    Attributes:
        preview: a sample edited along each direction.
    """

    preview: Edits | None = None

    @property
    def images(self) -> Tensor:
        """The preview's images, uint8 (directions * strengths, C, H, W)."""
        assert self.preview is not None
        return self.preview.images

    def save(self, path: str | Path) -> Path:
        """Write the directions to FILE.safetensors, for `wplus edit` and `Model.edit`, or the preview to FILE.png."""
        if Path(path).suffix.lower() == ".png" and self.preview is not None:
            return self.preview.save(path)
        return save_directions(path, self)

    def __repr__(self) -> str:
        return f"<Directions: {', '.join(self.names)}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(str(item))}</li>" for item in self)
        shown = "" if self.preview is None else self.preview._repr_html_()
        return f'<ol start="0">{rows}</ol>{shown}'


def _in_order(made: FolderInversion | FolderTranslation, names: Sequence[str] | None) -> list[str]:
    """The names of the images in a folder, in the order of `names`; None: in the folder's order."""
    files = dict(zip(made.images.names, made.names, strict=True))
    return list(files.values()) if names is None else [files[name] for name in names]


def _png(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return base64.b64encode(content.getvalue()).decode()
