"""Write the report of a run's or the demo's folder: python experiments/report.py folder=runs/demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wplus.config import entry_point


@entry_point("report")
def main(cfg: dict[str, Any]) -> None:
    """Print the path of the written page."""
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


if __name__ == "__main__":
    main()
