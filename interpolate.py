"""Film the way between images or latents: `python interpolate.py model=... inputs=[a.png,b.png]`.

See configs/interpolate.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wplus.config import build, entry_point, record_fields

OPTIONS = ("space", "noise", "num_frames", "alpha", "batch_size", "fps", "upscale", "frames", "num_columns")


@entry_point("interpolate")
def main(cfg: dict[str, Any]) -> float:
    """Returns the unevenness of the steps (coefficient of variation), for sweeps."""
    from functools import partial

    import wplus
    from wplus.devices import resolve_device
    from wplus.files import ensure_folder
    from wplus.interpolation.inputs import read_key_points
    from wplus.interpolation.run import interpolate

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    folder = ensure_folder(cfg["run_dir"])
    perceptual = build(cfg["perceptual"]).to(device)
    invert = partial(invert_images, cfg, models, perceptual, folder / "inversion")
    latents, names = read_key_points(cfg["inputs"], models=models, invert=invert, label=cfg["label"])
    chosen = {"path": build(cfg["path"]), "perceptual": perceptual, **{key: cfg[key] for key in OPTIONS}}
    with build(cfg["tracking"], output_dir=folder, job_type="interpolate", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        film = interpolate(models, latents, names=names, output_dir=folder, tracker=tracker, **chosen)
    print("\n".join(f"{name} {value:.4g}" for name, value in film.values.items()))
    print(f"Film, strip, plot: {folder}")
    return film.values["step_cv"]


def invert_images(
    cfg: dict[str, Any], models: Any, perceptual: Any, folder: Path, files: list[str], names: list[str]
) -> list[Path]:
    """Latent files of image files, in a folder of inversions that the same command again finds and continues."""
    import torch

    from wplus.data import ImageSet, read_image
    from wplus.inversion.run import invert_folder
    from wplus.inversion.store import output_names

    size = {"resolution": models.generator.resolution, "channels": models.generator.img_channels}
    pixels = torch.stack([read_image(file, fit=cfg["fit"], **size) for file in files])
    options = {"space": "w" if cfg["space"] == "auto" else cfg["space"], "seed": cfg["seed"], "label": cfg["label"]}
    invert_folder(
        ImageSet(pixels, None, names), models=models, invert=build(cfg["inverter"]), perceptual=perceptual,
        output_dir=folder, **options,
    )  # fmt: skip
    return [folder / "latents" / f"{name}.safetensors" for name in output_names(names)]


if __name__ == "__main__":
    main()
