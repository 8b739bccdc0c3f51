"""Interpolation between images or latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import entry_point
from wplus.config import build

if TYPE_CHECKING:
    from wplus.interpolation.run import Filming

FILMING = ("space", "noise", "loop", "num_frames", "alpha", "batch_size", "num_columns")
WRITING = ("fps", "upscale", "frames")


@entry_point
def interpolate(cfg: dict[str, Any]) -> float:
    """Make a video of the path between images or latents. Returns the unevenness of its steps, for sweeps."""
    from wplus.commands.common import opened, read_latents, tracking
    from wplus.interpolation.path_metrics.shape import STEP_CV
    from wplus.interpolation.video import table

    filming = filming_of(cfg)
    models, device, folder = opened(cfg)
    latents, names, deltas = read_latents(cfg, cfg["inputs"], models, space=filming.space_for_images,
                                          perceptual=filming.perceptual.to(device), at_least=2)  # fmt: skip
    with tracking(cfg, "interpolate") as tracker:
        videos = filming.run(models, latents, names=names, output_dir=folder, tracker=tracker, deltas=deltas)
    print(table(videos))
    print(f"Video, filmstrip, plot: {folder}")
    return next(iter(videos.values())).means[STEP_CV]


def filming_of(cfg: Mapping[str, Any]) -> Filming:
    """Settings of the video and its measurements, checked before any latent is read."""
    from wplus.interpolation.retime import retimed
    from wplus.interpolation.run import Filming

    return Filming(
        paths=retimed(build(cfg.get("path", {})), build(cfg.get("retime", {}))), perceptual=build(cfg["perceptual"]),
        path_metrics=build(cfg.get("path_metrics", {})), identity=build(cfg["identity"]),
        writing={key: cfg[key] for key in WRITING}, **{key: cfg[key] for key in FILMING},
    )  # fmt: skip
