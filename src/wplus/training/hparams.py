"""Hyper-parameters for GAN training, and their resolution from defaults, loss, presets and user-given values.

This module does not import torch, so `python train.py ... --cfg job` can resolve the values without it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

from wplus.config import build
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError, check_number

Resolved = dict[str, tuple[Any, str]]  # name -> (value, why)
Preset = Mapping[str, Any] | Callable[[int, int | None], Resolved]
"""Published hyper-parameters: a mapping, as read from YAML, or a function of (resolution, batch size or None).

A mapping has a `name`, optionally a `family` (the only network family it applies to), and values. A value that is
itself a mapping from resolution to number is looked up at the largest resolution not above the run's. `ema_decay` is
the decay per step, given in place of `ema_kimg`.
"""


def hparam(meaning: str, default: object = MISSING, *, unit: str = "", highest: float | None = None) -> Any:
    """Declare a hyper-parameter as a dataclass field whose metadata holds its meaning, unit and highest value."""
    return field(default=default, metadata={"info": MetricInfo(meaning=meaning, unit=unit), "highest": highest})


@dataclass(frozen=True, kw_only=True)
class Hparams:
    """Hyper-parameters of `GanModule`, named as in StyleGAN2."""

    batch_size: int = hparam("Images per step over all processes and micro-batches.", unit="images")
    gamma: float = hparam("Weight of R1 and R2: the penalty is gamma/2 |dD/dx|^2.")
    lr_generator: float = hparam("Learning rate of the generator's Adam, before the correction for lazy steps.")
    lr_discriminator: float = hparam("Learning rate of the discriminator's Adam, before the correction for lazy steps.")
    ema_kimg: float = hparam("Half-life of the moving average of the generator's weights.", unit="kimg")
    ema_rampup: float | None = hparam("The half-life is at most this share of the images seen; none: no ramp-up.")
    beta1: float = hparam("Decay of Adam's first moment.", 0.0, highest=0.9999)
    beta2: float = hparam("Decay of Adam's second moment.", 0.99, highest=0.9999)
    adam_eps: float = hparam("Added by Adam to the root of the second moment.", 1e-8)
    r1_interval: int = hparam(
        "Steps between steps of the gradient penalties (lazy regularisation); 1: part of every loss.", 16, unit="steps"
    )
    gp_weight: float = hparam("Weight lambda of WGAN-GP's penalty, lambda (|dD/dx| - 1)^2.", 10.0)
    n_critic: int = hparam("Discriminator steps per generator step.", 1, unit="steps")
    pl_interval: int = hparam("Generator steps between steps of path length regularisation.", 4, unit="steps")
    pl_weight: float = hparam("Weight of path length regularisation; 0 switches it off.", 2.0)
    pl_decay: float = hparam("Weight of the newest path lengths in their running mean.", 0.01, highest=1.0)
    pl_batch_shrink: int = hparam("Path lengths are measured on one in this many images.", 2)
    style_mixing_prob: float = hparam("Probability that the styles of a batch are mixed.", 0.9, highest=1.0)
    blur_sigma: float | None = hparam(
        "Initial blur of the discriminator's inputs, in StyleGAN3's definition; none: no blur.", None, unit="px"
    )
    blur_fade_kimg: float | None = hparam("Time over which the blur fades out linearly.", None, unit="kimg")
    start_resolution: int | None = hparam("Resolution at which a progressive network starts.", None, unit="px")
    stable_kimg: float | None = hparam("Time at each resolution before the next fades in.", None, unit="kimg")
    fade_kimg: float | None = hparam("Time over which a resolution fades in.", None, unit="kimg")
    decay_kimg: float | None = hparam(
        "Time of the cosine schedule towards the final values (*_end); none: no schedule.", None, unit="kimg"
    )
    gamma_end: float | None = hparam("Final value of gamma.", None)
    lr_end: float | None = hparam("Final value of both learning rates.", None)
    beta2_end: float | None = hparam("Final value of beta2.", None, highest=0.9999)
    ema_kimg_end: float | None = hparam("Final half-life of the moving average.", None, unit="kimg")

    def at(self, nimg: int) -> Hparams:
        """Return the hyper-parameters after `nimg` images, with those that have an end value annealed towards it."""
        if self.decay_kimg is None:
            return self
        moved: dict[str, Any] = {
            name: on_cosine(getattr(self, name), getattr(self, end), nimg, decay_kimg=self.decay_kimg)
            for name, end in ENDS.items()
            if getattr(self, end) is not None
        }
        return replace(self, **moved)


ENDS = {
    "gamma": "gamma_end",
    "lr_generator": "lr_end",
    "lr_discriminator": "lr_end",
    "beta2": "beta2_end",
    "ema_kimg": "ema_kimg_end",
}
PENALTY_WEIGHTS = ("gamma", "gp_weight")  # used by penalties only
CHECKPOINT_SIZES = ("channel_base", "channel_max", "num_mapping_layers")  # options that determine tensor shapes
INFOS: dict[str, MetricInfo] = {
    **{item.name: item.metadata["info"] for item in fields(Hparams)},
    "channel_base": MetricInfo(meaning="Feature maps at resolution r: channel_base / r, at most channel_max."),
    "channel_max": MetricInfo(meaning="Maximum number of feature maps at any resolution."),
    "num_mapping_layers": MetricInfo(meaning="Layers of the mapping network.", unit="layers"),
    "mbstd_group_size": MetricInfo(
        meaning="Images that the discriminator compares in its minibatch standard deviation.", unit="images"
    ),
    "augment_speed_kimg": MetricInfo(meaning="Time for adaptive augmentation to go from p = 0 to 1.", unit="kimg"),
}
_DEFAULTS = {item.name: item.default for item in fields(Hparams) if item.default is not MISSING}
_HIGHEST = {item.name: item.metadata["highest"] for item in fields(Hparams)}
_AS_PUBLISHED = "as published"


def on_cosine(base: float, end: float, nimg: int, *, decay_kimg: float) -> float:
    """Return base + (end - base) (1 - cos(pi t)) / 2, where t is the elapsed fraction of `decay_kimg` at `nimg`."""
    t = min(nimg / (1000 * decay_kimg), 1.0) if decay_kimg else 1.0
    return base + (end - base) * ((1 - math.cos(math.pi * t)) / 2)


# --- presets --------------------------------------------------------------------------------------------------------


def auto(resolution: int, batch_size: int | None) -> Resolved:
    """StyleGAN2-ADA's `auto` preset for one device: depends on resolution and batch size, not on the device count.

    (The published formula includes the device count, so the same config would be a different experiment on another
    machine.)
    """
    batch = batch_size or min(4096 // resolution, 32)  # published for n devices: max(min(n min(4096 // r, 32), 64), n)
    return {
        "batch_size": (batch, "4096 / resolution, at most 32"),
        "gamma": (0.0002 * resolution**2 / batch, "0.0002 resolution^2 / batch"),
        "lr_generator": (0.002 if resolution >= 1024 else 0.0025, "0.002 from 1024 px, 0.0025 below"),
        "lr_discriminator": (0.002 if resolution >= 1024 else 0.0025, "0.002 from 1024 px, 0.0025 below"),
        "ema_kimg": (batch * 10 / 32, "10 kimg at batch 32, in proportion"),
        "ema_rampup": (0.05, "half-life at most 5 % of the images seen"),
        "channel_base": (32768 if resolution >= 512 else 16384, "32768 from 512 px, half below"),
        "channel_max": (512, "as published"),
        "num_mapping_layers": (2, "2 layers suffice except for the largest data sets"),
        "mbstd_group_size": (min(batch, 4), "4, or the batch where that is smaller"),
    }


def preset_numbers(preset: Preset, resolution: int, batch_size: int | None) -> Resolved:
    """Return a preset's values at this resolution; with `batch_size` None, the preset's own batch size is used.

    A value that depends on the resolution is taken at the largest listed resolution not above `resolution`, or at the
    smallest one if there is none.
    """
    if callable(preset):
        return preset(resolution, batch_size)
    numbers = {name: value for name, value in preset.items() if name not in ("name", "family")}
    for name, value in numbers.items():
        if isinstance(value, Mapping):
            numbers[name] = value[max((size for size in value if size <= resolution), default=min(value))]
    batch = batch_size or numbers.get("batch_size")
    if batch is not None:
        numbers["batch_size"] = batch
        if "mbstd_group_size" in numbers:
            numbers["mbstd_group_size"] = min(numbers["mbstd_group_size"], batch)
        if "ema_decay" in numbers:
            numbers["ema_kimg"] = batch * math.log(0.5) / math.log(numbers.pop("ema_decay")) / 1000
    if numbers.get("start_resolution") is not None:
        numbers["start_resolution"] = min(numbers["start_resolution"], resolution)
    return {name: (value, f"{preset.get('name', 'preset')}, as published") for name, value in numbers.items()}


# --- resolving all values -----------------------------------------------------------------------------------------


def resolve(
    *,
    resolution: int,
    presets: Sequence[Preset],
    given: Mapping[str, Any],
    loss: Mapping[str, Any] | None = None,
    penalty_weights: Iterable[str | float] = (),
    options: Mapping[str, Any] | None = None,
) -> Resolved:
    """Resolve every hyper-parameter, with the reason for its value.

    Precedence, lowest first: the defaults of `Hparams`, `loss`, `presets` in order, `given`.

    Args:
        given: values that override all others; None means derive.
        loss: values that the loss was published with.
        penalty_weights: weights of the loss's penalties (hyper-parameter names or numbers); all others are set to 0.
        options: keyword arguments of the networks, the generator's last; they count as given if a preset sets them.

    Raises:
        UserError: an unknown name or an invalid value.
    """
    if given.get("batch_size") is not None:
        check_number("batch_size", given["batch_size"], lowest=1, whole=True)
    batch = given.get("batch_size")
    for preset in presets if batch is None else ():
        batch = preset_numbers(preset, resolution, None).get("batch_size", (batch, ""))[0]
    resolved: Resolved = {name: (value, _AS_PUBLISHED) for name, value in _DEFAULTS.items()}
    resolved |= {name: (value, "the loss's") for name, value in (loss or {}).items()}
    for preset in presets:
        resolved |= preset_numbers(preset, resolution, batch)
    for item in fields(Hparams):
        if item.name not in resolved and given.get(item.name) is None:
            raise UserError(f"training.hparams.{item.name} must be given, because the model's preset does not set it.")
        resolved.setdefault(item.name, (given.get(item.name), "given"))
    chosen = {name: value for name, value in (options or {}).items() if name in resolved}
    resolved = override(resolved, {**given, **chosen})
    for name in sorted(set(PENALTY_WEIGHTS) - set(penalty_weights)):
        value, why = resolved[name]
        ignored = f"given as {value:g}, but " if why == "given" and value else ""
        resolved[name] = (0.0, f"{ignored}this loss has no penalty with this weight")
    return resolved


def override(resolved: Resolved, given: Mapping[str, Any]) -> Resolved:
    """Replace derived values with those that are given (not None).

    Raises UserError for an unknown name or an invalid value: below 1 for a count, negative for any other number.
    """
    unknown = sorted(set(given) - set(resolved))
    if unknown:
        raise UserError(f"Unknown training key '{unknown[0]}'; known are {', '.join(sorted(resolved))}.")
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        whole = isinstance(resolved[name][0], int)
        check_number(name, value, lowest=1 if whole else 0, highest=_HIGHEST.get(name), whole=whole)
    return {**resolved, **{name: (value, "given") for name, value in chosen.items()}}


def hparams_of(resolved: Resolved) -> Hparams:
    """Return the resolved values that configure training rather than the networks."""
    return Hparams(**{item.name: resolved[item.name][0] for item in fields(Hparams)})


# --- configurations -------------------------------------------------------------------------------------------------


def resolve_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in every hyper-parameter and derived network option of a composed `train` configuration.

    Values that only a file determines stay None, such as network sizes with `transfer.checkpoint`. A configuration of
    another kind of training, or one without a resolution, is returned unchanged. See `explain_config` for the reasons.
    """
    return filled_in(config, explain_config(config))


