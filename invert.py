"""Images -> latent codes: `python invert.py model=model.safetensors input=my/images`. The same command continues.

See configs/invert.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wplus.config import build, entry_point, record_fields

if TYPE_CHECKING:
    from pathlib import Path

    from wplus.inversion.run import FolderInversion

READING = ("num_images", "labels", "fit", "resize", "boxes", "masks", "bad_files")
INVERTING = ("space", "batch_size", "seed", "label", "truth", "video")


@entry_point("invert")
def main(cfg: dict[str, Any]) -> float:
    """Returns the mean squared error of the inversions, for sweeps."""
    import wplus
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    folder = ensure_folder(cfg["run_dir"])
    inversion = prepared(cfg, models, device, folder)
    tracker = build(cfg["tracking"], output_dir=folder, job_type="invert", **record_fields(cfg))
    try:
        with tracker:
            tracker.use_artifact(cfg["model"], name="model", kind="model")
            table = inversion.run(tracker)
    except KeyboardInterrupt:
        raise SystemExit(f"Interrupted: what is done is in {folder}, the same command goes on from there.") from None
    print(f"{table}\nInversions, latents, table: {folder}")
    return table.means()["l2"].value


def prepared(cfg: dict[str, Any], models: Any, device: Any, folder: Path) -> FolderInversion:
    """The images, the inverter and what judges the result."""
    from functools import partial

    from wplus.data.user_images import user_images_with_masks
    from wplus.inversion.run import FolderInversion

    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    held_out = partial(build, cfg["data"], split="held_out", resolution=size["resolution"])
    images, masks = user_images_with_masks(
        cfg["input"], held_out=held_out, **size, **{key: cfg[key] for key in READING}
    )
    perceptual = build(cfg["perceptual"]).to(device)
    losses = {name: loss.to(device) for name, loss in build(cfg.get("image_loss", {})).items()}
    return FolderInversion(
        images, models=models, invert=build(cfg["inverter"]), perceptual=perceptual, losses=losses, masks=masks,
        output_dir=folder, **{key: cfg[key] for key in INVERTING},
    )  # fmt: skip


if __name__ == "__main__":
    main()
