"""Measure an inverter by editing: `python experiments/consistency.py model=... directions=... inverter=...`.

See configs/consistency.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wplus.config import build, entry_point, record_fields

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from wplus.core.tables import Table


@entry_point("consistency")
def main(cfg: dict[str, Any]) -> float:
    """Returns the latent editing consistency of the first direction, for sweeps."""
    import wplus
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.editing.directions import load_directions
    from wplus.inversion.folder import describe

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    directions = load_directions(cfg["directions"], fingerprint=models.fingerprint).choose(cfg["direction"])
    folder, images = ensure_folder(cfg["run_dir"]), held_out_images(cfg, models)
    perceptual, inverter = build(cfg["perceptual"]).to(device), build(cfg["inverter"])
    protocol = {"inverter": describe(inverter), "space": cfg["space"], "images": images.fingerprint}
    with build(cfg["tracking"], output_dir=folder, job_type="consistency", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        tracker.use_artifact(cfg["directions"], name="directions", kind="directions")
        found = measure(cfg, models, images, directions, inverter, perceptual, protocol, folder=folder, tracker=tracker)
    print("\n".join(map(str, found)))
    print(f"Result: {folder / 'result.json'}")
    return found[0].value


def held_out_images(cfg: dict[str, Any], models: Any) -> Any:
    """The images to invert, of the generator's size."""
    from functools import partial

    from wplus.data.user_images import user_images

    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    held_out = partial(build, cfg["data"], split="held_out", resolution=size["resolution"])
    return user_images(cfg["input"], held_out=held_out, num_images=cfg["num_images"], **size)


def measure(
    cfg: dict[str, Any], models: Any, images: Any, directions: Any, inverter: Any, perceptual: Any,
    protocol: dict[str, Any], *, folder: Path, tracker: Any,
) -> list[Any]:  # fmt: skip
    """Invert, edit, invert again; the measurements, recorded, and a table of every image in the folder."""
    import torch

    from wplus.commands import codes_of
    from wplus.core.images import to_float
    from wplus.core.progress import track
    from wplus.editing.consistency import consistency, edit_errors, editability
    from wplus.editing.run import report

    batch_size = cfg["batch_size"]
    invert = codes_of(models, inverter, space=cfg["space"], perceptual=perceptual, seed=cfg["seed"])
    pixels = images.batch(torch.arange(len(images)))[0]
    device = next(models.generator.parameters()).device
    batches = [to_float(some).to(device) for some in pixels.split(batch_size)]
    ws = torch.cat([invert(batch).detach() for batch in track(batches, "Inverting (batches)")])
    edits = {direction.name: direction.shift(cfg["strength"]) for direction in directions}
    edits["no_edit"] = torch.zeros(ws.shape[1:])  # what the second inversion loses by itself
    errors = edit_errors(models.generator, ws, invert=invert, edits=edits, batch_size=batch_size)
    found = report(consistency(models, errors, edits=edits, seed=cfg["seed"], protocol=protocol), tracker)
    shared = {"perceptual": perceptual, "batch_size": batch_size, "protocol": protocol}
    found += report(editability(models, ws, directions=directions, **shared), tracker)
    edited = {f"lec_{name}_all": edit_protocol(models, shift) for name, shift in edits.items()}
    image_table(images.names, pixels, errors).write(folder, {**protocol, "instruments": edited})
    return found


def image_table(names: Sequence[str], pixels: Tensor, errors: Mapping[str, Tensor]) -> Table:
    """The errors (N,) of every edit, image by image, for comparisons with other inverters on the same pixels."""
    from wplus.core.tables import Table
    from wplus.inversion.folder import output_names, pixel_digest

    files = output_names(names)
    columns = {f"lec_{name}_all": values.tolist() for name, values in errors.items()}
    rows = {file: {column: values[row] for column, values in columns.items()} for row, file in enumerate(files)}
    return Table(rows, dict(zip(files, map(pixel_digest, pixels), strict=True)))


def edit_protocol(models: Any, shift: Tensor) -> dict[str, Any]:
    """What must be equal so that two inverters' errors under an edit can be compared."""
    from wplus.inversion.folder import pixel_digest

    return {"generator": models.fingerprint, "edit_norm": float(shift.norm()), "edit_sha256": pixel_digest(shift)}


if __name__ == "__main__":
    main()
