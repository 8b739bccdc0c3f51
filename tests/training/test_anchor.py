"""A generator's start from reconstructions, and the pairs that it keeps."""

import math

import pytest
import torch

from tests.fakes import random_images
from tests.training.trained import assert_gradients_close, equal, gradients, snapshot
from wplus.core.images import to_float
from wplus.core.random import rng
from wplus.errors import UserError
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.models.mapping import MappingMLP
from wplus.training.anchor import ENCODER_LR, Anchor, Pairs, fit_mapping, warm_up

SHORT = {"warmup_kimg": 0.016, "fit_steps": 3, "pool": 64}


@pytest.fixture
def anchored(make_tiny):
    """anchored(...): a tiny GAN with an anchor of these options."""

    def make(**options):
        return make_tiny(anchor=Anchor(**{**SHORT, **options}))

    return make


def test_the_mapping_finds_every_group_of_codes():
    """Two distant clusters, one with a twentieth of the codes: samples lie in both, near codes."""
    torch.manual_seed(0)
    mapping = MappingMLP(z_dim=8, c_dim=0, w_dim=4, num_ws=1, num_layers=2)
    rare = torch.arange(2000) % 20 == 0
    targets = torch.where(rare[:, None], 3.0, -1.0) + 0.1 * torch.randn(2000, 4)
    fall = fit_mapping(mapping, targets, steps=64, lr=5.0, source=rng(0, "test"))
    with torch.no_grad():
        ws = mapping.w(torch.randn(4000, 8), None)
    assert fall[-1] < 0.1 < 3 < fall[0]
    assert 0.01 < (ws.mean(dim=1) > 2).float().mean() < 0.2
    assert torch.cdist(targets, ws).amin(dim=1).max() < 1


def test_the_same_source_gives_the_same_mapping():
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        mapping = MappingMLP(z_dim=6, c_dim=0, w_dim=6, num_ws=1, num_layers=1)
        fit_mapping(mapping, torch.linspace(-1, 1, 60).view(10, 6), steps=2, lr=5.0, source=rng(3, "test"))
        found.append(snapshot(mapping))
    assert equal(*found)


