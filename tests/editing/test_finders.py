import numpy as np
import pytest
import torch

from wplus.checkpoint import Models
from wplus.editing.finders import factorise, modulation_weights, pca, sefa
from wplus.errors import UserError
from wplus.latents.w_stats import sample_w
from wplus.models.stylegan2 import Generator


def test_eigenvectors_are_numpys() -> None:
    weights = torch.randn(30, 6) * torch.arange(1, 31)[:, None]
    rows = weights.double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    values, vectors = np.linalg.eig(rows.T @ rows)
    order = np.argsort(-values)
    found_values, found = factorise(weights)
    np.testing.assert_allclose(found_values.numpy(), values[order], rtol=1e-10)
    np.testing.assert_allclose(np.abs((found.numpy() * vectors.T[order]).sum(axis=1)), 1, rtol=1e-10)


def test_signs_are_fixed() -> None:
    weights = torch.randn(30, 6)
    _, vectors = factorise(weights)
    _, mirrored = factorise(-weights)
    torch.testing.assert_close(vectors, mirrored)
    assert (vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_the_first_direction_changes_styles_most(models: Models) -> None:
    """No unit vector moves the styles, each channel's map scaled to unit length, further than sefa0."""
    layers = [1, 2]
    (first, *_) = sefa(models, layers=layers, num_directions=3)
    layer_modules = [models.generator.synthesis.b8.conv0, models.generator.synthesis.b8.conv1]
    maps = [layer.affine for layer in layer_modules]
    origin = torch.zeros(1, 8)

    def change(n: torch.Tensor) -> torch.Tensor:
        moved = [(affine(n) - affine(origin)) / scale for affine, scale in zip(maps, scales, strict=True)]
        return torch.cat(moved, dim=1).norm(dim=1)

    eye = torch.eye(8)
    scales = [(affine(eye) - affine(origin)).norm(dim=0) for affine in maps]  # length of each channel's row
    random = torch.nn.functional.normalize(torch.randn(2000, 8), dim=1)
    assert first.layers == (1, 2)
    assert change(first.vector[None]) > change(random).max()
    nudged = torch.nn.functional.normalize(first.vector + 0.05 * torch.randn(500, 8), dim=1)
    assert change(first.vector[None]) >= change(nudged).max()


def test_every_map_is_read_by_the_layer_it_belongs_to(models: Models) -> None:
    """Every number of layer i's latent is i, so each map's input shows which layer it belongs to."""
    synthesis = models.generator.synthesis
    seen: dict[int, int] = {}
    for module in synthesis.modules():
        if hasattr(module, "affine"):
            module.affine.register_forward_hook(
                lambda m, inputs, output: seen.update({id(m.weight): int(inputs[0][0, 0])})
            )
    codes = torch.arange(synthesis.num_ws).float()[None, :, None].expand(1, -1, 8)
    synthesis(codes.contiguous(), noise_mode="none")
    everything = modulation_weights(synthesis, to_rgb="all")
    assert {id(weight): layer for layer, maps in enumerate(everything) for weight in maps} == seen
    published = modulation_weights(synthesis, to_rgb="last")
    assert [len(maps) for maps in published] == [1] * synthesis.num_ws
    assert published[-1][0] is synthesis.b16.torgb.affine.weight


def test_units_are_those_of_the_prior(models: Models) -> None:
    directions = sefa(models, num_directions=4, num_samples=3000, seed=1)
    with torch.no_grad():
        w = models.generator.mapping(torch.randn(3000, 8, generator=torch.Generator().manual_seed(1)))[:, 0]
    projections = w @ directions.vectors.T
    torch.testing.assert_close(torch.tensor([item.unit for item in directions]), projections.std(dim=0))
    torch.testing.assert_close(torch.tensor([item.origin for item in directions]), projections.mean(dim=0))
    assert directions.names == ["sefa0", "sefa1", "sefa2", "sefa3"]
    assert directions.generator == models.fingerprint


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


@pytest.mark.parametrize(
    ("finder", "options", "word"),
    [
        (sefa, {"num_directions": 9}, "^num_directions must be .* at most 8, got 9[.]$"),
        (pca, {"num_directions": 9}, "^num_directions must be .* at most 8, got 9[.]$"),
        (pca, {"num_directions": 5, "num_samples": 5}, "at most 4, got 5[.]$"),
        (sefa, {"num_directions": 2, "to_rgb": "none"}, "^to_rgb must be one of last, all, got 'none'[.]$"),
    ],
)
def test_what_cannot_be_is_refused(models: Models, finder: object, options: dict, word: str) -> None:
    with pytest.raises(UserError, match=word):
        finder(models, **options)
