"""Find directions in latent space: `python experiments/directions.py model=... finder=sefa`.

See configs/directions.yaml.
"""

from __future__ import annotations

from typing import Any

from wplus.config import build, entry_point, record_fields

LABELLED = ("latents", "attributes", "num_images", "batch_size")


@entry_point("directions")
def main(cfg: dict[str, Any]) -> None:
    """Writes directions.safetensors and overview.png, a picture of what each direction does."""
    from functools import partial

    import wplus
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.editing.directions import save_directions
    from wplus.editing.run import overview, report_directions
    from wplus.editing.samples import labelled_latents
    from wplus.latents.inputs import read_inputs

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    folder = ensure_folder(cfg["run_dir"])
    images = partial(build, cfg["data"], split=cfg["split"], resolution=models.generator.resolution)
    labelled = partial(labelled_latents, models, images, **{key: cfg[key] for key in LABELLED})
    seeds = {"label": cfg["label"], "truncation_psi": cfg["truncation_psi"]}
    (latent, *_), _ = read_inputs([cfg["preview"]], models=models, invert=None, **seeds)
    directions = build(cfg["finder"])(models, seed=cfg["seed"], labelled=labelled)
    with build(cfg["tracking"], output_dir=folder, job_type="directions", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        file = save_directions(folder / "directions.safetensors", directions)
        picture = overview(models, latent, list(directions), folder / "overview.png", strengths=cfg["strengths"])
        report_directions(directions, file, picture, tracker)
    print("\n".join(map(str, directions)))
    print(f"Directions: {file}, what they do: {picture}")


if __name__ == "__main__":
    main()
