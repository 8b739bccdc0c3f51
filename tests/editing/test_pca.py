from __future__ import annotations

import pytest
import torch

from wplus.checkpoint import Models
from wplus.editing.pca import components, pca
from wplus.errors import UserError
from wplus.latents.w_stats import sample_w
from wplus.models.stylegan2 import Generator


def test_a_known_covariance_is_found() -> None:
    axes = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    deviations = torch.tensor([5.0, 3, 2, 1, 0.5], dtype=torch.float64)
    codes = torch.randn(200_000, 5, dtype=torch.float64) * deviations @ axes.T + 7
    variances, vectors = components(codes)
    torch.testing.assert_close(variances, deviations.square(), rtol=0.02, atol=0)
    torch.testing.assert_close((vectors @ axes).diag().abs(), torch.ones(5).double(), rtol=0, atol=1e-3)


def test_components_of_w(models: Models) -> None:
    directions = pca(models, num_directions=8, num_samples=4000, layers="coarse")
    w = sample_w(models.generator, 4000, seed=0)
    coordinates = ((w @ directions.vectors.double().T) - torch.tensor([d.origin for d in directions])) / torch.tensor(
        [d.unit for d in directions]
    )
    # In units of its components the prior is white.
    torch.testing.assert_close(torch.cov(coordinates.T), torch.eye(8).double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(coordinates.mean(dim=0), torch.zeros(8).double(), rtol=0, atol=1e-4)
    shares = [item.notes["explained_variance"] for item in directions]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert directions["pca3"].layers == (0, 1)


def test_samples_are_seeded_and_of_all_classes() -> None:
    net = Generator(resolution=8, z_dim=8, w_dim=8, c_dim=3, channel_base=64, channel_max=8, num_mapping_layers=1)
    w = sample_w(net, 1500, seed=4)
    assert torch.equal(w, sample_w(net, 1500, seed=4))
    assert not torch.equal(w, sample_w(net, 1500, seed=5))
    z = torch.randn(1500, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        torch.testing.assert_close(w[1204].float(), net.mapping(z[1204:1205], torch.eye(3)[[1]])[0, 0])


def test_too_many_are_refused(models: Models) -> None:
    with pytest.raises(UserError, match="take 1 to 8"):
        pca(models, num_directions=9)
    with pytest.raises(UserError, match="at least 2"):
        sample_w(models.generator, 1, seed=0)
