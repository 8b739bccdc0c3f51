"""Measure an inverter by editing: `python experiments/consistency.py model=... directions=... inverter=...`.

See configs/consistency.yaml.
"""

from __future__ import annotations

from typing import Any

from wplus.config import build, entry_point, record_fields


@entry_point("consistency")
def main(cfg: dict[str, Any]) -> float:
    """Returns the latent editing consistency of the first direction, for sweeps."""
    from functools import partial

    import torch

    import wplus
    from wplus.commands import codes_of
    from wplus.data.chosen import chosen_images
    from wplus.devices import resolve_device
    from wplus.editing.consistency import consistency
    from wplus.editing.directions import load_directions
    from wplus.editing.editability import editability
    from wplus.editing.run import report
    from wplus.files import ensure_folder
    from wplus.images import to_float
    from wplus.inversion.settings import describe
    from wplus.progress import track

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    directions = load_directions(cfg["directions"], fingerprint=models.fingerprint).choose(cfg["direction"])
    folder = ensure_folder(cfg["run_dir"])
    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    held_out = partial(build, cfg["data"], split="held_out", resolution=size["resolution"])
    images = chosen_images(cfg["input"], held_out=held_out, num_images=cfg["num_images"], **size)
    perceptual, inverter = build(cfg["perceptual"]).to(device), build(cfg["inverter"])
    invert = codes_of(models, inverter, space=cfg["space"], perceptual=perceptual, seed=cfg["seed"])
    batches = [
        to_float(images.batch(some)[0]).to(device) for some in torch.arange(len(images)).split(cfg["batch_size"])
    ]
    ws = torch.cat([invert(batch).detach() for batch in track(batches, "Inverting (batches)")])
    edits = {direction.name: direction.shift(cfg["strength"]) for direction in directions}
    edits["no_edit"] = torch.zeros(ws.shape[1:])  # what the second inversion loses by itself
    protocol = {"inverter": describe(inverter), "space": cfg["space"], "images": images.fingerprint}
    shared = {"batch_size": cfg["batch_size"], "protocol": protocol}
    with build(cfg["tracking"], output_dir=folder, job_type="consistency", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        tracker.use_artifact(cfg["directions"], name="directions", kind="directions")
        found = report(consistency(models, ws, invert=invert, edits=edits, **shared), tracker)
        found += report(editability(models, ws, directions=directions, perceptual=perceptual, **shared), tracker)
    print("\n".join(map(str, found)))
    print(f"Result: {folder / 'result.json'}")
    return found[0].value


if __name__ == "__main__":
    main()
