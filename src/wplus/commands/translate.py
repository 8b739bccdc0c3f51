"""Translation of images from one domain to another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import entry_point
from wplus.config import build

if TYPE_CHECKING:
    from wplus.checkpoint import Models
    from wplus.data import ImageSet
    from wplus.evaluation.translation import FolderTranslation

READING = ("num_images", "fit", "resize", "boxes", "bad_files")


@entry_point
def translate(cfg: dict[str, Any]) -> float:
    """Translate images with pix2pix or CycleGAN; repeating the command continues. Returns the first score."""
    from wplus.checkpoint import load
    from wplus.commands.common import tracking
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device

    models = load(cfg["checkpoint"], resolve_device(cfg["device"]))
    translation = translation_of(cfg, models, ensure_folder(cfg["run_dir"]))
    decided = {"num_images": len(translation.names), "resolution": translation.images.resolution}
    with tracking(cfg | decided, "translate") as tracker:
        table, shares = translation.run(tracker)
    print("\n".join([str(table), *(f"  {share}" for share in shares)]))
    print(f"Translations, grid, table: {translation.folder}")
    return table.means[table.columns[-1] if translation.truth is None else "l1"].value


def translation_of(cfg: Mapping[str, Any], models: Models, folder: Path) -> FolderTranslation:
    """Set up the translation of `input` into a folder, checked but not yet run."""
    from wplus.evaluation.translation import FolderTranslation, translator_of
    from wplus.evaluation.translation_scores import Judges

    network = translator_of(models, cfg["direction"])
    device = next(network.parameters()).device
    channels = (network.in_channels, network.img_channels)
    images, truth = images_and_truth(cfg, resolution=resolution_of(cfg, models), channels=channels)
    judges = Judges()
    if truth is not None:
        classifier = build(cfg["classifier"]) if cfg["classifier"] is not None and truth.attributes else None
        terms = {"perceptual": build(cfg["perceptual"]).to(device)} if cfg["perceptual"] else {}
        judges = Judges(terms, classifier if classifier is None else classifier.to(device))
    return FolderTranslation(
        images, models=models, truth=truth, judges=judges, output_dir=folder,
        **{key: cfg[key] for key in ("direction", "mode", "batch_size")},
    )  # fmt: skip


def resolution_of(cfg: Mapping[str, Any], models: Models) -> int:
    """The resolution for translation: as given, else that of the training, else 256 px, as published."""
    trained = models.metadata.get("data", {}).get("resolution") if isinstance(models.metadata, dict) else None
    return cfg["resolution"] or trained or 256


def images_and_truth(cfg: Mapping[str, Any], *, resolution: int, channels: tuple[int, int]) -> tuple[Any, Any]:
    """`input` and its ground truth, if the data or a folder provide it; `channels` are those before and after."""
    from wplus.data.domains import TwoDomains
    from wplus.data.user_images import HELD_OUT, user_images

    found: list[Any] = []

    def held_out() -> Any:
        found.append(build(cfg["data"], split="held_out", resolution=resolution))
        return found[0].side(cfg["direction"])[0] if isinstance(found[0], TwoDomains) else found[0]

    size: dict[str, Any] = {"resolution": resolution, "held_out": held_out}
    images = user_images(cfg["input"], channels=channels[0], **size, **{key: cfg[key] for key in READING})
    reading = {key: cfg[key] for key in ("fit", "resize")}
    if cfg["ground_truth"] is not None:
        truth = user_images(cfg["ground_truth"], channels=channels[1], **size, **reading)
        return images, partner_of(images, truth, str(cfg["ground_truth"]))
    if str(cfg["input"]) != HELD_OUT or not isinstance(found[0], TwoDomains):
        return images, None
    known = found[0].side(cfg["direction"])[1]
    return images, None if known is None else partner_of(images, known, "data")


def partner_of(images: ImageSet, truth: ImageSet, source: str) -> ImageSet:
    """The images of `truth` with the same names as `images`, in their order; UserError if one is missing."""
    import torch

    from wplus.data.names import without_extension
    from wplus.errors import UserError

    rows = {without_extension(name): row for row, name in enumerate(truth.names)}
    missing = [name for name in images.names if without_extension(name) not in rows]
    if missing:
        raise UserError(f"{len(missing)} image(s) have no counterpart of the same name in '{source}', the first is "
                        f"'{missing[0]}'.")  # fmt: skip
    return truth.subset(torch.tensor([rows[without_extension(name)] for name in images.names]))