def test_reconstruction_by_hand(anchored):
    """-log N(x; G(z), sigma^2) and the rate, both over the numbers of an image."""
    module = anchored(sigma=0.5, beta=2.0)
    real, noise = to_float(random_images(3).images), torch.randn(3, 6)
    loss, parts = module.anchor.reconstruction_loss(module.generator, real, noise)
    posterior = module.anchor.encoder.posterior(real)
    deviation = (posterior.log_variance / 2).exp()
    drawn = module.generator(posterior.mean + deviation * noise)
    normal = torch.distributions.Normal(drawn, 0.5).log_prob(real)
    rate = torch.distributions.kl_divergence(
        torch.distributions.Normal(posterior.mean, deviation), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(parts["train/warm_up/distortion"], -normal.mean())
    torch.testing.assert_close(parts["train/warm_up/rate"], rate.sum(dim=1).mean() / (3 * 64))
    torch.testing.assert_close(loss, -normal.mean() + 2.0 * rate.sum(dim=1).mean() / (3 * 64))


def test_pairs_by_hand(anchored):
    net = EffNetLite0Distance()
    module = anchored(weight=3.0, perceptual_weight=0.5, perceptual=net)
    pairs = Pairs(z=torch.randn(3, 6), images=to_float(random_images(3).images))
    loss, parts = module.anchor.loss(module.generator, pairs)
    drawn = module.generator(pairs.z)
    expected = 3.0 * (drawn - pairs.images).square().mean() + 0.5 * net(pairs.images, drawn).mean()
    torch.testing.assert_close(loss, expected)
    assert set(parts) == {"train/anchor/l2", "train/anchor/perceptual"}


def test_before_the_end_of_the_warm_up_nobody_judges(anchored, play):
    """Four steps of four images; encoder and generator learn with decaying rates, then the warm-up ends."""
    module = anchored()
    optimizers = module.configure_optimizers()
    judge, drawer, reader = (snapshot(part) for part in (module.discriminator, module.generator, module.anchor.encoder))
    play(module, 4, optimizers)
    assert equal(judge, snapshot(module.discriminator))
    assert not equal(drawer, snapshot(module.generator))
    assert not equal(reader, snapshot(module.anchor.encoder))
    assert not module.anchor.is_fitted
    reader = snapshot(module.anchor.encoder)
    assert module.caution == "still in its warm-up of 0.016 kimg, samples are not meaningful yet"
    play(module, 1, optimizers)
    assert module.anchor.is_fitted
    assert module.caution == ""
    assert not equal(judge, snapshot(module.discriminator))
    assert equal(reader, snapshot(module.anchor.encoder))
    rates = [group["lr"] for group in optimizers[0].param_groups]
    assert rates == pytest.approx([module.generator_lr, ENCODER_LR])
    assert {int(state["step"]) for state in optimizers[0].state.values()} == {1, 2}  # the warm-up is forgotten


def test_the_averages_begin_where_the_warm_up_ends(anchored, play):
    module = play(anchored(), 4)
    assert not equal(snapshot(module.ema), snapshot(module.generator))
    assert not warm_up(module, to_float(random_images(4).images), module.configure_optimizers()[0])
    assert equal(snapshot(module.ema), snapshot(module.generator))


def test_the_rates_of_the_warm_up():
    anchor = Anchor(warmup_kimg=1.0)
    assert [anchor.lr_factor(nimg) for nimg in (0, 750, 875, 999)] == pytest.approx([1, 1, 0.5, 0.02])


def test_every_image_gets_the_latent_that_is_nearest(anchored):
    """Among all candidates, by a slow search; the mean of w is that of the current mapping."""
    module = anchored(pool=50)
    anchor, mapping = module.anchor, module.generator.mapping
    images = to_float(anchor.data.images)
    with torch.no_grad():
        targets = mapping.w(anchor.encoder.posterior(images).mean, None)
    anchor.fit(module.generator)
    source = rng(0, "anchor")
    fit_mapping(MappingMLP(z_dim=6, c_dim=0, w_dim=6, num_ws=1, num_layers=1), targets, steps=3, lr=5.0, source=source)
    pool = torch.randn(50, 6, generator=source)
    with torch.no_grad():
        ws = mapping.w(pool, None)
    for row, target in enumerate(targets):
        nearest = min(range(50), key=lambda k: math.dist(ws[k].tolist(), target.tolist()))
        assert torch.equal(anchor.z[row], pool[nearest])
    torch.testing.assert_close(mapping.w_avg, ws.mean(dim=0))


def test_the_generator_s_gradient_is_that_of_both_losses(anchored, make_tiny, monkeypatch):
    """In addition to the adversary's, for the same draws: an anchor adds the gradient of its loss."""
    module, plain = anchored(weight=5.0), make_tiny()
    module.anchor.fit(module.generator)
    plain.generator.load_state_dict(module.generator.state_dict())
    kept, sample = [], module.anchor.sample
    monkeypatch.setattr(module.anchor, "sample", lambda batch: kept.append(sample(batch)) or kept[-1])
    images = random_images(4).images
    found = gradients(module, "generator", images, torch.zeros(4, 0))
    expected = gradients(plain, "generator", images, torch.zeros(4, 0))
    (pairs,) = kept
    assert len(pairs.z) == 2  # half of the batch
    plain.generator.zero_grad()
    (5.0 * (plain.generator(pairs.z) - pairs.images).square().mean()).backward()
    for name, parameter in plain.generator.named_parameters():
        expected[name] += 0 if parameter.grad is None else parameter.grad
    assert_gradients_close(found, expected)


def test_what_taught_the_generator_is_told(anchored):
    assert anchored(perceptual=EffNetLite0Distance()).generator.saw == ("effnet_lite0",)
    assert anchored().generator.saw == ()
    assert anchored(perceptual=EffNetLite0Distance(), perceptual_weight=0.0).generator.saw == ()


def test_a_checkpoint_has_no_pretrained_net(anchored):
    module = anchored(perceptual=EffNetLite0Distance())
    names = set(module.state_dict())
    assert "anchor.z" in names
    assert not [name for name in names if "perceptual" in name]
    anchored(perceptual=EffNetLite0Distance()).load_state_dict(module.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "stylegan2", "c_dim": 3}, "anchor is for images without labels"),
        ({"family": "r3gan", "resolution": 16}, "has a mapping network and does not grow, .* got r3gan"),
        ({"family": "stylegan1", "resolution": 16}, "does not grow, .* got stylegan1"),
    ],
)
def test_what_has_no_latents_to_find_is_refused(make_tiny, options, message):
    generator = make_tiny(**options).generator
    images = random_images(c_dim=options.get("c_dim", 0), resolution=generator.resolution)
    with pytest.raises(UserError, match=message):
        Anchor().bind(images, generator, seed=0)


@pytest.mark.parametrize(
    "option",
    [{"warmup_kimg": 0}, {"sigma": 0}, {"beta": -1}, {"weight": -1}, {"share": 2}, {"fit_steps": 0}, {"pool": 0}],
)
def test_numbers_that_cannot_be(option):
    with pytest.raises(UserError, match=rf"anchor\.{next(iter(option))} must be"):
        Anchor(**option)


def test_not_from_trained_networks(start, files):
    with pytest.raises(UserError, match="anchor has no effect on a generator that starts from trained networks"):
        start(files[0], anchor=Anchor)
