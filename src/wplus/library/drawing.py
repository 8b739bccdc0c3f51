"""Image generation: samples, images of given latents, and style mixing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wplus.commands.common import read_latents
from wplus.config import build
from wplus.core.batching import MIN_MADE
from wplus.core.images import to_uint8
from wplus.core.progress import silent, track
from wplus.core.runtime import float32_convolutions
from wplus.errors import UserError, check_number
from wplus.latents.inputs import read_inputs
from wplus.latents.labels import Label
from wplus.latents.latent import Latent, synthesize
from wplus.latents.weight_delta import WeightDelta
from wplus.library.asking import configuration
from wplus.library.kept import Kept, folders
from wplus.library.mixing import Mixtures, mixed
from wplus.library.pictures import Pictures
from wplus.library.sources import AnyLatents, latent_sources
from wplus.losses.image_pair import ImageDistance

_MANY = 64  # number of images from which on a progress bar is shown


class Drawing(Kept):
    """A model that generates images."""

    @property
    def device(self) -> torch.device:
        """Device of the generator."""
        self.require_latents()
        return self.generator.mapping.w_avg.device

    def generate(
        self, num: int = 1, *, seed: int = 0, psi: float = 1.0, label: Label = None, batch_size: int = 16
    ) -> Pictures:
        """Generate images for the inputs seed:SEED, seed:SEED+1, ..., the names that the commands use.

        Args:
            num: how many images, 1 or more.
            psi: truncation; 1 for none, 0 for the mean image.
            label: class number or vector for all images, for a conditional generator.
            batch_size: affects only speed and memory; an image is the same in any batch.
        """
        check_number("num", num, lowest=1, whole=True)
        check_number("seed", seed, lowest=0, whole=True)
        check_number("psi", psi)
        self.require_latents()
        seeds = [f"seed:{seed + number}" for number in range(num)]
        latents, names = read_inputs(seeds, models=self, invert=None, label=label, truncation_psi=psi)
        return self.synthesize(latents, names=names, batch_size=batch_size)

    def synthesize(
        self, latents: Latent | Sequence[Latent], *, names: Sequence[str] | None = None, batch_size: int = 16
    ) -> Pictures:
        """Generate the images of latents, from any spaces.

        Examples:
            >>> import wplus
            >>> model = wplus.load("cats32")
            >>> cat = model.generate(seed=3)
            >>> bool((model.synthesize(cat.latent).images == cat.images).all())
            True
        """
        self.require_latents()
        check_number("batch_size", batch_size, lowest=1, whole=True)
        several = [latents] if isinstance(latents, Latent) else list(latents) if isinstance(latents, Sequence) else []
        if not several or not all(isinstance(each, Latent) for each in several):
            raise UserError("There are no latents to draw: give one or more, as the .latents of pictures are.")
        size, parts = max(batch_size, MIN_MADE), []
        show = track if len(several) > _MANY else silent
        with float32_convolutions():
            for first in show(range(0, len(several), size), "Drawing (batches)"):
                some = several[first : first + size]
                filled = [*some, *[some[-1]] * (MIN_MADE - len(some))]  # from MIN_MADE on, all batch sizes round alike
                parts.append(to_uint8(synthesize(filled, self.generator)[: len(some)]).cpu())
        return Pictures(torch.cat(parts), tuple(several), tuple(names or map(str, range(len(several)))))

    def mix(
        self, rows: AnyLatents, columns: AnyLatents, *, layers: str | Sequence[int] = "coarse", space: str = "w",
        **options: Any,
    ) -> Mixtures:  # fmt: skip
        """Style mixing: every image of `rows` with some layers taken from every image of `columns`.

        Args:
            rows: latents, images (first inverted into `space`), results of the other methods, or "seed:N".
            columns: the same.
            layers: layers taken from the columns: coarse, middle, fine, or a list of numbers.
            options: as for `edit` (`truncation_psi=0.5` for seeds). Tuned weights (`method="pti"`) are ignored.

        Examples:
            >>> import wplus
            >>> wplus.load("cats32").mix(["seed:1", "seed:2"], ["seed:3"], layers="fine")
            <Mixtures: 2 of 32 x 32 px: seed:1 + seed:3, seed:2 + seed:3>
        """
        self.require_latents()
        read = []
        for given in (rows, columns):
            with folders(None) as (place, folder):
                _, _, latents, names, _ = self._read(given, place, folder, space, options)
            read.append(self.synthesize(latents, names=names))
        made = self.synthesize(mixed(read[0].latents, read[1].latents, layers, self.generator))
        names = [f"{row} + {column}" for row in read[0].names for column in read[1].names]
        return Mixtures(made.images, made.latents, tuple(names), rows=read[0], columns=read[1])

    def _read(
        self, latents: AnyLatents, given: Path, folder: Path, space: str, options: dict[str, Any], **asked: Any
    ) -> tuple[dict[str, Any], ImageDistance, list[Latent], list[str], list[WeightDelta | None]]:
        """Read inputs as `wplus edit` does; returns configuration, distance, latents, names and weight deltas."""
        sources, called = latent_sources(latents, given, deltas=folder / "inversion" / "deltas")
        asked |= {"checkpoint": self._name, "directions": "given", "latents": sources, "space": space}
        cfg = configuration("edit", asked, options, section="inverter") | {"run_dir": folder}
        perceptual = build(cfg["perceptual"]).to(self.device)
        psi = cfg["truncation_psi"]
        found, names, deltas = read_latents(
            cfg, cfg["latents"], self, space=cfg["space"], perceptual=perceptual, truncation_psi=psi
        )
        return cfg, perceptual, found, [called.get(name, name) for name in names], deltas
