"""Properties of every family: the common interface's shapes, gradients, files, and a run that resumes bit for bit.

A family is a file of configs/model; a new one needs its smallest sizes in SMALL and is then tested like the others.
"""

import functools
import itertools
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

import wplus
from tests.fakes import gans, random_images
from wplus.config import CONFIG_FOLDER, build, plain
from wplus.core.runtime import Runtime
from wplus.data import Batches
from wplus.errors import UserError
from wplus.losses.regularisers import path_lengths, r1_penalty
from wplus.models.progressive import downsample_mean, set_lod, upsample_nearest
from wplus.training.build import GanSpec, build_gan
from wplus.training.gan import GanModule

RESOLUTION, CLASSES, SHAPE = 16, 3, (4, 3, 16, 16)
CHANNELS = ["model.generator.channel_base=64", "model.generator.channel_max=8"]
STYLES = ["model.generator.z_dim=6", "model.generator.w_dim=6", "model.generator.num_mapping_layers=2"]
SMALL = {  # the overrides that make a family small
    "dcgan": ["model.generator.z_dim=6", *CHANNELS],
    "mlp_gan": ["model.generator.z_dim=6", "model.generator.width=16", "model.discriminator.width=8"],
    "progan": ["model.generator.z_dim=6", *CHANNELS],
    "r3gan": ["model.generator.z_dim=6", *CHANNELS],
    "stylegan1": [*STYLES, *CHANNELS],
    "stylegan2": [*STYLES, *CHANNELS],
}
GROWING = ("progan", "stylegan1")
FAST = {"start_resolution": 4, "stable_kimg": 0.002, "fade_kimg": 0.006}  # growth from 4 to 16 px in four steps
FAMILIES = gans()
LOSSES = {path.stem: path for path in (CONFIG_FOLDER / "loss").glob("*.yaml")}
each_family = pytest.mark.parametrize("family", FAMILIES)
with_labels = pytest.mark.parametrize("c_dim", [0, CLASSES])


