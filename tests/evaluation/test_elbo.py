"""Bounds of a linear-Gaussian model with a known log-likelihood; and refusals."""

import math
from functools import partial

import pytest
import torch

from tests.evaluation.coded import coded_context, frozen, grey_images, linear_gaussian, log_likelihood
from tests.fakes import measured
from wplus.checkpoint import Models
from wplus.core.images import to_float
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.elbo import elbo
from wplus.models.autoencoder import CodeEncoder, Decoder


def test_with_the_exact_posterior_every_bound_is_the_likelihood():
    """Whatever is drawn: p(x, z) / q(z|x) is p(x) for every z, so that one draw is enough for iwae."""
    models = linear_gaussian()
    found = measured(coded_context(models), elbo, num_draws=1)
    truth = float(log_likelihood(models, to_float(grey_images(42, seed=1).images)).mean())
    assert found["iwae_1"].value == pytest.approx(truth, rel=1e-4)
    assert found["elbo"].value == pytest.approx(truth, rel=1e-2)  # the draw stays in its distortion
    assert measured(coded_context(models), elbo, num_draws=400)["elbo"].value == pytest.approx(truth, rel=1e-3)
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value)


def test_with_another_posterior_they_rise_with_the_draws():
    models = linear_gaussian(off=0.5, sigma=1.0)
    truth = float(log_likelihood(models, to_float(grey_images(42, seed=1).images)).mean())
    few, many = (measured(coded_context(models), elbo, num_draws=num) for num in (4, 256))
    assert few["elbo"].value < few["iwae_4"].value < many["iwae_256"].value < truth + 0.05
    assert many["iwae_256"].value == pytest.approx(truth, abs=0.5)
    assert truth - many["elbo"].value > 2


def test_bits_are_of_levels():
    found = measured(coded_context(linear_gaussian(sigma=0.4)), elbo)
    nats = -found["elbo"].value / (256 * math.log(2)) + math.log2(255 / 2)
    assert found["bits_per_dim"].value == pytest.approx(nats + (2 / 255) ** 2 / (24 * 0.4**2 * math.log(2)))
    assert found["bits_per_dim"].protocol["sigma"] == pytest.approx(0.4)


def test_numbers_that_say_nothing_are_not_active():
    models = linear_gaussian(5)
    models.encoder.to_code.weight.mul_(10)
    models.encoder.to_code.weight[:2] = 0
    found = measured(coded_context(models), elbo)["active_units"]
    assert (found.value, found.protocol["code_dim"]) == (3, 5)
    assert found.interval[0] <= 3 <= found.interval[1]


def test_the_class_is_given():
    """Of a conditional one: a decoder that needs the label codes images of a wrong one worse."""
    decoder = Decoder(resolution=16, img_channels=1, code_dim=2, c_dim=3, prior="normal", backbone="mlp", widths=())
    encoder = CodeEncoder(w_dim=5, c_dim=3, input_size=16, img_channels=1, variational=True, backbone="mlp", widths=())
    models = Models(generator=frozen(decoder), encoder=frozen(encoder))
    images = grey_images(42, labels=True)
    means = torch.stack([to_float(images.images[images.attributes["body"] == body]).mean(dim=0) for body in range(3)])
    (layer,) = [each for each in decoder.synthesis.modules() if isinstance(each, torch.nn.Linear)]
    layer.weight.zero_(), layer.bias.zero_()
    layer.weight[:, 2:] = means.flatten(1).T
    wrong = ImageSet(images.images, images.labels.roll(1, 1), images.names, attributes=images.attributes)
    values = [measured(coded_context(models, held_out=each), elbo)["elbo"].value for each in (images, wrong)]
    assert values[0] > values[1] + 10
    with pytest.raises(UserError, match="conditional on 3 classes and the images have 0"):
        measured(coded_context(models), elbo)


def test_what_has_no_likelihood_is_refused():
    plain = linear_gaussian()
    plain.encoder.variational = False
    bernoulli = linear_gaussian()
    bernoulli.generator.likelihood = "bernoulli"
    for models, message in (
        (plain, "bounds the likelihood of a variational autoencoder"),
        (Models(generator=plain.generator), "needs an encoder, and the checkpoint has none"),
        (bernoulli, "black and white pixels alone"),
    ):
        with pytest.raises(UserError, match=message):
            measured(coded_context(models), elbo)
    with pytest.raises(UserError, match="needs held-out images, and there are none"):
        measured(coded_context(linear_gaussian(), held_out=None), partial(elbo))
