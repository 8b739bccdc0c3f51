"""An autoencoder's training: known optima of linear networks, each term, the prior at snapshots, and refusals."""

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes import random_images
from tests.training.trained import CPU
from wplus.config import CONFIG_FOLDER, build, composed, training_of
from wplus.core.images import to_float
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.training.autoencoder import BLACK, AutoencoderModule
from wplus.training.autoencoder_hparams import AutoencoderHparams, resolve_autoencoder
from wplus.training.build_autoencoder import autoencoder_training, build_autoencoder

MODELS = sorted(
    path.stem for path in (CONFIG_FOLDER / "model").glob("*.yaml") if training_of(path.stem) == "autoencoder"
)
LINEAR = {"backbone": "mlp", "widths": ()}


def blobs(num: int = 256, *, num_factors: int = 3, noise: float = 0.02) -> ImageSet:
    """Grey images of 8 px: few factors of decreasing strength, and noise; uint8."""
    source = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(64, num_factors, generator=source))[0] * torch.tensor([4.0, 2.5, 1.5])
    pixels = torch.randn(num, num_factors, generator=source) @ axes.T * 0.25
    pixels = pixels + noise * torch.randn(num, 64, generator=source)
    images = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).view(num, 1, 8, 8)
    return ImageSet(images, None, [str(index) for index in range(num)])


def linear_module(data: ImageSet, *, variational: bool, code_dim: int, **hparams: Any) -> AutoencoderModule:
    torch.manual_seed(0)
    prior = "normal" if variational else "mixture"
    decoder = Decoder(resolution=8, img_channels=1, code_dim=code_dim, prior=prior,
                      sigma=None if variational else 1.0, **LINEAR)  # fmt: skip
    encoder = CodeEncoder(w_dim=code_dim, input_size=8, img_channels=1, variational=variational, **LINEAR)
    settings = AutoencoderHparams(**{"batch_size": len(data), "lr": 0.02, "ema_kimg": 0.0, **hparams})
    return AutoencoderModule(encoder, decoder, hparams=settings, data=data)


def run(module: AutoencoderModule, data: ImageSet, steps: int) -> None:
    images, labels = data.batch(torch.arange(len(data)))
    optimizers = module.configure_optimizers()
    for step in range(steps):
        for group, first in zip(optimizers[0].param_groups, (0.02, 0.2), strict=False):
            group["lr"] = first * min(1.0, 2 * (1 - step / steps)) + 1e-6
        module.run_step(images, labels, optimizers=optimizers)


