"""What the discriminator makes of images that it trains on, of images that it does not, and of generated ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from wplus.errors import check_number
from wplus.probes.drawing import plotted
from wplus.probes.scene import ProbeContext, Which
from wplus.training.snapshot import Picture, ProbeResult, at

SHOWN: dict[Which, tuple[str, str]] = {
    "train": ("training images", "#1f6fb4"),
    "held_out": ("held-out images", "#3a8f4d"),
    "generated": ("generated images", "#d1622b"),
}


def logits(scene: ProbeContext, *, num_images: int = 500) -> ProbeResult:
    """Histograms of the logits of as many images of each kind, in one picture and for the record; high is real.

    Values: watch/logits/<kind>_mean. The discriminator is in evaluation mode and sees no augmentation; generated images
    are those of the moving average. Held-out images that it takes for generated ones: it knows its training images
    by heart.
    """
    check_number("num_images", num_images, lowest=1, whole=True)
    kinds = [which for which in SHOWN if which != "held_out" or scene.held_out is not None]
    found = {which: scene.logits_of(which, num_images) for which in kinds}
    found = {which: each for which, each in found.items() if len(each)}
    means = {f"watch/logits/{which}_mean": float(each.mean()) for which, each in found.items()}
    caption = "logits of the discriminator (high is real); overfitted, it tells held-out images from training images"
    name = f"{at(scene.game)}-logits"
    return ProbeResult(
        [Picture(name, "samples/logits", caption, histograms(found))],
        means,
        {f"watch/logits/{which}": each for which, each in found.items()},
    )


def histograms(found: Mapping[str, Tensor]) -> Tensor:
    """Densities of the logits of each kind over each other, their means as lines: a picture (3, H, W)."""
    from matplotlib.figure import Figure

    values = {which: each.double().numpy() for which, each in found.items()}
    values = {which: each[np.isfinite(each)] for which, each in values.items()}
    values = {which: each for which, each in values.items() if len(each)}
    figure = Figure(figsize=(6.4, 3.6), dpi=100)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.15, top=0.97)
    edges = np.histogram_bin_edges(np.concatenate([*values.values(), []]), bins=50)
    for which, each in values.items():
        label, colour = SHOWN[which]  # type: ignore[index]
        axes.hist(each, edges, density=True, histtype="stepfilled", color=colour, alpha=0.3)
        axes.hist(each, edges, density=True, histtype="step", color=colour)
        axes.axvline(each.mean(), ymax=0.72, color=colour, linestyle="--", linewidth=1.2)  # below the words
        axes.plot([], [], color=colour, label=f"{label}: mean {each.mean():.2f}")
    axes.set(xlabel="logit", ylabel="density")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.35)  # room for the words
    if values:
        axes.legend(frameon=False, loc="upper left")
    return plotted(figure)
