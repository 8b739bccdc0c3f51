"""Inversion of images, and comparison of inverters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import entry_point
from wplus.config import build

if TYPE_CHECKING:
    from wplus.checkpoint import Models
    from wplus.inversion.run import FolderInversion

READING = ("labels", "fit", "resize", "boxes", "masks", "bad_files")
INVERTING = ("space", "batch_size", "seed", "label", "ground_truth", "chunk_size", "video")


@entry_point
def invert(cfg: dict[str, Any]) -> float:
    """Find the latents of images; repeating the command continues. Returns the mean squared error, for sweeps."""
    from wplus.commands.common import opened, tracking
    from wplus.core.batching import resolve_chunk_size

    models, device, folder = opened(cfg)
    inversion = inversion_of(cfg, models, folder)
    chunk_size = resolve_chunk_size(cfg["chunk_size"], models.generator.resolution, device)
    decided = {"num_images": len(inversion.names), "chunk_size": chunk_size, "batch_size": inversion.batch_size}
    with tracking(cfg | decided, "invert") as tracker:
        table = inversion.run(tracker)
    print(f"{table}\nInversions, latents, table: {folder}")
    return table.means["l2"].value


def inversion_of(cfg: Mapping[str, Any], models: Models, folder: Path) -> FolderInversion:
    """Set up the inversion of `input` into a folder, checked but not yet run."""
    from wplus.commands.common import images_to_invert
    from wplus.inversion.run import FolderInversion

    device = models.generator.mapping.w_avg.device
    images, masks = images_to_invert(cfg, models, **{key: cfg[key] for key in READING})
    losses = {name: loss.to(device) for name, loss in build(cfg.get("image_loss", {})).items()}
    return FolderInversion(
        images, models=models, invert=build(cfg["inverter"]), perceptual=build(cfg["perceptual"]).to(device),
        losses=losses, masks=masks, output_dir=folder, **{key: cfg[key] for key in INVERTING},
    )  # fmt: skip


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
            folders, output_dir=output, baseline=cfg["baseline"], tested=tested, margins=cfg["margins"] or {},
            terms=terms, device=device, batch_size=cfg["batch_size"], tracker=tracker,
        )  # fmt: skip
        tests = list(dict.fromkeys(name for each in methods.paired.values() for name in each))
        tracker.decided({"labels": list(folders), "baseline": methods.baseline, "tested": tests})
    rows = next(iter(methods.rows.values()))
    images = next(iter(next(iter(methods.items.values())).values())) if methods.items else rows
    print(f"{methods.markdown()}\n{len(images)} images in all folders. Table, tests, pictures: {output}")


def labelled(folders: Sequence[str], labels: Sequence[str] | None) -> dict[str, Path | dict[str, Path]]:
    """Folders by label; runs that differ only in their seed, or share a label, are seeds of one method.

    Default labels are the folders' names, or whatever varies between the runs if names were generated or there are
    several seeds. Raises UserError if the number of labels is wrong, or if two folders share label and seed.
    """
    from wplus.errors import UserError
    from wplus.sweeps.members import read_member

    paths = [Path(folder) for folder in folders]
    members = [read_member(path) for path in paths]
    names = _own_names(paths, members) if labels is None else [str(label) for label in labels]
    if len(names) != len(paths):
        raise UserError(f"{len(names)} labels for {len(paths)} folders: give one label for each.")
    found: dict[str, dict[str, Path]] = {}
    for name, path, member in zip(names, paths, members, strict=True):
        seed = str(0 if member is None else member.seed)
        if found.setdefault(name, {}).setdefault(seed, path) is not path:
            raise UserError(f"Two folders are called '{name}' and have seed {seed}: give each a label, labels=[...].")
    return {name: seeds if len(seeds) > 1 else next(iter(seeds.values())) for name, seeds in found.items()}


def _own_names(paths: Sequence[Path], members: Sequence[Any]) -> list[str]:
    from wplus.sweeps.members import names_of, varying

    own = [path.name for path in paths]
    if None in members:
        return own
    names = names_of(members, varying(members))
    is_made_up = all(path.name.startswith(f"{member.command}-") for path, member in zip(paths, members, strict=True))
    return names if is_made_up or len(set(names)) < len(names) else own
