"""Autoencoders' networks: the interface of generators and encoders, the prior of codes, and refusals."""

from typing import Any

import numpy as np
import pytest
import torch

import wplus
from wplus.errors import UserError
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.models.code_prior import NUM_GAUSSIANS, CodeMapping

CONV = {"channel_base": 64, "channel_max": 16}
CASES: dict[str, tuple[int, int, int, dict[str, Any], dict[str, Any]]] = {  # px, channels, classes; decoder, encoder
    "mlp": (16, 1, 0, {"backbone": "mlp", "widths": (20, 12)}, {}),
    "linear": (8, 3, 0, {"backbone": "mlp", "widths": ()}, {}),
    "conv": (32, 3, 0, CONV, {"code_activation": "relu"}),
    "conv to one pixel": (16, 1, 3, {**CONV, "bottom": 1}, {"code_activation": "sigmoid"}),
    "batch norm": (16, 3, 0, {**CONV, "norm": "batch", "bottom": 2}, {}),
    "vae": (16, 3, 0, {**CONV, "prior": "normal", "sigma": None}, {"variational": True}),
    "vae with labels": (8, 1, 3, {"backbone": "mlp", "prior": "normal", "likelihood": "bernoulli"},
                        {"variational": True}),
    "large code": (16, 1, 0, {"backbone": "mlp", "widths": (), "code_dim": 300}, {}),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES)


def networks(case: str) -> tuple[CodeEncoder, Decoder]:
    """Encoder and decoder in evaluation mode, with a fitted prior."""
    px, channels, classes, decoder, encoder = CASES[case]
    made = Decoder(resolution=px, img_channels=channels, c_dim=classes, **{"code_dim": 5, **decoder})
    shared = {key: decoder[key] for key in ("backbone", "widths", "norm", "bottom", *CONV) if key in decoder}
    reader = CodeEncoder(w_dim=made.w_dim, c_dim=classes, img_channels=channels, input_size=px, **shared, **encoder)
    made.mapping.set_mixture(torch.randn(200, made.code_dim) * 2 + 1, seed=0)
    return reader.eval(), made.eval()


def label(network: Any, num: int = 6) -> torch.Tensor | None:
    return torch.eye(network.c_dim)[torch.arange(num) % network.c_dim] if network.c_dim else None


@each_case
@torch.no_grad()
def test_the_decoder_is_a_generator(case):
    """z -> ws -> image, truncation to the mean code, and the attributes that sampling, inversion and metrics read."""
    px, channels, classes, *_ = CASES[case]
    _, decoder = networks(case)
    z, c = torch.randn(6, decoder.z_dim), label(decoder)
    ws = decoder.mapping(z, c)
    assert ws.shape == (6, decoder.num_ws, decoder.w_dim) == (6, 1, decoder.code_dim + classes)
    images = decoder(z, c)
    assert images.shape == (6, channels, px, px)
    torch.testing.assert_close(decoder.synthesis(ws, noise_mode="random"), images)
    mean = decoder.mapping.w_avg
    torch.testing.assert_close(decoder.mapping(z, c, truncation_psi=0.0)[:, 0, : decoder.code_dim],
                               mean[: decoder.code_dim].expand(6, -1))  # fmt: skip
    halved = decoder.mapping(z, c, truncation_psi=0.5)
    torch.testing.assert_close(halved[..., : decoder.code_dim], (ws + mean)[..., : decoder.code_dim] / 2)
    assert torch.equal(halved[..., decoder.code_dim :], ws[..., decoder.code_dim :])
    if classes:
        assert not torch.equal(decoder(z, c.roll(1, 1)), images)


