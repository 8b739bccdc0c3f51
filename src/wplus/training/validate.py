"""Rejects combinations of networks, losses and hyper-parameters that make no sense together, with the reason."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from wplus.errors import UserError
from wplus.losses.adversarial import why_unsigned
from wplus.models.network import Network
from wplus.training.augment.control import AdaptiveAugment, NoAugment
from wplus.training.hparams import ENDS, Hparams, Preset
from wplus.training.penalties import Penalty

OF_THE_DATA = ("resolution", "c_dim", "img_channels")  # network options that are taken from the data


def check_fit(
    generator: type[Network], discriminator: type[Network], hparams: Hparams, penalties: Sequence[Penalty]
) -> None:
    """Raise UserError with the reason if a hyper-parameter cannot be applied to networks of these classes."""
    ends = list(dict.fromkeys(ENDS.values()))
    given = [end for end in ends if getattr(hparams, end) is not None]
    if given and hparams.decay_kimg is None:
        raise UserError(
            f"{given[0]}={getattr(hparams, given[0]):g} has no effect without training.hparams.decay_kimg, the time to "
            "get there; give both or neither."
        )
    if hparams.decay_kimg is not None and not given:
        options = ", ".join(f"training.hparams.{end}" for end in ends)
        raise UserError(
            f"decay_kimg={hparams.decay_kimg:g} has no effect, because no end value is given; give one of {options}."
        )
    if (hparams.blur_sigma is None) != (hparams.blur_fade_kimg is None) or hparams.blur_fade_kimg == 0:
        raise UserError(
            f"blur_sigma and blur_fade_kimg, above 0, must be given together, got {hparams.blur_sigma} and "
            f"{hparams.blur_fade_kimg}."
        )
    _check_styles(generator, hparams)
    for penalty in penalties:
        _check_penalty(discriminator, penalty, hparams)


def check_effect(given: Mapping[str, Any], hparams: Hparams, penalties: Sequence[Penalty]) -> None:
    """Raise UserError for a value in `given` (None: not given) that has no effect in `hparams`.

    Values from presets and losses may be unused. The weight of a penalty that the loss does not include is accepted, so
    that an experiment's gamma does not prevent trying another loss; the log says that it is not used.
    """
    idle: dict[str, str] = {}
    if not hparams.pl_weight:
        measured = ("pl_interval", "pl_decay", "pl_batch_shrink")
        idle |= dict.fromkeys(measured, "with pl_weight=0 no path lengths are measured")
    if not penalties:
        idle["r1_interval"] = "there is no gradient penalty, because the loss has none or its weight is 0"
    if all(penalty.weight != "gamma" for penalty in penalties):
        idle["gamma_end"] = "there is neither R1 nor R2, because the loss has neither or gamma starts at 0"
    if not hparams.ema_kimg and hparams.ema_kimg_end is None:
        idle["ema_rampup"] = "with ema_kimg=0 there is no moving average, and nothing to ramp up"
    for name, reason in idle.items():
        if given.get(name) is not None:
            raise UserError(f"{name}={given[name]:g} has no effect: {reason}; use training.hparams.{name}=null.")


def check_preset(preset: Preset, generator: type[Network]) -> None:
    """Raise UserError if a preset names a `family` (DCGAN's does not) and the networks belong to another one."""
    own = family_of(generator)
    if isinstance(preset, Mapping) and (family := preset.get("family")) not in (None, own):
        raise UserError(
            f"training={preset.get('name')} is refused with {own}: its numbers are those of {family}'s networks; use "
            f"training=auto, which has {own}'s own, or model={family}."
        )


def check_augment(augment: NoAugment, discriminator_loss: Callable[..., Any]) -> None:
    """Raise UserError for an augmentation driven by the sign of D(x) if, with this loss, it does not mean "real"."""
    reason = why_unsigned(discriminator_loss)
    if isinstance(augment, AdaptiveAugment) and reason is not None:
        raise UserError(
            f"augment=ada is refused with this loss: it follows the sign of the discriminator's logits, and the loss "
            f"leaves that without a meaning ({reason}); use augment=fixed, augment=scheduled or loss=nonsaturating."
        )


def check_anchor(anchor: object, source: object) -> None:
    """Raise UserError if a generator that starts from trained networks is also to be warmed up by reconstruction."""
    if anchor is not None and source is not None:
        raise UserError(
            "anchor has no effect on a generator that starts from trained networks: leave out one of the two."
        )


def check_no_loss(loss: object) -> None:
    """Raise UserError for a loss chosen together with a discriminator that has its own."""
    if loss is not None:
        raise UserError(
            "loss has no effect on a discriminator of frozen features alone, which has its own loss: leave it out, "
            "or use discriminator=aided."
        )


def check_options(role: str, part: partial) -> None:
    """Raise UserError for a network option that its class does not have, e.g. from a preset for another model."""
    assert isinstance(part.func, type)
    known = inspect.signature(part.func).parameters
    for name in part.keywords:
        if name not in known:
            chosen = ", ".join(option for option in known if option not in OF_THE_DATA)
            raise UserError(f"model.{role}.{name} is not an option of {name_of(part.func)}; it has {chosen}.")


def check_micro_batches(networks: Sequence[type[Network]], num_micro: int) -> None:
    """Raise UserError if the gradients of micro-batches do not add up to the gradient of the batch."""
    for network in networks if num_micro > 1 else ():
        if network.batch_norm or network.drops_units:
            reason = "it normalises over the batch, and its parts have statistics of their own"
            if not network.batch_norm:
                reason = "it drops units at random, in the parts of a batch other ones than in the whole"
            raise UserError(
                f"micro_batch_size is refused with {name_of(network)}: {reason}; "
                "choose a smaller training.hparams.batch_size."
            )


def name_of(network: type) -> str:
    """Return role and family, as in 'the discriminator of dcgan'."""
    return f"the {network.__name__.lower()} of {family_of(network)}"


def family_of(network: type) -> str:
    """Return the name of the module that defines a network."""
    return network.__module__.rpartition(".")[2]


def _check_styles(generator: type[Network], hparams: Hparams) -> None:
    for number in ("style_mixing_prob", "pl_weight"):
        value = getattr(hparams, number)
        if value and getattr(generator, "num_ws", None) == 1:
            raise UserError(
                f"{number}={value:g} is refused: {name_of(generator)} has no styles (w is z, the same for all layers), "
                f"so there is nothing to mix or to measure along; use training.hparams.{number}=0."
            )
    if hparams.pl_weight and not generator.second_order:
        raise UserError(
            f"pl_weight={hparams.pl_weight:g} is refused: {name_of(generator)} cannot be differentiated twice; "
            "use training.hparams.pl_weight=0."
        )


def _check_penalty(discriminator: type[Network], penalty: Penalty, hparams: Hparams) -> None:
    shown, remedy = "", "choose a loss without it"
    if isinstance(penalty.weight, str):
        shown = f" ({penalty.weight}={getattr(hparams, penalty.weight):g})"
        remedy = f"use training.hparams.{penalty.weight}=0"
    if penalty.why_needed:
        remedy = "choose another loss, such as loss=nonsaturating, or another model"
    refused = f"The penalty {penalty.name}{shown} is refused: {name_of(discriminator)}"
    if discriminator.batch_norm:
        raise UserError(
            f"{refused} normalises over the batch, so that an image's logit depends on the other images and its "
            f"gradient is not its own (Gulrajani et al. 2017, section 4); {remedy}."
        )
    if not discriminator.second_order:
        raise UserError(f"{refused} cannot be differentiated twice; {remedy}.")
