"""Latent files round-trip, and foreign content is refused."""

import re

import pytest
import torch

from tests.latents.conftest import content
from wplus.errors import UserError
from wplus.latents.latent import Latent, load_latent, save_latent, synthesize, to_ws, ws_of
from wplus.latents.space import spaces
from wplus.models.stylegan2 import Generator

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def generator():
    net = Generator(resolution=16, z_dim=8, w_dim=12, num_mapping_layers=2, channel_base=128, channel_max=8, c_dim=3)
    net.mapping.w_avg.normal_()
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.5)
    return net.eval().requires_grad_(False)


def a_latent(space: str = "w+", **changes) -> Latent:
    shape = {"z": (8,), "z+": (6, 8), "w": (12,), "w+": (6, 12), "pn": (12,), "pn+": (6, 12)}.get(space, (40,))
    fields = {"code": torch.randn(shape), "space": space, "generator": FINGERPRINT, "metadata": {"source": "näme.png"}}
    return Latent(**{**fields, **changes})


CODE = torch.randn(12, 6)


@pytest.mark.parametrize(
    "latent",
    [
        *(a_latent(space) for space in (*spaces(), "f8/w+")),
        a_latent("z", truncation_psi=0.7, truncation_cutoff=4, label=torch.tensor([0.0, 1, 0])),
        a_latent("w", noise=tuple(torch.full((1, 2, 2), float(i)) for i in range(12))),  # 10 after 9
        a_latent("w+", code=CODE.T, noise=(CODE[None, :2, :2], CODE[None, :2, :2])),  # views, and shared memory
    ],
)
def test_round_trip(tmp_path, latent):
    path = save_latent(tmp_path / "sub" / "a.safetensors", latent)
    assert content(load_latent(path, fingerprint=FINGERPRINT)) == content(latent)


def test_another_generator_is_refused(tmp_path):
    path = save_latent(tmp_path / "a.safetensors", a_latent())
    with pytest.raises(UserError, match=r"made with generator 0123456789abcdef, not with ffff"):
        load_latent(path, fingerprint="ffff")
    assert load_latent(path, fingerprint=None).generator == FINGERPRINT


def test_a_code_must_look_like_its_space():
    with pytest.raises(UserError, match=r"w must have 1 dimension\(s\), got the shape \(6, 12\)"):
        a_latent("w", code=torch.zeros(6, 12))
    with pytest.raises(UserError, match=r"s must have 1 dimension\(s\), got the shape \(2, 20\)"):
        a_latent("s", code=torch.zeros(2, 20))
    with pytest.raises(UserError, match=r"space must be one of z, z\+, w, w\+, pn, pn\+, code, s, f/w\+, got 'v'"):
        a_latent("v")
    with pytest.raises(UserError, match=r"truncation_psi must be 1 in s, .*, got 0\.5"):
        a_latent("s", truncation_psi=0.5)


# Decoding


def test_styles_of_each_space(generator):
    z, labels = torch.randn(2, 8), torch.eye(3)[:2]
    ws = to_ws(z, "z", generator, labels=labels)
    assert torch.equal(ws, generator.mapping(z, labels))
    assert torch.equal(to_ws(ws[:, 0], "w", generator), ws)
    assert torch.equal(to_ws(ws, "w+", generator), ws)
    torch.testing.assert_close(to_ws(z[:, None].expand(-1, 6, -1), "z+", generator, labels=labels), ws)


def test_in_z_plus_every_layer_has_a_z_of_its_own(generator):
    z, labels = torch.randn(2, 6, 8), torch.eye(3)[:2]
    ws = to_ws(z, "z+", generator, labels=labels)
    for layer in range(6):
        torch.testing.assert_close(ws[:, layer], generator.mapping(z[:, layer], labels)[:, layer])


@pytest.mark.parametrize("cutoff", [None, 2])
def test_truncation_is_the_mappings_in_every_space(generator, cutoff):
    z, labels = torch.randn(2, 8), torch.eye(3)[:2]
    truncation = {"truncation_psi": 0.6, "truncation_cutoff": cutoff}
    ws, expected = generator.mapping(z, labels), generator.mapping(z, labels, **truncation)
    for space, latents in (("w", ws[:, 0]), ("w+", ws), ("z+", z[:, None].expand(-1, 6, -1))):
        found = to_ws(latents, space, generator, labels=labels, **truncation)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("space", "shape", "allowed"), [("w+", (1, 4, 12), "6, 12"), ("z+", (2, 8), "6, 8"), ("z", (1, 12), "8")]
)
def test_codes_that_do_not_fit_the_generator(generator, space, shape, allowed):
    with pytest.raises(UserError, match=rf"must be \(N, {allowed}\), got {re.escape(str(shape))}"):
        to_ws(torch.zeros(shape), space, generator)


def test_a_saved_latent_reproduces_its_picture(generator, tmp_path):
    z, label = torch.randn(8), torch.tensor([0.0, 0, 1])
    noise = tuple(torch.randn(1, r, r) for r, _ in generator.synthesis.noise_shapes)
    latent = a_latent("z", code=z, label=label, truncation_psi=0.5, noise=noise)
    ws = generator.mapping(z[None], label[None], truncation_psi=0.5)
    expected = generator.synthesis(ws, noise=[layer[None] for layer in noise])
    loaded = load_latent(save_latent(tmp_path / "a.safetensors", latent), fingerprint=FINGERPRINT)
    assert torch.equal(synthesize([loaded], generator), expected)


def test_latents_of_any_space_are_decoded_together(generator):
    ws = generator.mapping(torch.randn(1, 8), torch.eye(3)[:1])[0]
    noise = tuple(torch.randn(1, r, r) for r, _ in generator.synthesis.noise_shapes)
    latents = [a_latent("w", code=ws[0]), a_latent("w+", code=ws), a_latent("w+", code=ws, noise=noise)]
    images = synthesize(latents, generator)
    torch.testing.assert_close(images[0], images[1])
    assert not torch.allclose(images[1], images[2])
    torch.testing.assert_close(images[2:], generator.synthesis(ws[None], noise=[layer[None] for layer in noise]))
    assert torch.equal(ws_of(latents[0], generator), ws)