def spectrum(data: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """Variances and directions of the pixels, largest first, in [-1, 1]."""
    pixels = to_float(data.images).flatten(1).double().numpy()
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    return values[::-1], vectors[:, ::-1]


def test_a_linear_autoencoder_finds_the_principal_components():
    """The decoder's plane is theirs, and its error is the remaining variance (Baldi and Hornik 1989)."""
    data = blobs()
    module = linear_module(data, variational=False, code_dim=3)
    run(module, data, 400)
    values, vectors = spectrum(data)
    (layer,) = [each for each in module.generator.synthesis.modules() if isinstance(each, torch.nn.Linear)]
    found = np.linalg.qr(layer.weight.detach().double().numpy())[0]
    cosines = np.linalg.svd(found.T @ vectors[:, :3])[1]  # of the principal angles
    assert cosines.min() > 0.999
    real = to_float(data.images)
    error = (module.reconstruct(real) - real).square().flatten(1).sum(dim=1).mean()
    assert float(error) == pytest.approx(values[3:].sum(), rel=0.05)


def test_a_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    """Its best ELBO is log p(x) of the factor model (Tipping and Bishop 1999; Lucas et al. 2019), a tight bound."""
    data = blobs(noise=0.1)
    module = linear_module(data, variational=True, code_dim=3)
    run(module, data, 600)
    values, _ = spectrum(data)
    left = values[3:].mean()  # the variance of the pixels' noise
    assert float(module.generator.log_sigma.detach().exp()) == pytest.approx(np.sqrt(left), rel=0.02)
    logs = np.log(values[:3]).sum() + 61 * np.log(left)
    best = -0.5 * (64 * np.log(2 * np.pi) + logs + 64)  # mean log p(x) at the maximum
    module.means.collect()
    images, labels = data.batch(torch.arange(len(data)))
    with torch.no_grad():
        losses = [float(module._loss(to_float(images), labels)) for module.images_seen in range(64)]
    assert -np.mean(losses) == pytest.approx(best, abs=0.02 * abs(best))
    assert -np.mean(losses) < best + 0.1


# --- terms ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def make(tiny_autoencoder):
    """make(case, ...): an untrained module for it."""
    return tiny_autoencoder


def logged(module: AutoencoderModule, steps: int = 40) -> dict[str, float]:
    """Logged terms after some steps on the same images."""
    images, labels = random_images(8, c_dim=module.generator.c_dim).batch(torch.arange(8))
    optimizers = module.configure_optimizers()
    for _ in range(steps):
        module.run_step(images, labels, optimizers=optimizers)
        found = module.means.collect()
    return {name.rpartition("/")[2]: value for name, value in found.items()}


@pytest.mark.parametrize(
    ("case", "weight", "term"),
    [("relu", "l1", "l1"), ("sigmoid", "kl_sparsity", "kl_sparsity"), ("sigmoid", "contractive", "contractive")],
)
def test_a_penalty_lowers_what_it_names(make, case, weight, term):
    weak, strong = (logged(make(case, **{weight: factor})) for factor in (1e-6, 30.0))
    assert strong[term] < 0.5 * weak[term]
    assert strong["distortion"] > weak["distortion"]


def test_the_rate_follows_beta_its_warmup_and_free_bits(make):
    rates = [logged(make("variational", beta=beta))["rate"] for beta in (0.1, 1.0, 10.0)]
    assert rates[0] > rates[1] > rates[2]
    hparams = AutoencoderHparams(beta=2.0, kl_warmup_kimg=0.1)
    assert [hparams.rate_weight(nimg) for nimg in (0, 50, 100, 1000)] == [0.0, 1.0, 2.0, 2.0]
    free = make("variational", beta=10.0, free_bits=0.5)
    assert logged(free, 80)["rate"] >= 0.9 * 0.5 * free.generator.code_dim > rates[2]


def test_corruption_is_of_the_input_alone_and_repeats(make):
    module, real = make("plain", noise=0.2), to_float(random_images(64).images)
    seen = module.corrupted(real)
    assert (seen - real).std() == pytest.approx(0.4, rel=0.05)
    assert torch.equal(module.corrupted(real), seen)
    module.images_seen += 4
    assert not torch.equal(module.corrupted(real), seen)
    masked = make("plain", masked=0.3).corrupted(real)
    hidden = (masked == BLACK).all(dim=1)
    assert hidden.float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(masked.movedim(1, -1)[~hidden], real.movedim(1, -1)[~hidden])


def test_the_target_is_clean():
    """A decoder that returns the clean image has only the constant error, whatever the encoder saw (Vincent et al.)."""
    data = blobs(8)
    module = linear_module(data, variational=False, code_dim=2, noise=0.5)
    real = to_float(data.images)
    module.generator.synthesis.outputs = lambda ws: real
    module._loss(real, torch.empty(8, 0))
    assert module.means.collect()["train/autoencoder/distortion"] == pytest.approx(32 * math.log(2 * math.pi))


def test_the_encoder_of_a_conditional_one_learns_to_name_the_class(make):
    module = make("variational", c_dim=3)
    assert logged(module, 150)["label"] < 0.3
    images, labels = random_images(8, c_dim=3).batch(torch.arange(8))
    named = module.averaged_encoder(to_float(images))[:, 0, -3:]
    assert (named.argmax(dim=1) == labels.argmax(dim=1)).float().mean() > 0.9


# --- at snapshots -----------------------------------------------------------------------------------------------------


def test_a_snapshot_has_the_prior_of_its_codes(make):
    """Fitted once per snapshot; after the next step it is not part of the run's state."""
    module = make("plain")
    first = module.exported["generator"]
    assert first is module.ema is module.exported["generator"]
    codes = module._codes()
    torch.testing.assert_close(first.mapping.w_avg, codes.mean(dim=0), atol=1e-4, rtol=1e-3)
    assert module.describe()["prior"] == "ten Gaussians of 40 codes"
    logged(module, 1)
    assert not module.averages["generator"].mapping.means.any()
    assert make("variational").describe()["prior"] == "standard normal"


def test_a_lost_code_leaves_the_prior_as_it_was(make):
    module = make("plain")
    for parameter in module.averaged_encoder.parameters():
        parameter.fill_(float("nan"))
    assert module.ema.mapping.means.isfinite().all()


# --- of a configuration ----------------------------------------------------------------------------------------------


@functools.cache
def config(model: str) -> dict[str, Any]:
    return composed("train", [f"model={model}"])


def training(model: str, data: ImageSet | None = None, given: Any = None, **choices: Any) -> Any:
    images = random_images(40, resolution=16) if data is None else data
    chosen = {**config(model)["training"], "hparams": {**config(model)["training"]["hparams"], **(given or {})}}
    return build(
        chosen, model=functools.partial(build, choices.pop("node", config(model)["model"])),
        data=lambda split: images, runtime=CPU, seed=0, num_samples=4, **choices,
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_a_step(model):
    """With its own hyperparameters, which the log explains; each one set by its preset has an effect."""
    found = training(model)
    module = found.module
    assert all(value == found.resolved[name][0] for name, value in config(model)["model"]["preset"].items()
               if name != "name")  # fmt: skip
    before = [parameter.detach().clone() for parameter in module.parameters()]
    assert set(logged_once(module, found.data)) >= {"loss", "distortion"}
    moved = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert set(found.infos) >= set(found.resolved)


def logged_once(module: AutoencoderModule, data: ImageSet) -> dict[str, float]:
    module.run_step(*data.batch(torch.arange(16)), optimizers=module.configure_optimizers())
    return {name.rpartition("/")[2]: value for name, value in module.means.collect().items()}


def test_models_of_every_kind_are_here():
    kinds = {"", "_overcomplete", "_sparse", "_sparse_kl", "_deep", "_conv", "_denoising", "_masking", "_contractive"}
    assert {*MODELS} >= {f"autoencoder{kind}" for kind in kinds} | {"vae"}


def labelled(labels: torch.Tensor) -> ImageSet:
    images = random_images(40, resolution=16)
    return ImageSet(images.images, labels, images.names)


def node(model: str, **generator: Any) -> dict[str, Any]:
    chosen = config(model)["model"]
    return {**chosen, "generator": {**chosen["generator"], **generator}}


REFUSED = {
    r"beta=2 has no effect, for this encoder is not variational": lambda: training("autoencoder", given={"beta": 2.0}),
    r"rho=0.1 has no effect, for kl_sparsity is 0": lambda: training("autoencoder", given={"rho": 0.1}),
    r"label_weight=2 has no effect, for the images have no": lambda: training("vae", given={"label_weight": 2.0}),
    r"ema_rampup=0.1 has no effect": lambda: training("vae", given={"ema_rampup": 0.1, "ema_kimg": 0.0}),
    r"kl_sparsity=1 needs activations from 0 to 1": lambda: training("autoencoder", given={"kl_sparsity": 1.0}),
    r"rho must be above 0": lambda: training("autoencoder_sparse_kl", given={"rho": 0.0}),
    r"l1=1 is refused with a variational encoder": lambda: training("vae", given={"l1": 1.0}),
    r"contractive=2 is refused with a variational": lambda: training("vae", given={"contractive": 2.0}),
    r"training.hparams.masked must be a number .* at most 1, got 2": lambda: training("vae", given={"masked": 2.0}),
    r"batch_size must be a whole number": lambda: training("vae", given={"batch_size": 0.5}),
    r"labels must be classes, one for each image": lambda: training("vae", labelled(torch.rand(40, 2))),
    r"likelihood=bernoulli .* black and white": lambda: training("vae", node=node("vae", likelihood="bernoulli")),
    r"loss has no effect on an autoencoder's training": lambda: training("vae", loss=dict),
    r"needs a choice of model": lambda: autoencoder_training(
        hparams={}, data=dict, model=None, runtime=CPU, seed=0, num_samples=4),
    r"trains an encoder with its decoder, which this model is not": lambda: autoencoder_training(
        hparams={}, data=dict, model=lambda: {"generator": dict}, runtime=CPU, seed=0, num_samples=4),
    r"batch_size must be a multiple of 3": lambda: build_autoencoder(
        random_images(4), None, None, resolved=resolve_autoencoder({}, {}), runtime=Runtime3),
    r"Unknown training key 'gamma'": lambda: resolve_autoencoder({"gamma": 1.0}, {}),
}  # fmt: skip
Runtime3 = type("Runtime3", (), {"world_size": 3})


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused(message):
    with pytest.raises(UserError, match=message):
        REFUSED[message]()


def test_a_gans_training_refuses_it():
    chosen = composed("train", ["model=vae", "training=dcgan"])
    with pytest.raises(UserError, match="has no discriminator .*: training=autoencoder trains it"):
        build(chosen["training"], model=functools.partial(build, chosen["model"]), loss=None, data=None, runtime=CPU,
              seed=0, num_samples=4)  # fmt: skip
