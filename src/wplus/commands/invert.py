"""Images to latents, and inverters side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wplus.commands.entry import entry_point
from wplus.config import build

READING = ("labels", "fit", "resize", "boxes", "masks", "bad_files")
INVERTING = ("space", "batch_size", "seed", "label", "ground_truth", "chunk_size", "video")


@entry_point
def invert(cfg: dict[str, Any]) -> float:
    """Find the latents of images; the same command continues. Returns the mean squared error, for sweeps."""
    from wplus.commands.common import images_to_invert, opened, tracking
    from wplus.core.batching import resolve_chunk_size
    from wplus.inversion.run import FolderInversion

    models, device, folder = opened(cfg)
    images, masks = images_to_invert(cfg, models, **{key: cfg[key] for key in READING})
    losses = {name: loss.to(device) for name, loss in build(cfg.get("image_loss", {})).items()}
    inversion = FolderInversion(
        images, models=models, invert=build(cfg["inverter"]), perceptual=build(cfg["perceptual"]).to(device),
        losses=losses, masks=masks, output_dir=folder, **{key: cfg[key] for key in INVERTING},
    )  # fmt: skip
    chunk_size = resolve_chunk_size(cfg["chunk_size"], models.generator.resolution, device)
    with tracking(cfg | {"num_images": len(images), "chunk_size": chunk_size}, "invert") as tracker:
        table = inversion.run(tracker)
    print(f"{table}\nInversions, latents, table: {folder}")
    return table.means["l2"].value


@entry_point
def compare(cfg: dict[str, Any]) -> None:
    """Compare folders of inversions of the same images: table, tests, pictures."""
    from wplus.commands.common import listed, tracking
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.inversion.compare import compare

    folders = labelled(listed(cfg["folders"]), None if cfg["labels"] is None else listed(cfg["labels"]))
    device, output = resolve_device(cfg["device"]), ensure_folder(cfg["run_dir"])
    tested = None if cfg["tested"] is None else listed(cfg["tested"])
    terms = {name: term.to(device) for name, term in build(cfg.get("image_loss", {})).items()}
    with tracking(cfg, "compare") as tracker:
        methods = compare(
            folders, output_dir=output, baseline=cfg["baseline"], tested=tested, terms=terms, device=device,
            batch_size=cfg["batch_size"], tracker=tracker,
        )  # fmt: skip
        tests = list(dict.fromkeys(name for each in methods.paired.values() for name in each))
        tracker.decided({"labels": list(folders), "baseline": methods.baseline, "tested": tests})
    num_images = len(methods.rows[methods.baseline])
    print(f"{methods.markdown()}\n{num_images} images in all folders. Table, tests, pictures: {output}")


def labelled(folders: Sequence[str], labels: Sequence[str] | None) -> dict[str, Path]:
    """Folders by their labels, or by their own names; UserError when these are not as many, or not different."""
    from wplus.errors import UserError

    paths = [Path(folder) for folder in folders]
    names = [path.name for path in paths] if labels is None else [str(label) for label in labels]
    if len(names) != len(paths):
        raise UserError(f"{len(names)} labels for {len(paths)} folders: give one label for each.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"Two folders are called '{twice}': give each a label of its own, labels=[...].")
    return dict(zip(names, paths, strict=True))
