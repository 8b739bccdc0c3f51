"""From file to file: packed images, converted checkpoints, the report of a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wplus.commands.entry import entry_point, program


@entry_point
def report(cfg: dict[str, Any]) -> None:
    """Write report.html of a run, or of a folder with several; prints its path."""
    from wplus.tracking.report import write_report

    compare_inversions(Path(cfg["folder"]) / "invert")
    print(write_report(cfg["folder"], cfg["output"]))


def compare_inversions(folder: Path) -> None:
    """Put inversions into several spaces, or by several inverters, side by side, where they have images in common."""
    from wplus.tracking.report import inversion_names

    found = {name: latents for name in inversion_names(folder) if (latents := latent_names(folder / name))}
    if len(found) > 1 and set.intersection(*found.values()):
        from wplus.inversion.report import compare_folders  # brings torch, which the page alone does not need

        compare_folders({name: folder / name for name in found}, folder)


def latent_names(folder: Path) -> set[str]:
    """The latents below a folder of inversions."""
    return {path.relative_to(folder).as_posix() for path in (folder / "latents").rglob("*.safetensors")}


@program
def prepare(arguments: Sequence[str]) -> int:
    """Pack a folder or zip of images into the zip that StyleGAN code reads."""
    from wplus.data.prepare import main

    return main(arguments)


@program
def convert(arguments: Sequence[str]) -> int:
    """Convert checkpoints between projects, to ONNX, or to a folder with a model card."""
    from wplus.adapters.convert import main

    return main(arguments)
