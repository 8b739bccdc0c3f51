"""The `Model` class: a thin layer over the commands, with their configurations and bit-identical results."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wplus.commands.common import read_latents
from wplus.commands.edit import factors_of, found_directions, named_by
from wplus.commands.evaluate import built_metrics, check, context_of
from wplus.commands.interpolate import filming_of
from wplus.commands.invert import inversion_of
from wplus.commands.translate import translation_of
from wplus.core.files import ensure_folder
from wplus.core.images import to_uint8
from wplus.core.runtime import float32_convolutions
from wplus.editing.consistency import editability
from wplus.editing.directions import Mode, check_edits
from wplus.editing.edit import STRENGTHS, edits
from wplus.errors import UserError, check_numbers
from wplus.evaluation.measure import measure
from wplus.evaluation.translation import Direction
from wplus.library.asking import configuration
from wplus.library.drawing import Drawing
from wplus.library.kept import folders, removed_if_it_fails
from wplus.library.pictures import Edits, FoundDirections, Inversions, Translations
from wplus.library.results import Interpolation, Measurements
from wplus.library.sources import (
    AnyDirections,
    AnyImages,
    AnyLatents,
    as_data,
    directions_of,
    image_source,
    latent_sources,
)  # fmt: skip
from wplus.tracking import Tracker


class Model(Drawing):
    """The networks of a checkpoint, with the commands as methods.

    Examples:
        >>> import wplus
        >>> model = wplus.load("cats32")
        >>> model
        <Model cats32: generator (stylegan2, 32 px)>
        >>> cats = model.generate(4, seed=0, psi=0.7)
        >>> cats.images.shape
        torch.Size([4, 3, 32, 32])

    Every method takes the keys of its command as keyword arguments (see `wplus invert --help`) and returns the same
    results, bit for bit; invalid arguments raise `wplus.errors.UserError` with the command's message. Nothing is
    written unless `output_dir` is given. Progress is shown on standard error.
    """

    def invert(
        self, images: AnyImages, *, space: str = "w", method: str = "optimize", seed: int = 0,
        output_dir: str | Path | None = None, **options: Any,
    ) -> Inversions:  # fmt: skip
        """Invert images into latents, like `wplus invert`.

        Args:
            images: the path of an image, a folder or a zip, "held_out", or images in memory; see `AnyImages`.
            space: z, z+, w, w+, pn, pn+, s, f16/w+.
            method: an inverter: optimize, quick, preconditioned, lbfgs, encoder, restyle, hybrid, pti, sketch, staged.
            output_dir: keeps the inversion's folder; repeating the call computes only what is missing there.
            options: options of the method (`num_steps=300`) and other keys of the command (`label=2`, `masks="alpha"`).

        Examples:
            >>> import wplus
            >>> model = wplus.load("cats32_e4e")
            >>> found = model.invert(model.generate(2), space="w+", method="encoder")
            >>> found
            <Inversions: 2 of 32 x 32 px: 0000, 0001>
            >>> found[0].latent.space
            'w+'
        """
        self.require_latents()
        with folders(output_dir) as (given, folder):
            source, names = image_source(images, given)
            asked = {"checkpoint": self._name, "input": source, "space": space, "inverter": method, "seed": seed}
            inversion = inversion_of(configuration("invert", asked, options, section="inverter"), self, folder)
            return Inversions.of(inversion, inversion.run(has_pictures=output_dir is not None), names)

    def interpolate(
        self, *keyframes: AnyLatents, num_frames: int = 60, path: str | Sequence[str] = "slerp", space: str = "auto",
        seed: int = 0, output_dir: str | Path | None = None, **options: Any,
    ) -> Interpolation:  # fmt: skip
        """Interpolate through two or more latents or images, with videos and path metrics, like `wplus interpolate`.

        Args:
            keyframes: latents, images (inverted first), results of the other methods, or "seed:N".
            num_frames: frames per transition, including both ends.
            path: one path, or several to compare: lerp, slerp, slerp_centered, pn, coarse_first, fine_first, spline,
                geodesic.
            options: options of a path (`geodesic={"num_steps": 50}`) and other keys of the command (`loop=True`,
                `retime="arc_length"`, `path_metrics=[]`).

        Examples:
            >>> import wplus
            >>> model = wplus.load("cats32")
            >>> way = model.interpolate("seed:1", "seed:2", num_frames=5, path="lerp", path_metrics=[])
            >>> way
            <Interpolation: seed:1 to seed:2 by lerp, 5 frames>
        """
        self.require_latents()
        own = tempfile.mkdtemp() if output_dir is None else None
        with folders(own or output_dir) as (given, folder), removed_if_it_fails(own):
            sources, called = latent_sources(keyframes, given, deltas=folder / "inversion" / "deltas")
            asked = {"checkpoint": self._name, "inputs": sources, "num_frames": num_frames, "path": path,
                     "space": space, "seed": seed, "frames": "keep"}  # fmt: skip
            cfg = configuration("interpolate", asked, options, section="path") | {"run_dir": folder}
            filming = filming_of(cfg)
            latents, names, deltas = read_latents(
                cfg, cfg["inputs"], self, space=filming.space_for_images, at_least=2,
                perceptual=filming.perceptual.to(self.device),
            )  # fmt: skip
            names = [called.get(name, name) for name in names]
            videos = filming.run(self, latents, names=names, output_dir=folder, tracker=Tracker(), deltas=deltas)
        way = Interpolation(videos, tuple(latents), tuple(names))
        if own is not None:  # the videos live as long as the object that shows them
            weakref.finalize(way, shutil.rmtree, own, ignore_errors=True)
        return way

    def directions(self, finder: str = "sefa", *, seed: int = 0, **options: Any) -> FoundDirections:
        """Find directions in latent space, like `wplus directions`.

        Args:
            finder: sefa, pca, svm, style_channels.
            options: options of the finder (`num_directions=5`) and other keys of the command (`attributes="my.csv"`).

        Examples:
            >>> import wplus
            >>> wplus.load("cats32").directions("sefa", num_directions=2, num_samples=100).names
            ['sefa0', 'sefa1']
        """
        self.require_latents()
        asked = {"checkpoint": self._name, "finder": finder, "seed": seed}
        cfg = configuration("directions", asked, options, section="finder")
        with float32_convolutions():
            found = found_directions(cfg, self)
        shown = {key: cfg[key] for key in ("label", "truncation_psi")}
        preview = self.edit(cfg["preview"], found, cfg["strengths"], **shown)
        return FoundDirections(found.items, found.generator, found.found, preview=preview)

    def edit(
        self, latents: AnyLatents, direction: AnyDirections, strengths: float | Sequence[float] = STRENGTHS, *,
        mode: Mode = "add", layers: str | Sequence[int] | None = None, space: str = "w",
        classifier: str | Path | None = None, **options: Any,
    ) -> Edits:  # fmt: skip
        """Move latents or images along directions, like `wplus edit`.

        Args:
            latents: the latents to edit; images are inverted into `space` first.
            direction: one or several directions, or a file of them.
            strengths: edit strengths in standard deviations of the direction.
            mode: "add" moves by the strength, "set" moves to it.
            layers: coarse, middle, fine, all, or a list of numbers; None: the direction's own.
            classifier: a file of `wplus classifier`, or "cats32_attributes"; `.measurements` then reports whether edits
                named after its factors change that factor and preserve the others.
            options: other keys of the command (`inverter="quick"`, `truncation_psi=0.5` for seeds).

        Examples:
            >>> import wplus
            >>> model = wplus.load("cats32")
            >>> found = model.directions("sefa", num_directions=1, num_samples=100)
            >>> model.edit("seed:3", found, [-2, 0, 2])
            <Edits: 3 of 32 x 32 px: seed:3 sefa0 -2, seed:3 sefa0 +0, seed:3 sefa0 +2>
        """
        self.require_latents()
        chosen = directions_of(direction, self.fingerprint)
        chosen = chosen if layers is None else [each.on(layers) for each in chosen]
        values = np.atleast_1d(np.asarray(strengths)).tolist()
        check_numbers("strengths", values)
        with folders(None) as (given, folder):
            cfg, perceptual, found, names, deltas = self._read(
                latents, given, folder, space, options, classifier=classifier
            )
            check_edits(found, self.generator, chosen, mode=mode)
            judge = named_by(cfg["classifier"], chosen, strengths=cfg["factor_strengths"])
            rows = list(edits(self, found, directions=chosen, strengths=values, mode=mode, deltas=deltas))
            measured = [] if judge is None else [
                *editability(self, found, perceptual=perceptual, directions=chosen, batch_size=cfg["batch_size"]),
                *factors_of(cfg, self, found, directions=chosen, deltas=deltas, classifier=judge)[1],
            ]  # fmt: skip
        return Edits(
            torch.cat([to_uint8(row.images).cpu() for row in rows]),
            tuple(latent for row in rows for latent in row.latents),
            tuple(f"{names[row.row]} {row.direction} {value:+g}" for row in rows for value in values),
            tuple(deltas[row.row] for row in rows for _ in values), strengths=tuple(values),
            titles=tuple(f"{names[row.row]}: {row.direction}" for row in rows), measurements=Measurements(measured),
        )  # fmt: skip

    def translate(
        self, images: AnyImages, *, direction: Direction = "forward", mode: str = "inference",
        ground_truth: AnyImages | None = None, output_dir: str | Path | None = None, **options: Any,
    ) -> Translations:  # fmt: skip
        """Translate images from one domain to another with pix2pix or CycleGAN, like `wplus translate`.

        Args:
            images: as for `invert`; "held_out" includes the ground truth, and `data="cat_domains"` selects the data.
            direction: "forward", or "backward" with a CycleGAN.
            mode: "inference", or "batch" to normalize with each image's own statistics, as pix2pix was tested.
            ground_truth: the target images, matched by name, or by order if they are in memory.
            options: other keys of the command (`resolution=256`, `fit="pad"`).

        Examples:
            >>> import wplus
            >>> translator = wplus.load("cats32_outline")
            >>> made = translator.translate("held_out", num_images=2)
            >>> made.images.shape, made.truth.shape
            (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 32, 32]))
        """
        with folders(output_dir) as (given, folder):
            source, names = image_source(images, ensure_folder(given / "images"))
            asked = {"checkpoint": self._name, "input": source, "direction": direction, "mode": mode}
            if ground_truth is not None:
                asked["ground_truth"] = image_source(ground_truth, ensure_folder(given / "truth"))[0]
            translation = translation_of(configuration("translate", asked, options), self, folder)
            return Translations.of(translation, *translation.run(), names)

    def measure(
        self, metrics: str | Sequence[str] = ("fd",), *, images: AnyImages | None = None,
        generated: AnyImages | None = None, seed: int = 0, output_dir: str | Path | None = None, **options: Any,
    ) -> Measurements:  # fmt: skip
        """Compute metrics with confidence intervals and protocols, like `wplus evaluate`.

        Args:
            metrics: fd, kd, pr, ppl_wend, factors, ...; see `wplus evaluate --help`.
            images: the real images, all of which are used (`split="all"`); None: those of the key `data`, the cats.
            generated: images to use in place of the generator's, such as samples of another model.
            output_dir: where metrics write pictures and tables; None: nowhere.
            options: options of metrics (`fd={"num_generated": 1000}`) and other keys of the command
                (`extractor="inception"`).

        Examples:
            >>> import wplus
            >>> model = wplus.load("cats32")
            >>> model.measure("ppl_wend", ppl_wend={"num_samples": 8})[0].direction
            'lower'
        """
        self.require_latents()
        names = [str(each) for each in (metrics if isinstance(metrics, list | tuple) else [metrics])]
        with folders(output_dir) as (given, folder):
            asked: dict[str, Any] = {"checkpoint": self._name, "metrics": names, "seed": seed}
            if generated is not None:
                asked["generated"] = image_source(generated, ensure_folder(given / "generated"))[0]
            if images is not None:
                asked |= as_data(image_source(images, ensure_folder(given / "real"))[0])
            cfg = configuration("evaluate", asked, options, section="metrics")
            check(cfg)
            context = context_of(cfg, self, device=self.device, folder=None if output_dir is None else folder)
            return Measurements(list(measure(context, built_metrics(cfg))))


def load(path: str | Path, device: str | torch.device = "cpu", *, needs: Sequence[str] = ()) -> Model:
    """Load a model: a file (`.safetensors`, or another project's), a folder, `cats32`, or `hub:user/name`.

    Args:
        path: see `wplus.checkpoint.load`.
        device: auto, cpu, cuda, cuda:1, mps.
        needs: networks that the checkpoint must contain, e.g. ["encoder"].

    Raises:
        UserError: the checkpoint does not exist, cannot be read, or lacks a network in `needs`.
    """
    if not isinstance(path, str | Path):
        raise UserError(f"A model is read from a path or by a name such as cats32, got {type(path).__name__}.")
    return Model.read(path, device, needs=needs)
