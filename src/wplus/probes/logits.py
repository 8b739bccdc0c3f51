"""Discriminator logits for training images, held-out images and generated images."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.errors import check_number
from wplus.probes.probe import ProbeContext, Which
from wplus.probes.quality import Estimate
from wplus.training.snapshot import Picture, ProbeResult, at

MEANING = "The discriminator's mean logit of {}, not augmented; high is real."
KINDS: dict[Which, tuple[str, str]] = {
    "train": ("training images", "#1f6fb4"),
    "held_out": ("held-out images", "#3a8f4d"),
    "generated": ("generated images", "#d1622b"),
}


def logits(context: ProbeContext, *, num_images: int = 500) -> ProbeResult:
    """Histograms of the logits of up to `num_images` images of each kind, as one plot and as logged data.

    Values: probe/logits/<kind>_mean; high means real. The discriminator is in evaluation mode, without augmentation. If
    it takes held-out images for generated ones, it has memorised its training images.
    """
    check_number("num_images", num_images, lowest=1, whole=True)
    if not context.has_discriminator:
        return ProbeResult()
    kinds = [kind for kind in KINDS if kind != "held_out" or context.data.held_out is not None]
    found = {kind: context.logits(kind, num_images) for kind in kinds}
    found = {kind: each for kind, each in found.items() if len(each)}
    caption = "logits of the discriminator (high is real); overfitted, it tells held-out images from training images"
    info = {kind: MetricInfo(meaning=MEANING.format(KINDS[kind][0])) for kind in found}
    return ProbeResult(
        [Picture(f"{at(context.module)}-logits", "samples/logits", caption, histograms(found))],
        {f"probe/logits/{kind}_mean": (float(each.mean()), info[kind]) for kind, each in found.items()},
        {f"probe/logits/{kind}": each for kind, each in found.items()},
    )


def histograms(found: Mapping[Which, Tensor]) -> Tensor:
    """Plot overlaid densities of the logits of each kind, with lines at their means, as a uint8 image (3, H, W)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = {kind: each.double().numpy() for kind, each in found.items()}
    values = {kind: each[np.isfinite(each)] for kind, each in values.items()}
    values = {kind: each for kind, each in values.items() if len(each)}
    figure = Figure(figsize=(6.4, 3.6), dpi=100)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.1, right=0.98, bottom=0.15, top=0.97)
    edges = np.histogram_bin_edges(np.concatenate([*values.values(), []]), bins=50).tolist()
    for kind, each in values.items():
        label, colour = KINDS[kind]
        axes.hist(each, edges, density=True, histtype="stepfilled", color=colour, alpha=0.3)
        axes.hist(each, edges, density=True, histtype="step", color=colour)
        axes.axvline(each.mean(), ymax=0.72, color=colour, linestyle="--", linewidth=1.2)  # below the legend
        axes.plot([], [], color=colour, label=f"{label}: mean {each.mean():.2f}")
    axes.set(xlabel="logit", ylabel="density")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.35)  # room for the legend
    if values:
        axes.legend(frameon=False, loc="upper left")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[:, :, :3].copy()).permute(2, 0, 1)


# --- estimates with standard errors, from logits (N,) -----------------------------------------------------------------


def overfitting_estimate(
    train: Tensor, held_out: Tensor, generated: Tensor, *, num_train: int | None = None
) -> Estimate | None:
    """r_v = (E[D_train] - E[D_held_out]) / (E[D_train] - E[D_generated]) (Karras et al. 2020, arXiv:2006.06676, eq. 1).

    0: to the discriminator, unseen real images look like its training images; 1: like generated ones. None while it
    does not separate training from generated images by a margin that exceeds the spread of either with confidence:
    there is then nothing to divide by, and it has not overfitted but lost. `num_train` is the total number of training
    images: if all of them are evaluated, their mean has no error (None: `train` is a small sample).
    """
    a, h, g = (Estimate(float(x.double().mean()), _error_of_mean(x)) for x in (train, held_out, generated))
    if num_train is not None:
        a = Estimate(a.value, a.error * math.sqrt(max(0.0, 1 - len(train) / num_train)))
    margin = a.value - g.value
    spread = math.sqrt(float(train.double().var() + generated.double().var()) / 2)
    if Estimate(margin, math.hypot(a.error, g.error)).low <= spread:
        return None
    r_v = (a.value - h.value) / margin
    return Estimate(r_v, math.hypot((1 - r_v) * a.error, h.error, r_v * g.error) / margin)


def mean_sign_estimate(train: Tensor) -> Estimate:
    """r_t = E[sign D_train] (ibid., eq. 1): near 0 without overfitting; meaningful if the sign of logits is."""
    return Estimate(float(train.double().sign().mean()), _error_of_mean(train.sign()))


def slope_estimate(
    generator_loss: Callable[..., Tensor], generated: Tensor, train: Tensor, *, compares: bool
) -> Estimate | None:
    """Mean |d loss / d logit| of the generator's loss at its images, relative to that where D is undecided.

    Near 0 the gradient has vanished: the discriminator is confident and the loss is flat there, as the minimax loss is
    (Goodfellow et al. 2014, section 3). `compares`: the loss also takes logits of real images, pair by pair.
    """
    num = min(len(generated), len(train))
    fake, real = generated[:num, None].double(), train[:num, None].double()
    undecided = ((fake.mean() + real.mean()) / 2).expand_as(fake)
    slopes = _slopes(generator_loss, fake, real if compares else None)
    there = float(_slopes(generator_loss, undecided, undecided if compares else None).mean())
    return Estimate(float(slopes.mean()) / there, _error_of_mean(slopes) / there) if there > 0 else None


def hinge_estimate(train: Tensor, generated: Tensor) -> Estimate:
    """E max(0, 1 - D_train) + E max(0, 1 + D_generated) from these terms (N,) and (M,): 2 if D is undecided, 0 if it
    has won by a margin everywhere."""
    value = float(train.double().mean() + generated.double().mean())
    return Estimate(value, math.hypot(_error_of_mean(train), _error_of_mean(generated)))


def _slopes(generator_loss: Callable[..., Tensor], fake: Tensor, real: Tensor | None) -> Tensor:
    with torch.enable_grad():
        logits = fake.detach().clone().requires_grad_()
        loss = generator_loss(logits) if real is None else generator_loss(logits, real)
        return torch.autograd.grad(loss.sum(), logits)[0].abs()


def _error_of_mean(values: Tensor) -> float:
    return float(values.double().std() / math.sqrt(len(values)))
