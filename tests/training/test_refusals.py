"""Settings of a training that are invalid, alone or in combination: refused before any work, in one sentence."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import wplus
from tests.fakes import penalties, random_images
from tests.training.trained import CPU, EVEN, LOSS, SMALL, model, network
from wplus.config import CONFIG_FOLDER, build, composed
from wplus.core.runtime import Runtime
from wplus.data import ImageSet
from wplus.errors import UserError, check_number
from wplus.losses import adversarial
from wplus.losses.adversarial import critic_generator, logistic_discriminator, wasserstein_discriminator
from wplus.models import mlp_gan, progan, stylegan1, stylegan2
from wplus.models.encoders.e4e import GradualStyleEncoder
from wplus.models.encoders.small import SmallEncoder
from wplus.models.network import Network
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, NoAugment, ScheduledAugment
from wplus.training.augment.pipeline import Pipeline
from wplus.training.build import GanSpec, gan_training, num_micro, set_precision
from wplus.training.classifier import Schedule as ClassifierSchedule
from wplus.training.encoder_hparams import LatentDiscriminatorHparams, make_encoder_hparams
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams, auto, hparams_of, override
from wplus.training.loop import Schedule
from wplus.training.penalties import R1, R2, active_penalties
from wplus.training.progressive import growth_of
from wplus.training.transfer import Transfer
from wplus.training.validate import (
    check_augment,
    check_effect,
    check_fit,
    check_micro_batches,
    check_options,
    check_preset,
)

NUMBERS = {
    "batch_size": 4, "gamma": 0.0, "lr_generator": 1e-3, "lr_discriminator": 1e-3, "ema_kimg": 1.0, "ema_rampup": None,
    "pl_weight": 0.0, "style_mixing_prob": 0.0,
}  # fmt: skip
R1_ALONE = penalties("r1")
WGAN = penalties("gradient_penalty")


class Plain(Network):
    """Without styles."""

    num_ws = 1


class Once(Network):
    second_order = False


class Dropping(Network):
    drops_units = True


class Mixing(Network):
    batch_norm = True


def fit(generator: Any = Plain, discriminator: Any = Network, brought: Any = R1_ALONE, **numbers: Any) -> None:
    """`check_fit` of networks and the penalties of a loss."""
    hparams = Hparams(**{**NUMBERS, **numbers})
    check_fit(generator, discriminator, hparams, active_penalties(brought, hparams))


def effect(given: dict[str, Any], brought: Any = R1_ALONE, **numbers: Any) -> None:
    """`check_effect` of given numbers, beside others."""
    hparams = Hparams(**{**NUMBERS, **numbers, **{name: value for name, value in given.items() if value is not None}})
    check_effect(given, hparams, active_penalties(brought, hparams))


def growth(network: Any, **numbers: Any) -> None:
    growth_of(
        network, 16, Hparams(**{**NUMBERS, "start_resolution": 4, "stable_kimg": 1.0, "fade_kimg": 1.0, **numbers})
    )


def encoder_hparams(section: str, key: str, value: Any) -> None:
    sections = {"hparams": {"batch_size": 8}, "loss_weights": {"l2": 1.0}, "latent_discriminator": {}}
    sections["progressive"] = {"start_kimg": 1, "every_kimg": 1}
    make_encoder_hparams(**{**sections, section: {**sections[section], key: value}})


def no_data(split: str, **_: Any) -> ImageSet:
    pytest.fail("data was read")


def gan(*, parts: Any = None, loss: Any = None, **changes: Any) -> None:
    """A training that reads no data: refusals come before."""
    choices = {"preset": None, "hparams": {}, "micro_batch_size": None, "runtime": CPU, "seed": 0, "num_samples": 4}
    chosen = {**model(**SMALL), **(parts or {})}
    gan_training(**{**choices, "data": no_data, "model": lambda: chosen, "loss": loss and (lambda: loss), **changes})


def preset(name: str, network: Any) -> None:
    check_preset(composed("train", [f"training={name}"])["training"]["preset"], network)


def processes(batch: int, world: int, micro: int | None, group: int) -> int:
    return num_micro({"batch_size": (batch, ""), "mbstd_group_size": (group, "")}, world, micro)


def wgan(*brought: str) -> dict[str, Any]:
    losses = {"generator_loss": critic_generator, "discriminator_loss": wasserstein_discriminator}
    return {**losses, "penalties": penalties(*brought)}


BF16 = Runtime(device=torch.device("cuda"), precision="bf16")
Case = tuple[Callable[..., object], str]
REFUSED: list[Case] = [
    # networks, losses and numbers that do not fit each other
    (partial(fit, style_mixing_prob=0.9), r"^style_mixing_prob=0\.9 is refused: .* has no styles"),
    (partial(fit, pl_weight=2.0), r"^pl_weight=2 .* use training\.hparams\.pl_weight=0\.$"),
    (partial(fit, Once, pl_weight=2.0), "^pl_weight=2 .* cannot be differentiated twice"),
    (partial(fit, discriminator=Mixing, gamma=0.5), r"^The penalty r1 \(gamma=0\.5\) .* normalises over the batch"),
    (partial(fit, discriminator=Mixing, brought=WGAN), r"\(gp_weight=10\) .* loss=nonsaturating"),
    (partial(fit, discriminator=Mixing, brought=penalties("r1", "r2"), gamma=1.0), r"gamma=1.*hparams\.gamma=0\.$"),
    (partial(fit, discriminator=Once, gamma=0.5), r"gamma=0\.5.* cannot be differentiated twice"),
    (partial(fit, gamma=1.0, gamma_end=0.0), r"^gamma_end=0 has no effect without training\.hparams\.decay_kimg"),
    (partial(fit, decay_kimg=10.0), r"^decay_kimg=10 has no effect, .*hparams\.gamma_end, .*ema_kimg_end\.$"),
    (partial(fit, brought=WGAN, gp_weight=0.0), "^gp_weight=0 is refused with a loss that includes gradient_penalty: "),
    (partial(R1, "gama"), "^The weight of the penalty r1 must be one of batch_size, gamma, .*, got 'gama'"),
    (partial(R2, -1), "^The weight of the penalty r2 must be a number of at least 0, got -1"),
    (partial(check_micro_batches, [Plain, Mixing], 2), "^micro_batch_size is refused with the mixing of .*: it normal"),
    (partial(check_micro_batches, [Plain, Dropping], 2), "^micro_batch_size is refused with the dropping of .*: it dr"),
    (partial(check_options, "generator", partial(mlp_gan.Generator, w_dim=8)),
     r"^model\.generator\.w_dim is not an option of the generator of mlp_gan; it has z_dim, width, num_layers\.$"),
    (partial(check_augment, AdaptiveAugment(), adversarial.least_squares_discriminator),
     "^augment=ada is refused with this loss: .*to 1 and of generated ones to 0.* use augment=fixed"),
    (partial(check_augment, AdaptiveAugment(), partial(partial(wasserstein_discriminator), drift=0.001)),
     "^augment=ada is refused .* free up to a constant"),
    (partial(check_augment, AdaptiveAugment(), adversarial.relativistic_discriminator), "differences of logits alone"),
    *((partial(preset, name, other), rf"^training={name} is refused with \w+: .* or model=stylegan2\.$")
      for name in ("stylegan2", "paper256", "paper512", "paper1024", "cifar")
      for other in (progan.Generator, stylegan1.Generator)),
    # numbers that change nothing
    *((partial(effect, {name: value}, **others), f"^{name}={value:g} has no effect: {why}.*hparams.{name}=null")
      for name, value, others, why in (
          ("pl_interval", 8, {"gamma": 1.0}, "with pl_weight=0"),
          ("pl_decay", 0.1, {}, ""),
          ("pl_batch_shrink", 1, {}, ""),
          ("r1_interval", 16, {}, "there is no gradient penalty"),
          ("r1_interval", 1, {"gamma": 1.0, "brought": ()}, ""),
          ("gamma_end", 0.5, {"decay_kimg": 1.0}, ".* gamma starts at 0"),
          ("gamma_end", 0.5, {"brought": WGAN}, ""),
          ("ema_rampup", 0.05, {"ema_kimg": 0.0}, "with ema_kimg=0"))),
    (partial(growth, stylegan1.Generator, fade_kimg=None), "^stylegan1 grows .* needs training.hparams.fade_kimg;"),
    (partial(growth, stylegan2.Generator), "^start_resolution=4 has no effect: stylegan2 does not grow"),
    (partial(growth, progan.Generator, start_resolution=32), r"^start_resolution=32 is not allowed; .* 4, 8, 16\.$"),
    # numbers that cannot be
    *((partial(override, auto(32, None), {name: value}), rf"^{name} must be a (whole )?number of at least [01], got")
      for name, values in {
          "gamma": ["much", -1.0, float("nan"), float("inf"), True], "channel_max": [0, 1.5], "batch_size": [-4, 0],
          "num_mapping_layers": [[2]],
      }.items() for value in values),
    (partial(override, auto(32, None), {"gama": 1}), "^Unknown training key 'gama'; known are batch_size, channel_"),
    (partial(override, {"style_mixing_prob": (0.9, "")}, {"style_mixing_prob": 1.5}),
     r"^style_mixing_prob must be a number of at least 0 and at most 1, got 1\.5[.]$"),
    (partial(Schedule, kimg=-1), r"^schedule\.kimg must be .*, got -1"),
    (partial(Schedule, kimg=1, keep_checkpoints=0), r"^schedule\.keep_checkpoints must be .*, got 0"),
    (partial(ClassifierSchedule, kimg=0), "^kimg=0 is not allowed"),
    (partial(processes, 9, 2, None, 1), "^batch_size must be a multiple of 2, the number of processes, got 9"),
    (partial(processes, 8, 1, 3, 1), "^micro_batch_size must divide the 8 images of each process, got 3"),
    (partial(processes, 8, 1, 0, 1), "^micro_batch_size must be a whole number of at least 1, got 0"),
    (partial(processes, 8, 1, 2, 4), "^mbstd_group_size must divide the 2 images that pass the .* together, got 4"),
    # fewer images than a group would be compared with generated ones
    (partial(processes, 8, 4, None, 4), "^mbstd_group_size must divide the 2 images that pass the .* together, got 4"),
    # augmentation
    (partial(FixedAugment, 1.5), r"^augment\.p must be a number of at least 0 and at most 1, got 1\.5"),
    (partial(AdaptiveAugment, target=2), r"^augment\.target must be .*, got 2"),
    (partial(AdaptiveAugment, interval=0), r"^augment\.interval must be .*, got 0"),
    (partial(AdaptiveAugment, speed_kimg=0), r"^augment\.speed_kimg must be .*, got 0"),
    *((partial(ScheduledAugment, **{"p": 0.0, "p_end": 0.3, "decay_kimg": 1.0, name: value}), f"{name} must be .* got")
      for name, value in (("p", -0.1), ("p_end", 1.5), ("decay_kimg", -1))),
    (partial(Pipeline, "bcg"), "^transforms must be one of blit, geom, .*, got 'bcg'"),
    (partial(Pipeline, multipliers={"colour": 1}), "^A key of multipliers must be one of xflip, .*, got 'colour'"),
    (partial(Pipeline, multipliers={"hue": -1}), r"^multipliers\.hue must be .*, got -1"),
    (partial(Pipeline, strengths={"hue": 1}), "^A key of strengths must be one of xint_max, .*, got 'hue'"),
    (partial(Pipeline, strengths={"hue_max": "much"}), r"^strengths\.hue_max must be .*, got 'much'"),
    # an encoder's numbers
    *((partial(encoder_hparams, section, key, value), message) for section, key, value, message in (
        ("hparams", "optimizer", "sgd", r"^training\.hparams\.optimizer must be one of ranger, adamw, got 'sgd'"),
        ("hparams", "start_from", "nothing", "mean, zero, got"),
        ("hparams", "noise", "none", "random, const, got"),
        ("hparams", "lr", -1.0, r"^training\.hparams\.lr must be .* at least 0, got -1\.0"),
        ("hparams", "lr", "fast", r"^training\.hparams\.lr must be .*, got 'fast'"),
        ("hparams", "batch_size", 0, r"^training\.hparams\.batch_size must be a whole number of at least 1, got 0"),
        ("hparams", "num_passes", 1.5, "whole number"),
        ("hparams", "ema_kimg", -2.0, r"^training\.hparams\.ema_kimg"),
        ("loss_weights", "l2", -1.0, r"^training\.loss_weights\.l2"),
        ("loss_weights", "l2", float("nan"), r"^training\.loss_weights\.l2"),
        ("progressive", "start_kimg", -1, r"^training\.progressive\.start_kimg"),
        ("progressive", "every_kimg", 0, r"^training\.progressive\.every_kimg"),
        ("latent_discriminator", "styles", "all", "random, first, got"),
        ("latent_discriminator", "fakes", "mean", "with_mean, without_mean, got"),
        ("latent_discriminator", "pool_size", -1, r"latent_discriminator\.pool_size"),
        ("latent_discriminator", "r1_interval", 0, r"latent_discriminator\.r1_interval"),
        ("latent_discriminator", "beta1", 1.0, "at most 0.9999"))),
    # a generator's training, before data is read
    (partial(gan, parts={"discriminator": partial(Mixing)}, loss=wgan("r1")), "^The penalty r1 .*: the mixing of"),
    (partial(gan, loss=wgan("gradient_penalty"), hparams={"gp_weight": 0.0}), "^gp_weight=0 is refused with a loss"),
    (partial(gan, loss=wgan("r1"), augment=AdaptiveAugment), "^augment=ada is refused with this loss: .* up to a con"),
    (partial(gan, hparams={"stable_kimg": 2.0}), "^stable_kimg=2 has no effect: stylegan2 does not grow"),
    (partial(gan, model=None), r"needs a choice of model, such as model=stylegan2\.$"),
    (partial(gan, encoder=dict), "^encoder has no effect on a generator's training"),
    (partial(set_precision, [progan.Generator(resolution=8, **EVEN)], BF16), "^precision=bf16 is refused with the gen"),
    # a start from trained networks
    (partial(Transfer, freeze_discriminator=3), r"^transfer\.freeze_discriminator=3 would freeze layers that have lea"),
    (partial(Transfer, checkpoint=[], freeze_discriminator=3), r"have learned nothing: give transfer\.checkpoint"),
    (partial(Transfer, checkpoint="m", freeze_discriminator=-1), r"^transfer\.freeze_discriminator must be .*, got -1"),
    (partial(Transfer, checkpoint="m", freeze_discriminator=1.5), "must be a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


TAKEN: list[Callable[[], object]] = [
    fit,
    partial(fit, discriminator=Mixing),
    partial(fit, discriminator=Mixing, brought=penalties("r1", "r2")),
    partial(fit, generator=Network, gamma=1.0, pl_weight=2.0, style_mixing_prob=0.9),
    partial(fit, brought=WGAN),
    partial(fit, decay_kimg=10.0, lr_end=1e-4),
    partial(check_micro_batches, [Plain, Network], 4),
    partial(check_micro_batches, [Mixing, Dropping], 1),
    partial(check_options, "generator", partial(mlp_gan.Generator, width=8)),
    *(partial(check_augment, AdaptiveAugment(), loss) for loss in (
        logistic_discriminator, adversarial.hinge_discriminator, partial(adversarial.hinge_discriminator))),
    *(partial(check_augment, augment, adversarial.least_squares_discriminator) for augment in (
        NoAugment(), FixedAugment(0.2), ScheduledAugment(0.0, p_end=0.3, decay_kimg=1.0))),
    partial(preset, "paper256", stylegan2.Generator),
    partial(preset, "dcgan", progan.Generator),  # for all
    partial(effect, {"pl_interval": 8, "pl_decay": 0.1, "pl_batch_shrink": 1, "pl_weight": 2.0}),
    partial(effect, {"r1_interval": 4, "gamma": 1.0, "gamma_end": 0.1, "decay_kimg": 1.0}),
    partial(effect, {"r1_interval": 4}, brought=WGAN),
    partial(effect, {"ema_rampup": 0.05}),
    partial(effect, {"ema_rampup": 0.05}, ema_kimg=0.0, ema_kimg_end=1.0),
    partial(effect, {"pl_interval": None, "gamma": 0.5}, brought=WGAN),
    partial(effect, {}, pl_interval=8, gamma_end=0.5, r1_interval=2),  # a preset's own
    partial(check_number, "style_mixing_prob", 1, lowest=0, highest=1),
    partial(processes, 8, 2, 4, 4),
    partial(LatentDiscriminatorHparams, pool_size=0),
    partial(set_precision, [progan.Generator(resolution=8, **EVEN)], Runtime(device=torch.device("cuda"))),
]  # fmt: skip


@pytest.mark.parametrize("call", TAKEN)
def test_what_makes_sense_is_not(call):
    call()


def test_a_module_refuses_too(make_tiny, monkeypatch):
    module = make_tiny()
    monkeypatch.setattr(type(module.discriminator), "batch_norm", True)
    with pytest.raises(UserError, match=r"gamma=1\) is refused: the discriminator of stylegan2 normalises"):
        GanModule(module.generator, module.discriminator, hparams=module.hp, penalties=module.penalties, **LOSS)


def test_no_experiment_gives_a_number_without_effect():
    names = sorted(path.stem for path in (CONFIG_FOLDER / "experiment").glob("*.yaml"))
    every = [composed("train", [f"experiment={name}"]) for name in names]
    generators = [config for config in every if "preset" in config["training"]]
    assert len(generators) > 5
    for config in generators:
        parts, given = build(config["model"]), config["training"]["hparams"]
        settings = GanSpec(**{**parts.pop("loss"), "presets": [parts.pop("preset")], **parts}, given=given)
        hparams = hparams_of(settings.resolve(64))
        check_effect(given, hparams, active_penalties(settings.penalties, hparams))


# --- of files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "frozen", "message"),
    [
        ({"generator": progan.Generator}, 0, "holds the generator of progan, which the generator of stylegan2 cannot"),
        ({"discriminator": stylegan2.Discriminator}, 0, "^There is no generator to start from in '.*'; give a"),
        ({"generator": stylegan2.Generator, "discriminator": stylegan1.Discriminator}, 0,
         "holds the discriminator of stylegan1, which the discriminator of stylegan2 cannot start from"),
        ({"generator": stylegan2.Generator}, 2, "^There is no discriminator in '.*', so transfer.freeze_discrim"),
    ],
)  # fmt: skip
def test_trained_networks_of_another_kind(tmp_path, found, frozen, message):
    file = wplus.save(tmp_path / "m.safetensors", **{role: network(kind, 8) for role, kind in found.items()})
    with pytest.raises(UserError, match=message):
        gan(transfer=Transfer(checkpoint=file, freeze_discriminator=frozen))


def choose(target: Any, **keywords: Any) -> Callable[[], Any]:
    """As in `build`: a function that returns a partial."""
    return lambda: partial(target, **keywords)


def other_images(split: str, resolution: int) -> ImageSet:
    images = random_images(5, resolution=resolution)
    return ImageSet(images.images[:, :1], None, images.names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": None}, r"^An encoder's training needs a choice of encoder, such as encoder=small\.$"),
        ({"checkpoint": None}, r"^An encoder is trained for a generator: give .* checkpoint=model\.safetensors\.$"),
        ({"checkpoint": "nowhere.safetensors"}, "'nowhere.safetensors' does not exist"),
        ({"checkpoint": "d.safetensors"}, r"d\.safetensors' has no generator"),
        ({"checkpoint": "c.safetensors"}, "^The generator is conditional on 3 classes and the images have 0; choose"),
        ({"data": other_images}, r"^The images have 1 channel\(s\), the generator makes 3"),
        ({"model": dict}, "^model has no effect on an encoder's training, .*debug=quick_encoder"),
        ({"loss": dict}, "^loss has no effect on an encoder's training"),
        ({"transfer": Transfer(checkpoint="m")}, r"^transfer\.checkpoint has no effect on an encoder's training"),
        ({"loss_weights": {"l1": 0, "l2": 1, "lpips": 0.8}}, r"loss_weights\.lpips=0\.8 has no loss; there are l1, "),
        ({"loss_weights": {"l1": 0, "l2": 1, "perceptual": 0.8}}, r"loss_weights\.perceptual=0\.8 has no loss"),
        ({"loss_weights": {"l1": 0, "l2": 1, "adversarial": 0.1}, "latent_discriminator": None},
         r"^training\.loss_weights\.adversarial=0\.1 needs a latent discriminator"),
        ({"loss_weights": {"l1": 0}}, r"^The loss 'l2' has no weight: give \+training\.loss_weights\.l2="),
        ({"hparams": {"batch_size": 4, "num_passes": 5}}, "num_passes=5 needs an encoder that sees its .*=restyle"),
        ({"encoder": choose(GradualStyleEncoder, input_size=32)}, "^GradualStyleEncoder has no .*progressive=null"),
        ({"encoder": choose(SmallEncoder, width=7)}, "width must be .*, got 7"),
        ({"num_samples": 0}, "num_samples must be .*, got 0"),
    ],
)  # fmt: skip
def test_an_encoders_training(prepare, tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    conditional = network(stylegan2.Generator, 8, c_dim=3, w_dim=6, **SMALL)
    wplus.save(tmp_path / "c.safetensors", generator=conditional)
    wplus.save(tmp_path / "d.safetensors", discriminator=network(stylegan2.Discriminator, 8))
    with pytest.raises(UserError, match=message) as error:
        prepare(**changes)
    assert "\n" not in str(error.value)
