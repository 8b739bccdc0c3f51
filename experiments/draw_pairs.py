"""A fixed list of pairs of images to compare interpolations on: `python experiments/draw_pairs.py output=FILE.json`.

See configs/draw_pairs.yaml.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from wplus.config import build, entry_point


@entry_point("draw_pairs")
def main(cfg: dict[str, Any]) -> None:
    """Writes the list; the same command writes the same file."""
    from wplus.core.runtime import resolve_device
    from wplus.evaluation.interpolation.pairs import STRATA, draw_pairs

    device = resolve_device(cfg["device"])
    cfg["data"]["resolution"] = cfg["resolution"]
    images = build(cfg["data"], split=cfg["split"])
    found = draw_pairs(
        images, num_pairs=cfg["num_pairs"], distance=build(cfg["perceptual"]), seed=cfg["seed"],
        batch_size=cfg["batch_size"], device=device, order=cfg["order"],
    )  # fmt: skip
    path = found.save(cfg["output"])
    counts = Counter(pair.stratum for pair in found.pairs)
    listed = ", ".join(f"{counts[stratum]} {stratum}" for stratum in STRATA)
    print(f"{listed} pairs of {len(images)} images: {path}")


if __name__ == "__main__":
    main()