@each_case
@torch.no_grad()
def test_the_encoder_answers_with_ws_and_images_never_mix(case):
    encoder, decoder = networks(case)
    images = torch.rand(6, decoder.img_channels, decoder.resolution, decoder.resolution) * 2 - 1
    ws = encoder(images)
    assert ws.shape == (6, 1, decoder.w_dim)
    torch.testing.assert_close(encoder(images[2:3]), ws[2:3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoder.synthesis(ws[2:3]), decoder.synthesis(ws)[2:3], rtol=1e-4, atol=1e-5)
    found = encoder.posterior(images)
    torch.testing.assert_close(ws[:, 0, : decoder.code_dim], found.mean)
    if decoder.c_dim:
        assert torch.equal(ws[:, 0, decoder.code_dim :].argmax(dim=1), found.class_logits.argmax(dim=1))
        assert (ws[:, 0, decoder.code_dim :].sum(dim=1) == 1).all()
    lowest, highest = {"relu": (0, np.inf), "sigmoid": (0, 1)}.get(encoder.code_activation, (-np.inf, np.inf))
    assert found.mean.min() >= lowest
    assert found.mean.max() <= highest


@each_case
def test_a_gradient_reaches_every_parameter(case):
    encoder, decoder = networks(case)
    images = torch.rand(6, decoder.img_channels, decoder.resolution, decoder.resolution) * 2 - 1
    found = encoder.posterior(images)
    outputs = decoder.synthesis.outputs(decoder.ws(found.code(torch.randn_like(found.mean)), label(decoder)))
    loss = (outputs.sin() * getattr(decoder, "log_sigma", torch.ones(())).exp()).sum()
    (loss if found.class_logits is None else loss + found.class_logits.sin().sum()).backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@each_case
@torch.no_grad()
def test_a_file_gives_back_both_and_the_prior(case, tmp_path):
    encoder, decoder = networks(case)
    found = wplus.load(wplus.save(tmp_path / "m.safetensors", generator=decoder, encoder=encoder))
    z, images = torch.randn(6, decoder.z_dim), torch.rand(6, decoder.img_channels, *[decoder.resolution] * 2)
    assert torch.equal(found.generator(z, label(decoder)), decoder(z, label(decoder)))
    assert torch.equal(found.encoder(images), encoder(images))


REFUSED: dict[str, dict[str, Any]] = {
    "norm=batch is refused with bottom=1: a map of 1x1 px": {"norm": "batch", "bottom": 1},
    r"bottom must be one of 1, 2, 4, 8, got 16": {"bottom": 16},
    "norm must be one of group, batch, none, got 'layer'": {"norm": "layer"},
    "backbone must be one of mlp, conv, got 'vit'": {"backbone": "vit"},
    "widths must be of at most 16 layers, got 17": {"backbone": "mlp", "widths": [4] * 17},
    "widths must be a whole number of at least 1, got 0": {"backbone": "mlp", "widths": [0]},
    "code_dim must be a whole number of at least 1, got 0": {"code_dim": 0},
    "prior must be one of normal, mixture, got 'vamp'": {"prior": "vamp"},
    "likelihood must be one of gaussian, bernoulli, got 'laplace'": {"likelihood": "laplace"},
    "sigma must be a number of at least 0.0001, got 0": {"sigma": 0},
    "channel_base must be at least 16": {"channel_base": 8},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_is_refused(message):
    with pytest.raises(UserError, match=message):
        Decoder(resolution=16, **REFUSED[message])


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@torch.no_grad()
def test_the_picture_is_the_mean_of_the_likelihood(likelihood):
    """P(white) - P(black) for a Bernoulli likelihood, the mean for a Gaussian."""
    decoder = Decoder(resolution=8, img_channels=1, code_dim=3, likelihood=likelihood, backbone="mlp", widths=())
    ws = 9 * torch.randn(4, 1, 3)
    outputs = decoder.synthesis.outputs(ws)
    white = outputs.sigmoid()
    expected = white - (1 - white) if likelihood == "bernoulli" else outputs
    torch.testing.assert_close(decoder.synthesis(ws), expected)


def test_a_normal_code_is_linear():
    with pytest.raises(UserError, match="code_activation must be linear where a code is normal, got relu"):
        CodeEncoder(w_dim=3, input_size=8, variational=True, code_activation="relu")


def ripple(image: torch.Tensor) -> float:
    """Amplitude at half the sampling rate, over the mean, in the middle of an image (C, 64, 64)."""
    middle = image[:, 26:38, 26:38].double()
    spectrum = torch.fft.fft2(middle).abs() / middle[0].numel()
    return float((spectrum[:, 6].amax() + spectrum[:, :, 6].amax()) / spectrum[:, 0, 0].amax())


@torch.no_grad()
def test_no_checkerboard():
    """A flat map becomes a flat image, except at the borders, where transposed convolutions leave a pattern."""
    torch.manual_seed(0)
    decoder = Decoder(resolution=64, code_dim=3, channel_base=512, channel_max=32, norm="none", bottom=1).eval()
    assert ripple(decoder(torch.randn(1, decoder.z_dim))[0]) < 1e-3
    other = torch.nn.Sequential(*[torch.nn.ConvTranspose2d(3, 3, 3, stride=2) for _ in range(5)])
    assert ripple(other(torch.ones(1, 3, 2, 2))[0]) > 0.1


# --- the prior --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 200])
def test_the_mixture_samples_what_it_was_fitted_to(dim):
    """Two clusters with shares 1 : 3; in many dimensions the covariances are diagonal."""
    torch.manual_seed(0)
    spread = torch.tensor([[1.0, 0.9], [0.0, 0.5]]) if dim == 2 else torch.eye(dim)
    clouds = torch.cat([torch.randn(1000, dim) @ spread + 6, torch.randn(3000, dim) @ spread - 6])
    mapping = CodeMapping(code_dim=dim, c_dim=0, prior="mixture")
    assert mapping.factors.dim() == (3 if dim == 2 else 2)
    mapping.set_mixture(clouds, seed=3)
    samples = mapping(torch.randn(20_000, dim + 1))[:, 0]
    assert (samples[:, 0] > 0).float().mean() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(samples.mean(dim=0), clouds.mean(dim=0), atol=0.2, rtol=0)
    torch.testing.assert_close(mapping.w_avg, clouds.mean(dim=0), atol=1e-3, rtol=1e-3)
    for sign in (-1, 1):
        both = [rows[rows[:, 0] * sign > 0][:, :2] for rows in (samples, clouds)]
        torch.testing.assert_close(torch.cov(both[0].T), torch.cov(both[1].T), atol=0.15, rtol=0)
    assert 0.3 < mapping.distance(samples).mean() < 1.1
    assert mapping.distance(samples + 30).min() > 10


def test_it_is_a_map_from_z_in_which_one_number_chooses():
    """The same z gives the same code in any batch; before a fit the ten are one standard normal distribution."""
    mapping = CodeMapping(code_dim=3, c_dim=0, prior="mixture")
    z = torch.randn(50, 4)
    assert torch.equal(mapping(z)[:, 0], z[:, 1:])
    mapping.set_mixture(torch.randn(400, 3) * torch.tensor([1.0, 2.0, 3.0]), seed=0)
    together = mapping(z)
    assert torch.equal(torch.cat([mapping(one[None]) for one in z]), together)
    edges = torch.erfinv(2 * mapping.shares.cumsum(0)[:-1] - 1) * 2**0.5
    for number in range(NUM_GAUSSIANS):
        inside = z.clone()
        low, high = ([-9.0, *edges.tolist()][number], [*edges.tolist(), 9.0][number])
        inside[:, 0] = torch.linspace(low + 1e-3, high - 1e-3, 50)
        expected = mapping.means[number] + inside[:, 1:] @ mapping.factors[number].T
        torch.testing.assert_close(mapping(inside)[:, 0], expected)


def test_few_codes_and_codes_in_a_plane_have_a_prior():
    mapping = CodeMapping(code_dim=4, c_dim=0, prior="mixture")
    for codes in (torch.randn(5, 4), torch.randn(300, 1) @ torch.ones(1, 4), torch.zeros(300, 4)):
        mapping.set_mixture(codes, seed=0)
        assert mapping(torch.randn(9, 5)).isfinite().all()


def test_the_sampler_has_a_name():
    assert CodeMapping(code_dim=4, c_dim=0, prior="normal").described(7) == "standard normal"
    assert CodeMapping(code_dim=4, c_dim=0, prior="mixture").described(7) == "ten Gaussians of 7 codes"
    assert CodeMapping(code_dim=400, c_dim=0, prior="mixture").described(7) == "ten diagonal Gaussians of 7 codes"
