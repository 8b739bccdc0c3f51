"""The parts of an encoder's training, completed from its generator, and its hyperparameters."""

import functools
from typing import Any

import pytest
import torch

import wplus
from wplus.models.encoders.e4e import WEncoder
from wplus.models.encoders.small import SmallEncoder
from wplus.training.encoder_hparams import LatentDiscriminatorHparams, Progressive, make_encoder_hparams

BASE = {"hparams": {"batch_size": 8}, "loss_weights": {"l2": 1.0}, "progressive": None, "latent_discriminator": None}


def choose(target: Any, **keywords: Any) -> Any:
    """As in `build`: a function that returns a partial."""
    return lambda: functools.partial(target, **keywords)


def test_the_encoder_fits_its_generator(prepare, tmp_path):
    training = prepare(encoder=choose(SmallEncoder, width=16, input_size=None))
    encoder = training.module.encoder
    assert (encoder.num_ws, encoder.w_dim, encoder.img_channels, encoder.input_size) == (8, 6, 3, 32)
    assert torch.equal(encoder.latent_avg, torch.arange(6.0).expand(8, 6))
    assert training.module.fingerprint == wplus.load(tmp_path / "model.safetensors").fingerprint
    assert (training.data.resolution, len(training.data), len(training.view.images)) == (32, 20, 4)
    assert training.module.run_fingerprint["data"] == training.data.fingerprint
    assert training.resolved["last_delta_kimg"][0] == 7
    assert training.resolved["encoder_parameters"][0] == sum(p.numel() for p in encoder.parameters())


def test_the_same_seed_gives_the_same_start(prepare):
    first, again, other = (prepare(seed=seed).module.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("encoder", "changes"),
    [
        (choose(SmallEncoder, width=16), {}),
        (choose(SmallEncoder, width=16, is_iterative=True), {"hparams": {"batch_size": 4, "num_passes": 2}}),
        (choose(WEncoder, input_size=32), {"progressive": {"start_kimg": None}}),
    ],
)
def test_every_encoder_can_be_trained(prepare, make_images, encoder, changes):
    """One step of each kind, at the size of its generator."""
    module = prepare(encoder=encoder, **changes).module
    module.run_step(*make_images(20, resolution=32).batch(torch.arange(4)), module.configure_optimizers())
    assert int(module.skipped[0]) == 0
    assert module.means.collect()["train/encoder/grad_norm"] > 0


@pytest.mark.parametrize(
    ("step", "stage"),
    [(0, 0), (19_999, 0), (20_000, 1), (21_999, 1), (22_000, 2), (43_999, 12), (44_000, 13), (10**6, 13)],
)
def test_the_published_stages(step, stage):
    """README of e4e at 256 px (14 codes): delta 1 at step 20,000 of 8 images, delta 13 at 44,000."""
    assert Progressive(start_kimg=160, every_kimg=16).stage(step * 8, last=13) == stage


def test_deltas_that_never_join_and_deltas_from_the_start():
    assert Progressive(start_kimg=None).stage(10**9, last=7) == 0
    assert make_encoder_hparams(**BASE).progressive_stage(0, last=7) == 7


def test_a_weight_switches_the_discriminator():
    adversary = {**BASE, "latent_discriminator": {"lr": 1e-3}}
    assert make_encoder_hparams(**adversary).adversary is None
    weighed = make_encoder_hparams(**{**adversary, "loss_weights": {"adversarial": 0.1}})
    assert weighed.adversary == LatentDiscriminatorHparams(lr=1e-3)
