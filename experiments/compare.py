"""Compare folders of inversions of the same images: `python experiments/compare.py folders=[runs/a,runs/b]`.

See configs/compare.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wplus.config import build, entry_point, record_fields


@entry_point("compare")
def main(cfg: dict[str, Any]) -> None:
    """Print the table, and where it is."""
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.inversion.compare import compare

    folders = labelled(cfg["folders"], cfg["labels"])
    device, output = resolve_device(cfg["device"]), ensure_folder(cfg["run_dir"])
    terms = {name: term.to(device) for name, term in build(cfg.get("image_loss", {})).items()}
    with build(cfg["tracking"], output_dir=output, job_type="compare", **record_fields(cfg)) as tracker:
        methods = compare(
            folders, output_dir=output, baseline=cfg["baseline"], tested=cfg["tested"], terms=terms, device=device,
            batch_size=cfg["batch_size"], tracker=tracker,
        )  # fmt: skip
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


if __name__ == "__main__":
    main()
