"""Latents whose truth is known: the error in units of the prior, in every space, and what is refused."""

import math

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.ground_truth import GroundTruth
from wplus.inversion.init import prior
from wplus.latents.latent import Latent, save_latent, to_ws

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def truth(stylegan, tmp_path):
    """Two true latents, one of w and one of z, as `GroundTruth` and as ws (2, num_ws, w_dim)."""
    w, z = torch.randn(12), torch.randn(8)
    save_latent(tmp_path / "a.safetensors", Latent(w, "w", FINGERPRINT))
    save_latent(tmp_path / "sub" / "b.safetensors", Latent(z, "z", FINGERPRINT))
    ws = torch.cat([to_ws(w[None], "w", stylegan), to_ws(z[None], "z", stylegan)])
    return GroundTruth(tmp_path, ["a", "sub/b"], generator=stylegan, fingerprint=FINGERPRINT), ws


def test_errors_are_in_deviations_of_w(truth, stylegan):
    known, ws = truth
    assert known.errors(["a", "sub/b"], ws).values.tolist() == [0, 0]
    assert known.errors(["sub/b"], ws[1:]).values.tolist() == [0]
    deviation = float(prior(stylegan, "w", None, 1).std)
    shift = torch.zeros_like(ws)
    shift[0, :, 0] = deviation  # every layer by one deviation
    shift[1, 0, 0] = deviation  # one layer of num_ws
    expected = torch.tensor([1.0, 1 / math.sqrt(stylegan.num_ws)])
    torch.testing.assert_close(known.errors(["a", "sub/b"], ws + shift).values, expected)


def test_what_lacks_or_belongs_elsewhere_is_refused(stylegan, tmp_path):
    with pytest.raises(UserError, match="ground_truth must have a latent of every image, got none at .*a.safetensors"):
        GroundTruth(tmp_path, ["a"], generator=stylegan, fingerprint=FINGERPRINT)
    save_latent(tmp_path / "a.safetensors", Latent(torch.zeros(12), "w", "f" * 16))
    with pytest.raises(UserError, match="made with generator ffff"):
        GroundTruth(tmp_path, ["a"], generator=stylegan, fingerprint=FINGERPRINT)
