"""The way between images or latents."""

from typing import Any

from wplus.commands.entry import entry_point
from wplus.config import build

OPTIONS = ("space", "noise", "loop", "num_frames", "alpha", "batch_size", "fps", "upscale", "frames", "num_columns")


@entry_point
def interpolate(cfg: dict[str, Any]) -> float:
    """Make a video of the way between images or latents. Returns how uneven the steps are, for sweeps."""
    from wplus.commands.common import opened, read_latents, tracking
    from wplus.interpolation.path_metrics.shape import STEP_CV
    from wplus.interpolation.retime import retimed
    from wplus.interpolation.run import check_options, interpolate, space_for_images
    from wplus.interpolation.video import table

    paths = retimed(build(cfg.get("path", {})), build(cfg.get("retime", {})))
    chosen = {key: cfg[key] for key in OPTIONS}
    check_options(paths, **{key: value for key, value in chosen.items() if key not in ("noise", "loop")})
    models, device, folder = opened(cfg)
    perceptual = build(cfg["perceptual"]).to(device)
    space = space_for_images(paths, cfg["space"])
    inputs = cfg["inputs"]
    latents, names, deltas = read_latents(cfg, inputs, models, space=space, perceptual=perceptual, at_least=2)
    judging = {"path_metrics": build(cfg.get("path_metrics", {})), "identity": build(cfg["identity"])}
    chosen |= {"paths": paths, "perceptual": perceptual, "deltas": deltas, **judging}
    with tracking(cfg, "interpolate") as tracker:
        videos = interpolate(models, latents, names=names, output_dir=folder, tracker=tracker, **chosen)
    print(table(videos))
    print(f"Video, filmstrip, plot: {folder}")
    return next(iter(videos.values())).means[STEP_CV]
