"""Edit images or latents along directions: `python experiments/edit.py model=... directions=... latents=[...]`.

See configs/edit.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wplus.config import build, entry_point, record_fields


@entry_point("edit")
def main(cfg: dict[str, Any]) -> float:
    """Returns how far pictures move for a unit of strength, mean over directions, for sweeps."""
    import wplus
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.editing.directions import load_directions
    from wplus.editing.run import edit

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    directions = load_directions(cfg["directions"], fingerprint=models.fingerprint).choose(cfg["direction"])
    directions = directions if cfg["layers"] is None else [direction.on(cfg["layers"]) for direction in directions]
    folder = ensure_folder(cfg["run_dir"])
    perceptual = build(cfg["perceptual"]).to(device)
    latents, names, deltas = codes(cfg, models, perceptual, folder)
    with build(cfg["tracking"], output_dir=folder, job_type="edit", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        tracker.use_artifact(cfg["directions"], name="directions", kind="directions")
        edit(models, latents, names=names, directions=directions, strengths=cfg["strengths"], mode=cfg["mode"],
             deltas=deltas, output_dir=folder, tracker=tracker)  # fmt: skip
        moved = distances(models, latents, directions, perceptual, tracker)
    print("\n".join(map(str, moved)))
    print(f"Strips, edited latents: {folder}")
    return sum(measurement.value for measurement in moved) / len(moved)


def codes(cfg: dict[str, Any], models: Any, perceptual: Any, folder: Path) -> tuple[Any, Any, Any]:
    """Latents of what is to be edited (images are inverted), their names, and the generator's changes for them."""
    from functools import partial

    from wplus.commands import invert_files, weight_deltas
    from wplus.latents.inputs import read_inputs

    invert = partial(
        invert_files, models=models, invert=build(cfg["inverter"]), perceptual=perceptual,
        output_dir=folder / "inversion", **{key: cfg[key] for key in ("fit", "space", "seed", "label")},
    )  # fmt: skip
    seeds = {"label": cfg["label"], "truncation_psi": cfg["truncation_psi"]}
    latents, names = read_inputs(cfg["latents"], models=models, invert=invert, **seeds)
    tuned = Path(cfg["deltas"] or folder / "inversion" / "deltas")
    return latents, names, weight_deltas(latents, names, tuned, fingerprint=models.fingerprint)


def distances(models: Any, latents: Any, directions: Any, perceptual: Any, tracker: Any) -> list[Any]:
    """How far the pictures move along every direction, recorded."""
    import torch

    from wplus.editing.consistency import editability
    from wplus.editing.run import report
    from wplus.latents.latent import ws_of

    ws = torch.stack([ws_of(latent, models.generator) for latent in latents])
    return report(editability(models, ws, directions=directions, perceptual=perceptual), tracker)


if __name__ == "__main__":
    main()
