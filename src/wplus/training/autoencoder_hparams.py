"""Hyper-parameters for autoencoder training; like `hparams`, this module does not import torch."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError, check_number
from wplus.training.hparams import Resolved, hparam


@dataclass(frozen=True, kw_only=True)
class AutoencoderHparams:
    """Hyper-parameters of `AutoencoderModule`; weights are relative to errors summed, not averaged, over pixels."""

    batch_size: int = hparam("Images per step over all processes.", 64, unit="images")
    lr: float = hparam("Learning rate of Adam.", 1e-3)
    beta1: float = hparam("Decay of Adam's first moment.", 0.9, highest=0.9999)
    beta2: float = hparam("Decay of Adam's second moment.", 0.999, highest=0.9999)
    ema_kimg: float = hparam("Half-life of the moving average of both networks' weights.", 1.0, unit="kimg")
    ema_rampup: float = hparam("The half-life is at most this share of the images seen.", 0.05)
    noise: float = hparam("Standard deviation of the noise on the encoder's input; white is 1, black is 0.", 0.0)
    masked: float = hparam("Share of the pixels of the encoder's input that are made black.", 0.0, highest=1.0)
    l1: float = hparam("Weight of the sum of the code's magnitudes.", 0.0)
    kl_sparsity: float = hparam("Weight of KL(rho || mean activation), summed over the code.", 0.0)
    rho: float = hparam("Target share of images for which a code dimension is active.", 0.05, highest=0.9999)
    contractive: float = hparam("Weight of the squared Frobenius norm of the encoder's Jacobian.", 0.0)
    beta: float = hparam("Weight of the rate, KL(q(z|x) || p(z)).", 1.0)
    kl_warmup_kimg: float = hparam("Time over which the weight of the rate rises linearly from 0.", 0.0, unit="kimg")
    free_bits: float = hparam("Rate of each code dimension below which it is not reduced further.", 0.0, unit="nats")
    label_weight: float = hparam("Weight of the cross-entropy of the class that the encoder predicts.", 1.0)

    def rate_weight(self, nimg: int) -> float:
        """Return the weight of the rate after `nimg` images."""
        return self.beta * min(1.0, nimg / (1000 * self.kl_warmup_kimg)) if self.kl_warmup_kimg else self.beta


_DEFAULTS = {item.name: item.default for item in fields(AutoencoderHparams) if item.default is not MISSING}
INFOS: dict[str, MetricInfo] = {
    **{item.name: item.metadata["info"] for item in fields(AutoencoderHparams)},
    "code_dim": MetricInfo(meaning="Dimensions of a code."),
    "num_parameters": MetricInfo(meaning="Weights and biases of encoder and decoder."),
}


def resolve_autoencoder(given: Mapping[str, Any], preset: Mapping[str, Any]) -> Resolved:
    """Resolve every value, with its reason; `given` overrides the model's preset, which overrides the defaults.

    Raises UserError for an unknown name or an invalid value.
    """
    named = {name: value for name, value in preset.items() if name != "name"}
    resolved: Resolved = {name: (value, "default") for name, value in _DEFAULTS.items()}
    for numbers, why in ((named, f"{preset.get('name', 'preset')}'s"), (given, "given")):
        for name, value in numbers.items():
            if name not in _DEFAULTS:
                raise UserError(f"Unknown training key '{name}'; known are {', '.join(sorted(_DEFAULTS))}.")
            if value is not None:
                resolved[name] = (value, why)
    for item in fields(AutoencoderHparams):
        whole = item.name == "batch_size"
        highest = item.metadata["highest"]
        check_number(f"training.hparams.{item.name}", resolved[item.name][0], lowest=int(whole), highest=highest,
                     whole=whole)  # fmt: skip
    return resolved


def autoencoder_hparams(resolved: Resolved) -> AutoencoderHparams:
    """Return the resolved values as hyper-parameters."""
    return AutoencoderHparams(**{name: value for name, (value, _) in resolved.items() if name in _DEFAULTS})


def check_idle(resolved: Resolved, *, variational: bool, code_activation: str, c_dim: int) -> None:
    """Raise UserError for a given value that has no effect, or one that does not suit this kind of code."""
    hparams = autoencoder_hparams(resolved)
    idle: dict[str, str] = {}
    if not variational:
        idle |= dict.fromkeys(("beta", "kl_warmup_kimg", "free_bits"), "this encoder is not variational")
    if not hparams.kl_sparsity:
        idle["rho"] = "kl_sparsity is 0"
    if not c_dim:
        idle["label_weight"] = "the images have no labels"
    if not hparams.ema_kimg:
        idle["ema_rampup"] = "with ema_kimg=0 there is no moving average"
    for name, reason in idle.items():
        if resolved[name][1] == "given":
            raise UserError(f"{name}={resolved[name][0]:g} has no effect, for {reason}; leave it out.")
    if hparams.kl_sparsity and code_activation != "sigmoid":
        raise UserError(
            f"kl_sparsity={hparams.kl_sparsity:g} needs activations from 0 to 1, "
            f"model.encoder.code_activation=sigmoid, got {code_activation}."
        )
    if hparams.kl_sparsity and not hparams.rho:
        raise UserError("rho must be above 0 if kl_sparsity has a weight: no code dimension could be active.")
    if variational and (hparams.l1 or hparams.contractive):
        name = "l1" if hparams.l1 else "contractive"
        raise UserError(
            f"{name}={getattr(hparams, name):g} is refused with a variational encoder, whose codes the rate holds; "
            "choose model=autoencoder, or the weight 0."
        )
