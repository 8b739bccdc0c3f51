"""Reconstructions of held-out images: their errors, the bound of a variational autoencoder, and the monitor."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.probes.conftest import Pixels, make_images, make_module, nothing_held_out, numbers
from wplus.core.images import to_float
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.probes import ProbeContext, ProbeData
from wplus.probes.logits import logits
from wplus.probes.monitor import monitor
from wplus.probes.reconstructions import reconstructions
from wplus.training.autoencoder import AutoencoderModule
from wplus.training.autoencoder_hparams import AutoencoderHparams


def moment(folder: Path, held_out: Any = None, **hparams: Any) -> ProbeContext:
    """The state of an untrained autoencoder on random images, variational unless its input is corrupted."""
    torch.manual_seed(0)
    variational, size = not hparams, {"channel_base": 64, "channel_max": 8}
    decoder = Decoder(resolution=16, code_dim=4, sigma=0.5, prior="normal" if variational else "mixture", **size)
    encoder = CodeEncoder(w_dim=4, input_size=16, variational=variational, **size)
    module = AutoencoderModule(encoder, decoder, hparams=AutoencoderHparams(**hparams), data=make_images())
    held_out = held_out or (lambda: make_images(40))
    return ProbeContext(module, ProbeData(make_images(), held_out, seed=3, extractor=Pixels), folder)


@torch.no_grad()
def test_numbers_are_those_of_held_out_images(tmp_path):
    context = moment(tmp_path)
    found = reconstructions(context, num_images=40, num_columns=5)
    module, images = context.module, to_float(make_images(40).images)
    codes = module.averaged_encoder.posterior(images)
    made = module.averaged_decoder.synthesis(codes.mean[:, None])
    error = (made - images).square().mean(dim=(1, 2, 3))
    rate = kl_divergence(Normal(codes.mean, (codes.log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    values = numbers(found)
    assert list(values) == ["val/elbo", "val/rate", "val/distortion", "val/l2", "val/psnr"]
    assert values["val/l2"] == pytest.approx(float(error.mean()))
    assert values["val/psnr"] == pytest.approx(float((10 * torch.log10(4 / error)).mean()), rel=1e-5)
    assert values["val/rate"] == pytest.approx(float(rate), rel=1e-5)
    assert values["val/elbo"] == pytest.approx(-values["val/rate"] - values["val/distortion"], rel=1e-6)
    assert values == numbers(reconstructions(context, num_images=40))  # its draws are always the same
    (picture,) = found.pictures
    assert picture.name.endswith("reconstructions")


def test_a_corrupted_input_is_shown_too(tmp_path):
    plain, corrupted = (reconstructions(moment(tmp_path, masked=share), num_columns=5).pictures[0].image
                        for share in (0.0, 0.5))  # fmt: skip
    assert corrupted.shape[1] > 1.8 * plain.shape[1]


def test_without_a_decoder_that_learns_or_images_held_out_there_is_nothing(tmp_path):
    data = ProbeData(make_images(), lambda: make_images(), seed=0, extractor=Pixels)
    assert reconstructions(ProbeContext(make_module(), data, tmp_path)).pictures == ()
    assert reconstructions(moment(tmp_path, nothing_held_out)).pictures == ()


def test_without_a_discriminator_the_monitor_looks_at_the_images_alone(tmp_path):
    context = moment(tmp_path)
    found = {name.rpartition("/")[2] for name in numbers(monitor(context))}
    assert found >= {"diversity", "distinct", "distance", "recall"}
    assert not found & {"r_t", "r_v", "loss_slope"}
    assert logits(context).values == {}