@functools.cache
def config(family: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return plain(compose("train", [f"model={family}", *SMALL[family]]))


def module(family: str, c_dim: int = 0, *, lod: float = 0.0, loss: str | None = None, **hparams: Any) -> GanModule:
    """Build the module as the command does, small, with noise and residual branches that affect its images.

    Networks that grow are at `lod`, and in training grow fast. `loss` None is the family's own.
    """
    chosen = config(family)
    if chosen["model"]["generator"]["_target_"].rsplit(".", 2)[1] in GROWING:
        hparams = {**FAST, **hparams}
    parts = build(chosen["model"])
    settings = GanSpec(
        generator=parts["generator"],
        discriminator=parts["discriminator"],
        presets=[parts["preset"]],
        given={**chosen["training"]["hparams"], "batch_size": 4, **hparams},
        **(parts["loss"] if loss is None else build(plain(OmegaConf.load(LOSSES[loss])))),
    )
    data = random_images(12, resolution=RESOLUTION, c_dim=c_dim)
    made, _ = build_gan(data, settings, runtime=Runtime(device=torch.device("cpu")))
    for network in (made.generator, made.discriminator, made.ema):
        set_lod(network, lod)
        for name, parameter in network.named_parameters():
            if "noise_strength" in name or (parameter.dim() == 4 and not parameter.any()):
                parameter.data.normal_(0.1, 0.1)
    return made


def inputs(generator: Any) -> tuple[Tensor, Tensor | None]:
    z = torch.randn(4, generator.z_dim)
    return z, torch.eye(generator.c_dim)[torch.arange(4) % generator.c_dim] if generator.c_dim else None


def play(made: GanModule, steps: int, optimizers: list[torch.optim.Optimizer] | None = None) -> None:
    data = random_images(12, resolution=RESOLUTION, c_dim=made.generator.c_dim)
    optimizers = optimizers or made.configure_optimizers()
    for batch in itertools.islice(Batches(data, 4, start_nimg=lambda: made.images_seen), steps):
        made.run_step(*batch, optimizers=optimizers)


@with_labels
@each_family
def test_the_one_interface(family, c_dim):
    """z -> ws -> image, truncation, noise, and the attributes that sampling, inversion and metrics read."""
    generator = module(family, c_dim).ema
    mapping, synthesis, (z, c) = generator.mapping, generator.synthesis, inputs(generator)
    ws = mapping(z, c)
    assert ws.shape == (4, generator.num_ws, generator.w_dim)
    assert (generator.c_dim, generator.resolution, generator.img_channels) == (c_dim, RESOLUTION, 3)
    shown, noise = synthesis(ws), synthesis.random_noise(4)
    assert shown.shape == SHAPE
    assert shown.isfinite().all()
    torch.testing.assert_close(generator(z, c), shown)
    assert [tuple(n.shape[2:]) for n in noise] == list(synthesis.noise_shapes)
    for options in ({"noise_mode": "random"}, {"noise_mode": "none"}, {"noise": noise}):
        assert torch.equal(synthesis(ws, **options), shown) == (not noise), options
    torch.testing.assert_close(synthesis(ws, noise=synthesis.const_noise()), shown)
    if c_dim:
        assert not torch.equal(generator(z, c.roll(1, 1)), shown)


@pytest.mark.parametrize("cutoff", [None, 0, 1, 4])
@each_family
def test_truncation_pulls_towards_the_mean(family, cutoff):
    """A label that is part of w stays unchanged, whether latents are truncated in z or in w."""
    generator = module(family, CLASSES).ema
    mapping, (z, c) = generator.mapping, inputs(generator)
    if family.startswith("stylegan"):
        mapping.w_avg.normal_()  # of the others it is known, and 0
    ws, truncated = mapping(z, c), mapping(z, c, truncation_psi=0.3, truncation_cutoff=cutoff)
    assert mapping.w_avg.shape == ws.shape[2:]
    assert (ws == ws[:, :1]).all()
    expected = mapping.w_avg + 0.3 * (ws - mapping.w_avg)
    if not family.startswith("stylegan"):
        expected[:, :, 6:] = c[:, None]
    torch.testing.assert_close(truncated[:, :cutoff], expected[:, :cutoff])
    assert cutoff is None or torch.equal(truncated[:, cutoff:], ws[:, cutoff:])
    assert torch.equal(mapping(z, c, truncation_psi=1.0, truncation_cutoff=cutoff), ws)
    assert torch.equal(mapping.truncate(ws, 0.3, cutoff), truncated)


@with_labels
@each_family
def test_what_does_not_fit_is_refused(family, c_dim):
    made = module(family, c_dim)
    (z, c), pixels = inputs(made.ema), torch.zeros(SHAPE)
    ws, discriminator = made.ema.mapping(z, c), made.discriminator
    refused = {
        r"z must be \(N, 6\), got \(4, 5\)": lambda: made.ema.mapping(z[:, 1:], c),
        r"ws must be \(N, \d+, \d+\), got \(4, \d+, \d+\)": lambda: made.ema.synthesis(ws[:, :, 1:]),
        r"ws must be \(N, \d+, \d+\), got \(4, \d+\)": lambda: made.ema.synthesis(ws[:, 0]),
        "noise_mode must be one of const, random, none, got 'loud'": lambda: made.ema(z, c, noise_mode="loud"),
        r"images must be \(N, 3, 16, 16\), got \(4, 3, 15, 16\)": lambda: discriminator(pixels[:, :, 1:], c),
        r"images must be \(N, 3, 16, 16\), got \(4, 1, 16, 16\)": lambda: discriminator(pixels[:, :1], c),
    }
    if c_dim:
        refused[r"labels must be \(N, 3\), got None"] = lambda: made.ema.mapping(z)
        refused[r"labels must be \(N, 3\), got \(4, 2\)"] = lambda: discriminator(pixels, c[:, 1:])
    for message, call in refused.items():
        with pytest.raises(UserError, match=f"^{message}[.]$"):
            call()


@with_labels
@each_family
def test_a_gradient_reaches_every_parameter(family, c_dim):
    """For growing networks: at one of their resolutions, or while it fades in. Labels change logits."""
    made = module(family, c_dim)
    z, c = inputs(made.generator)
    noise = made.generator.synthesis.random_noise(4)
    for lod in (0.0, 0.5, 1.5) if family in GROWING else (0.0,):
        set_lod(made.generator, lod), set_lod(made.discriminator, lod)
        images = made.generator.synthesis(made.generator.mapping(z, c), noise=noise)
        logits = made.discriminator(images, c)
        assert logits.shape == (4, 1)
        logits.square().sum().backward()
    for network in (made.generator, made.discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name
    if c_dim:
        discriminator = made.discriminator.eval()
        assert not torch.equal(discriminator(images, c.roll(1, 1)), discriminator(images, c))


@each_family
def test_images_do_not_depend_on_the_batch(family):
    """For the exported generator; in training, batch normalisation mixes the images of a batch, and declares it."""
    made = module(family)
    z, _ = inputs(made.generator)
    with torch.no_grad():
        together, alone = made.ema(z), torch.cat([made.ema(one[None]) for one in z])
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
        training = made.generator.train()
        mixed = not torch.allclose(training(z)[:2], training(z[:2]), rtol=1e-3, atol=1e-4)
    assert mixed == training.batch_norm


@each_family
def test_second_order_where_it_is_claimed(family):
    made = module(family)
    if made.discriminator.second_order:
        pixels = torch.randn(SHAPE, requires_grad=True)
        r1_penalty(made.discriminator(pixels), pixels).sum().backward()
        reached = [parameter.grad for parameter in made.discriminator.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in reached)
        assert sum(bool(gradient.any()) for gradient in reached) >= 2
    if made.generator.num_ws > 1:
        ws = made.generator.mapping(*inputs(made.generator))
        images = made.generator.synthesis(ws, noise=made.generator.synthesis.random_noise(4))
        path_lengths(images, ws, torch.randn_like(images)).square().sum().backward()
        reached = [parameter.grad for parameter in made.generator.parameters() if parameter.grad is not None]
        assert all(gradient.isfinite().all() for gradient in reached)
        assert sum(bool(gradient.any()) for gradient in reached) > len(list(made.generator.parameters())) / 2
    penalised = made.discriminator.batch_norm or not made.discriminator.second_order
    assert not (penalised and made.penalties)


@with_labels
@each_family
def test_a_file_gives_back_the_networks(family, c_dim, tmp_path):
    made = module(family, c_dim)
    play(made, 1)
    loaded = wplus.load(wplus.save(tmp_path / "m.safetensors", generator=made.ema, discriminator=made.discriminator))
    (z, c), pixels = inputs(made.generator), torch.randn(SHAPE)
    with torch.no_grad():
        assert torch.equal(loaded.generator(z, c), made.ema(z, c))
        assert torch.equal(loaded.discriminator(pixels, c), made.discriminator.eval()(pixels, c))
    assert loaded.fingerprint == wplus.checkpoint.fingerprint(made.ema)


@pytest.mark.parametrize("lod", [2.0, 1.5, 1.0, 0.5])
@pytest.mark.parametrize("family", GROWING)
def test_half_grown_networks(family, lod, tmp_path):
    """Images keep their size, with the detail of the layers in use, and a file records how far a network has grown."""
    made, size = module(family, lod=lod), 2 ** int(lod)
    z, _ = inputs(made.ema)
    images = made.ema(z)
    assert images.shape == SHAPE
    torch.testing.assert_close(upsample_nearest(downsample_mean(images, size), size), images)
    loaded = wplus.load(wplus.save(tmp_path / "m.safetensors", generator=made.ema, discriminator=made.discriminator))
    finer = torch.randn(1, *SHAPE[1:])
    finer -= upsample_nearest(downsample_mean(finer, size), size)  # means nothing to the discriminator
    with torch.no_grad():
        assert torch.equal(loaded.generator(z), images)
        assert torch.equal(loaded.discriminator(images), made.discriminator(images))
        torch.testing.assert_close(made.discriminator(images + finer), made.discriminator(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@each_family
def test_every_loss_with_every_family(family, loss):
    """Three steps with labels, or a refusal that explains why."""
    if loss == "wgan_gp" and family == "dcgan":
        with pytest.raises(UserError, match=r"gradient_penalty \(gp_weight=10\) is refused: .* normalises over the"):
            module(family, CLASSES, loss=loss)
        return
    made = module(family, CLASSES, loss=loss)
    before = {name: parameter.detach().clone() for name, parameter in made.named_parameters()}
    play(made, 3)
    assert made.skipped.tolist() == [0, 0]
    assert all(tensor.isfinite().all() for tensor in made.state_dict().values())
    for network in ("generator", "discriminator"):
        moved = [not torch.equal(before[n], p) for n, p in made.named_parameters() if n.startswith(network)]
        assert sum(moved) > len(moved) / 3, network


def test_all_families_are_here():
    assert sorted(SMALL) == FAMILIES
