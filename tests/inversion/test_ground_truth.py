"""Codes whose truth is known: the error in units of the prior, in every space, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.ground_truth import Truth
from wplus.inversion.init import prior
from wplus.latents.latent import Latent, save_latent, to_ws

FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def truth(stylegan, tmp_path):
    """Two true codes, one of w and one of z, as `Truth` and as ws (2, num_ws, w_dim)."""
    w, z = torch.randn(12), torch.randn(8)
    save_latent(tmp_path / "a.safetensors", Latent(w, "w", FINGERPRINT))
    save_latent(tmp_path / "sub" / "b.safetensors", Latent(z, "z", FINGERPRINT))
    ws = torch.cat([to_ws(w[None], "w", stylegan), to_ws(z[None], "z", stylegan)])
    return Truth(tmp_path, ["a", "sub/b"], generator=stylegan, fingerprint=FINGERPRINT), ws


def test_the_true_code_has_no_error(truth):
    known, ws = truth
    assert known.errors(["a", "sub/b"], ws).tolist() == [0, 0]
    assert known.errors(["sub/b"], ws[1:]).tolist() == [0]


def test_errors_are_in_deviations_of_w(truth, stylegan):
    known, ws = truth
    deviation = float(prior(stylegan, "w", None, 1).std)
    shift = torch.zeros_like(ws)
    shift[0, :, 0] = deviation  # every layer by one deviation
    shift[1, 0, 0] = deviation  # one layer of num_ws
    expected = torch.tensor([1.0, 1 / math.sqrt(stylegan.num_ws)])
    torch.testing.assert_close(known.errors(["a", "sub/b"], ws + shift), expected)


def test_what_lacks_or_belongs_elsewhere_is_refused(stylegan, tmp_path):
    with pytest.raises(UserError, match="1 of 1 images have no true latent.*a.safetensors"):
        Truth(tmp_path, ["a"], generator=stylegan, fingerprint=FINGERPRINT)
    save_latent(tmp_path / "a.safetensors", Latent(torch.zeros(12), "w", "f" * 16))
    with pytest.raises(UserError, match="made with generator ffff"):
        Truth(tmp_path, ["a"], generator=stylegan, fingerprint=FINGERPRINT)
