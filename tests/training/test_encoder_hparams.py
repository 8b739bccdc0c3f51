"""The stages on the clock, and numbers that cannot be."""

import pytest

from wplus.errors import UserError
from wplus.training.encoder_hparams import LatentDiscriminatorHparams, Progressive, make_encoder_hparams

BASE = {"hparams": {"batch_size": 8}, "loss_weights": {"l2": 1.0}, "progressive": None, "latent_discriminator": None}


@pytest.mark.parametrize(
    ("step", "stage"),
    [(0, 0), (19_999, 0), (20_000, 1), (21_999, 1), (22_000, 2), (43_999, 12), (44_000, 13), (10**6, 13)],
)
def test_the_published_stages(step, stage):
    """README of e4e at 256 px (14 codes): delta 1 at step 20,000 of 8 images, delta 13 at 44,000."""
    assert Progressive(start_kimg=160, every_kimg=16).stage(step * 8, last=13) == stage


def test_without_progress_all_deltas_take_part():
    assert make_encoder_hparams(**BASE).progressive_stage(0, last=7) == 7


def test_deltas_may_never_join():
    assert Progressive(start_kimg=None).stage(10**9, last=7) == 0


def test_a_weight_switches_the_discriminator():
    adversary = {"latent_discriminator": {"lr": 1e-3}}
    assert make_encoder_hparams(**{**BASE, **adversary}).adversary is None
    weights = {"loss_weights": {"adversarial": 0.1}}
    assert make_encoder_hparams(**{**BASE, **adversary, **weights}).adversary == LatentDiscriminatorHparams(lr=1e-3)
    with pytest.raises(UserError, match=r"^training\.loss_weights\.adversarial=0\.1 needs a latent discriminator"):
        make_encoder_hparams(**{**BASE, **weights})


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("hparams", "optimizer", "sgd", r"training\.hparams\.optimizer must be one of ranger, adamw, got 'sgd'"),
        ("hparams", "start_from", "nothing", "mean, zero, got"),
        ("hparams", "noise", "none", "random, const, got"),
        ("hparams", "lr", -1.0, r"training\.hparams\.lr must be .* at least 0, got -1\.0"),
        ("hparams", "lr", "fast", r"training\.hparams\.lr must be .*, got 'fast'"),
        ("hparams", "batch_size", 0, r"training\.hparams\.batch_size must be a whole number of at least 1, got 0"),
        ("hparams", "num_passes", 1.5, "whole number"),
        ("hparams", "ema_kimg", -2.0, r"training\.hparams\.ema_kimg"),
        ("loss_weights", "l2", -1.0, r"training\.loss_weights\.l2"),
        ("loss_weights", "l2", float("nan"), r"training\.loss_weights\.l2"),
        ("progressive", "start_kimg", -1, r"training\.progressive\.start_kimg"),
        ("progressive", "every_kimg", 0, r"training\.progressive\.every_kimg"),
        ("latent_discriminator", "styles", "all", "random, first, got"),
        ("latent_discriminator", "fakes", "mean", "with_mean, without_mean, got"),
        ("latent_discriminator", "pool_size", -1, r"latent_discriminator\.pool_size"),
        ("latent_discriminator", "r1_interval", 0, r"latent_discriminator\.r1_interval"),
        ("latent_discriminator", "beta1", 1.0, "at most 0.9999"),
    ],
)
def test_what_cannot_be(section, key, value, message):
    sections = {**BASE, "progressive": {"start_kimg": 1, "every_kimg": 1}, "latent_discriminator": {}}
    with pytest.raises(UserError, match=message):
        make_encoder_hparams(**{**sections, section: {**sections[section], key: value}})


def test_a_pool_may_be_empty():
    assert LatentDiscriminatorHparams(pool_size=0).pool_size == 0