def filled_in(config: Mapping[str, Any], resolved: Resolved) -> dict[str, Any]:
    """Return a copy of a composed `train` configuration with the resolved values inserted."""
    filled = copy.deepcopy(dict(config))
    networks = filled.get("model") or {}
    for node in (filled["training"]["hparams"], networks.get("generator"), networks.get("discriminator")):
        if node is not None:
            node.update({name: resolved[name][0] for name in node if name in resolved})
    augment = filled.get("augment") or {}
    if "augment_speed_kimg" in resolved and augment.get("speed_kimg", 0) is None:
        augment["speed_kimg"] = resolved["augment_speed_kimg"][0]
    return filled


def explain_config(config: Mapping[str, Any]) -> Resolved:
    """Return every value that a run of this `train` configuration would use, with reasons; empty if none is derived."""
    model, training = config.get("model"), config["training"]
    resolution = config["data"].get("resolution")
    if training["_target_"].endswith(".autoencoder_training") and model is not None and "encoder" in model:
        from wplus.training.autoencoder_hparams import resolve_autoencoder

        return resolve_autoencoder(training["hparams"], model["preset"])
    if model is None or resolution is None or "preset" not in training or "discriminator" not in model:
        return {}
    transfer = bool(config["transfer"]["checkpoint"])
    presets = [build(node) for node in (model["preset"], training["preset"]) if node is not None]
    loss = config.get("loss") or (config.get("discriminator") or {}).get("loss") or model["loss"]
    resolved = resolve(
        resolution=resolution,
        presets=[*presets, _unread_checkpoint] if transfer else presets,
        given=training["hparams"],
        loss=loss.get("hparams"),
        penalty_weights=[penalty["weight"] for penalty in loss.get("penalties") or ()],
        options={**model["discriminator"], **model["generator"]},
    )
    return resolved | {"augment_speed_kimg": augment_speed(transfer=transfer)}


