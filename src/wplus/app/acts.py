"""The actions behind the buttons: plain values in, results of the library out; no user data is stored here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from wplus.editing.directions import AnyDirection, load_directions
from wplus.errors import UserError
from wplus.library import Model, load
from wplus.library.pictures import Inversions, Pictures, Translations
from wplus.library.results import Interpolation

MAX_MIXED = 8  # largest number of rows, and of columns
MAX_PIXELS = 40_000_000  # of an uploaded image
RANGES = {False: (3.0, 0.25), True: (16.0, 1.0)}  # (range, step) of sliders: for directions in w, and for channels
CATS = "cats32"
CHANNELS: dict[str, Any] = {"classifier": "cats32_attributes", "finder.attributes": ["accessory=5"], "num_channels": 3}
OUTLINE, PAINT = "outline", "paint"


@dataclass(frozen=True)
class Acts:
    """All actions with a model.

    Attributes:
        model: a model with a latent space; an encoder makes inversion fast.
        translator: translates drawings into images; None if there is none.
        directions: the directions that the sliders move along.
        megabytes: largest size of an upload.
    """

    model: Model
    translator: Model | None
    directions: Sequence[AnyDirection]
    megabytes: float = 10.0

    @property
    def _has_encoder(self) -> bool:
        return "encoder" in self.model.networks

    @property
    def methods(self) -> list[str]:
        """The inverters available for this model, best first."""
        return [*(["hybrid", "encoder"] if self._has_encoder else []), "preconditioned", "optimize"]

    def draw(self, seed: int, num: int, psi: float) -> Pictures:
        """Samples from consecutive seeds, starting at `seed`."""
        return self.model.generate(num, seed=seed, psi=psi)

    def mix(self, rows: str, columns: str, layers: str, psi: float) -> Pictures:
        """Style mixing matrix of two lists of seeds, e.g. "1, 2, 3"."""
        return self.model.mix(seeds(rows), seeds(columns), layers=layers, truncation_psi=psi)

    def invert(self, file: str | None, space: str, method: str, num_steps: int) -> Inversions:
        """Invert an upload."""
        if file is None:
            raise UserError("There is no image yet: choose one first.")
        steps: dict[str, Any] = {} if method == "encoder" else {"num_steps": num_steps}
        return self.model.invert(uploaded(file, self.megabytes), space=space, method=method, **steps)

    def walk(self, own: Inversions | None, goal: str | None, seed: int, path: str, num_frames: int) -> Interpolation:
        """Interpolate from the user's image to another upload, inverted in the same way, or to a sample."""
        first = _own(own)
        last: Any = f"seed:{seed}"
        if goal is not None:
            last = self.model.invert(
                uploaded(goal, self.megabytes), space=first.latent.space, method=self.methods[0], num_steps=50
            )
        space = first.latent.space
        return self.model.interpolate(
            first, last, num_frames=num_frames, path=path, space="auto" if space in ("w", "w+") else space,
            path_metrics=[],
        )  # fmt: skip

    def edit(self, own: Pictures | None, is_own: bool, seed: int, psi: float, *strengths: float) -> Pictures:
        """The image before and after applying all sliders; their order does not matter, as styles are affine in w."""
        start: Pictures = _own(own) if is_own else self.model.generate(seed=seed, psi=psi)
        moved = [(each, by) for each, by in zip(self.directions, strengths, strict=True) if by]
        found = start
        for direction, strength in moved:
            found = self.model.edit(found, direction, strength)
        named = (*start.names, "edited")
        return self.model.synthesize([*start.latents, *found.latents], names=named)

    def sketch(self, drawing: Image.Image | None, how: str) -> tuple[Pictures, Pictures]:
        """A drawing (RGBA) and the generator's image closest to it: an outline is first translated, paint is matched
        where it is opaque."""
        if drawing is None or drawing.getbbox(alpha_only=True) is None:
            raise UserError("There is no drawing yet: draw something first.")
        if how == PAINT:
            found = self.model.invert(drawing, space="w+", method="sketch", masks="alpha", num_steps=60)
            return found, self.model.synthesize(found.latents, names=["your drawing"])
        made = self.translate(drawing)
        quickly: dict[str, Any] = (
            {"space": "w+", "method": "encoder"} if self._has_encoder else {"space": "w", "method": "quick"}
        )
        return made, self.model.invert(made, **quickly)

    def translate(self, given: Image.Image | str | None) -> Translations:
        """Translate a drawing or an upload; None: held-out examples with their ground truth."""
        if self.translator is None:
            raise UserError("There is no translator: start the app with --translator FILE.")
        if given is None:
            return self.translator.translate("held_out", num_images=4)
        return self.translator.translate(uploaded(given, self.megabytes) if isinstance(given, str) else given)


def directions_of(model: Model, file: str | None) -> list[AnyDirection]:
    """Directions for the sliders: those of a file, else the first ones of SeFa and, for the bundled cats, channels that
    add a hat, found with their classifier."""
    if file is not None:
        return list(load_directions(file, fingerprint=model.fingerprint))
    found = list(model.directions("sefa", num_directions=5))
    if model.fingerprint == load(CATS).fingerprint:
        found += model.directions("style_channels", latents="samples", num_images=1000, **CHANNELS)
    return found


def seeds(text: str) -> list[str]:
    """Parse "1, 2 3" into seed:1, seed:2, seed:3; UserError for anything else, and for too many."""
    words = re.split(r"[,\s]+", text.strip())
    if not all(re.fullmatch(r"\d{1,9}", word) for word in words):
        raise UserError(f"Seeds must be whole numbers with commas between, as in 1, 2, 3, got '{text[:60]}'.")
    if len(words) > MAX_MIXED:
        raise UserError(f"At most {MAX_MIXED} seeds fit here, got {len(words)}.")
    return [f"seed:{word}" for word in words]


def uploaded(file: str, megabytes: float) -> str:
    """Return the path of an upload; UserError if the file is too large or its header declares too many pixels. Other
    errors are left to the library."""
    size = Path(file).stat().st_size / 2**20
    if size > megabytes:
        raise UserError(f"An upload may have {megabytes:g} MB, '{Path(file).name}' has {size:.1f}.")
    try:
        with Image.open(file) as image:
            num = image.width * image.height
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UserError(f"'{Path(file).name}' is not a readable image: give a PNG, JPEG, WebP or GIF.") from None
    if num > MAX_PIXELS:
        raise UserError(f"An image may have {MAX_PIXELS // 10**6} million pixels, this one has {num / 1e6:.0f}.")
    return file


def _own(own: Any) -> Any:
    if own is None:
        raise UserError("There is no image of yours yet: invert one first, or draw one.")
    return own
