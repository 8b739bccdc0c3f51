"""The way between images or latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wplus.commands.entry import entry_point
from wplus.config import build, record_fields

OPTIONS = ("space", "noise", "loop", "num_frames", "alpha", "batch_size", "fps", "upscale", "frames", "num_columns")


@entry_point
def interpolate(cfg: dict[str, Any]) -> float:
    """Make a video of the way between images or latents. Returns how uneven the steps of the first path are, for sweeps."""
    import wplus
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.interpolation.path_metrics.shape import STEP_CV
    from wplus.interpolation.retime import retimed
    from wplus.interpolation.run import check_options, interpolate
    from wplus.interpolation.video import table

    paths = retimed(build(cfg.get("path", {})), build(cfg.get("retime", {})))
    chosen = {key: cfg[key] for key in OPTIONS}
    check_options(paths, **{key: value for key, value in chosen.items() if key not in ("noise", "loop")})
    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["checkpoint"], device, needs=["generator"])
    folder = ensure_folder(cfg["run_dir"])
    perceptual = build(cfg["perceptual"]).to(device)
    latents, names, deltas = codes(cfg, paths, models, perceptual, folder)
    judging = {"path_metrics": build(cfg.get("path_metrics", {})), "identity": build(cfg["identity"])}
    chosen |= {"paths": paths, "perceptual": perceptual, "deltas": deltas, **judging}
    with build(cfg["tracking"], output_dir=folder, job_type="interpolate", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["checkpoint"], name="model", kind="model")
        videos = interpolate(models, latents, names=names, output_dir=folder, tracker=tracker, **chosen)
    print(table(videos))
    print(f"Video, filmstrip, plot: {folder}")
    return next(iter(videos.values())).means[STEP_CV]


def codes(
    cfg: dict[str, Any], paths: dict[str, Any], models: Any, perceptual: Any, folder: Path
) -> tuple[Any, Any, Any]:
    """Latents of the key images, which are inverted; their names; and the generator's changes that belong to them."""
    from functools import partial

    from wplus.commands.common import invert_files, weight_deltas
    from wplus.interpolation.run import space_for_images
    from wplus.latents.inputs import read_inputs

    invert = partial(
        invert_files, models=models, invert=build(cfg["inverter"]), perceptual=perceptual,
        output_dir=folder / "inversion", space=space_for_images(paths, cfg["space"]),
        **{key: cfg[key] for key in ("fit", "seed", "label")},
    )  # fmt: skip
    latents, names = read_inputs(cfg["inputs"], models=models, invert=invert, label=cfg["label"], at_least=2)
    tuned = Path(cfg["deltas"] or folder / "inversion" / "deltas")
    return latents, names, weight_deltas(latents, names, tuned, fingerprint=models.fingerprint)
