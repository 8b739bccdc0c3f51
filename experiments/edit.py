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
    from functools import partial

    import torch

    import wplus
    from wplus.commands import invert_files, weight_deltas
    from wplus.devices import resolve_device
    from wplus.editing.directions import load_directions
    from wplus.editing.editability import editability
    from wplus.editing.run import edit, report
    from wplus.files import ensure_folder
    from wplus.inputs import read_inputs
    from wplus.latents import ws_of

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    directions = load_directions(cfg["directions"], fingerprint=models.fingerprint).choose(cfg["direction"])
    directions = directions if cfg["layers"] is None else [direction.on(cfg["layers"]) for direction in directions]
    folder = ensure_folder(cfg["run_dir"])
    perceptual = build(cfg["perceptual"]).to(device)
    invert = partial(
        invert_files, models=models, invert=build(cfg["inverter"]), perceptual=perceptual,
        output_dir=folder / "inversion", **{key: cfg[key] for key in ("fit", "space", "seed", "label")},
    )  # fmt: skip
    seeds = {"label": cfg["label"], "truncation_psi": cfg["truncation_psi"]}
    latents, names = read_inputs(cfg["latents"], models=models, invert=invert, **seeds)
    tuned = Path(cfg["deltas"] or folder / "inversion" / "deltas")
    deltas = weight_deltas(latents, names, tuned, fingerprint=models.fingerprint)
    with build(cfg["tracking"], output_dir=folder, job_type="edit", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        tracker.use_artifact(cfg["directions"], name="directions", kind="directions")
        edit(models, latents, names=names, directions=directions, strengths=cfg["strengths"], mode=cfg["mode"],
             deltas=deltas, output_dir=folder, tracker=tracker)  # fmt: skip
        ws = torch.stack([ws_of(latent, models.generator) for latent in latents])
        moved = report(editability(models, ws, directions=directions, perceptual=perceptual), tracker)
    print("\n".join(map(str, moved)))
    print(f"Strips, edited latents: {folder}")
    return sum(measurement.value for measurement in moved) / len(moved)


if __name__ == "__main__":
    main()