def _unread_checkpoint(resolution: int, batch_size: int | None) -> Resolved:
    """Placeholders for the values that `wplus.training.transfer` takes from a checkpoint not yet read."""
    why = "transfer: the checkpoint's"
    return {**transfer_rampup(), **dict.fromkeys((*CHECKPOINT_SIZES, "start_resolution"), (None, why))}


def transfer_rampup() -> Resolved:
    """Disable the EMA ramp-up, as StyleGAN2-ADA's code does when resuming."""
    return {"ema_rampup": (None, "transfer: the average starts from trained weights")}


def augment_speed(*, transfer: bool) -> tuple[float, str]:
    """Kimg for adaptive augmentation to go from p = 0 to 1 (StyleGAN2-ADA; its code with --resume), and the reason."""
    return (100.0, "transfer: faster than from scratch, as StyleGAN2-ADA") if transfer else (500.0, "as published")


def explain(resolved: Resolved) -> str:
    """Format one line per value with its reason, omitting those that neither a choice nor a preset has set."""
    return "\n".join(
        f"  {name} = {'none' if value is None else f'{value:g}'}  ({why})"
        for name, (value, why) in resolved.items()
        if (value, why) != (None, _AS_PUBLISHED)
    )


def summary(resolved: Resolved, infos: Mapping[str, MetricInfo]) -> dict[str, dict[str, Any]]:
    """Summary entries for a tracker: `derived/<name>` -> value, reason, meaning and unit."""
    return {
        f"derived/{name}": {"value": value, "protocol": {"why": why}, **asdict(infos[name])}
        for name, (value, why) in resolved.items()
    }
