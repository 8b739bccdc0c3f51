"""Whitening of w: closed forms on a normal distribution, and on samples of a mapping network."""

import torch
import torch.nn.functional as F

from tests.fakes import tiny_generator
from wplus.latents.w_stats import Whitened, map_samples


def normal_before_the_leaky_relu(num: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples w (num, 6) whose inverse leaky ReLU is normal, with its mean and covariance."""
    rng = torch.Generator().manual_seed(7)
    mix, mean = torch.randn(6, 6, generator=rng), torch.randn(6, generator=rng)
    hidden = torch.randn(num, 6, generator=torch.Generator().manual_seed(seed)) @ mix.T + mean
    return F.leaky_relu(hidden, 0.2), mean, mix @ mix.T


def test_distance_is_that_of_mahalanobis():
    w, mean, covariance = normal_before_the_leaky_relu(200_000)
    whitened = Whitened.from_samples(w)
    points = normal_before_the_leaky_relu(50, seed=1)[0] * 3
    away = F.leaky_relu(points, 5) - mean
    expected = (away @ torch.linalg.inv(covariance) * away).sum(dim=1) / 6
    torch.testing.assert_close(whitened.distance(points), expected, rtol=0.05, atol=0.05)


def test_samples_have_unit_covariance_and_about_the_distance_one():
    w = normal_before_the_leaky_relu(100_000)[0]
    whitened = Whitened.from_samples(w)
    coordinates = whitened.coordinates(normal_before_the_leaky_relu(100_000, seed=1)[0])
    torch.testing.assert_close(coordinates.mean(dim=0), torch.zeros(6), atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(coordinates.T), torch.eye(6), atol=0.02, rtol=0)
    torch.testing.assert_close(whitened.distance(w).mean(), torch.tensor(1.0), atol=0.01, rtol=0)


def test_layers_are_averaged():
    whitened = Whitened.from_samples(normal_before_the_leaky_relu(1000)[0])
    ws = torch.randn(2, 3, 6)
    expected = torch.stack([whitened.distance(ws[:, layer]) for layer in range(3)]).mean(dim=0)
    torch.testing.assert_close(whitened.distance(ws), expected)
    torch.testing.assert_close(whitened.distance(ws[:, :1].expand(-1, 3, -1)), whitened.distance(ws[:, 0]))


def test_a_direction_without_variance_is_far_but_not_infinitely():
    w = normal_before_the_leaky_relu(5000)[0]
    flat = torch.cat([w, torch.ones(len(w), 1)], dim=1)
    whitened = Whitened.from_samples(flat)
    assert torch.isfinite(whitened.basis).all()
    off = torch.cat([w, 1 + torch.ones(len(w), 1)], dim=1)
    assert (whitened.distance(off) > whitened.distance(flat) + 1).all()


def test_coordinates_lead_back_also_where_w_hardly_varies():
    w = normal_before_the_leaky_relu(5000)[0]
    flat = torch.cat([w, 1 + 1e-4 * torch.randn(len(w), 1)], dim=1)
    whitened = Whitened.from_samples(flat)
    far = 5 * torch.randn(4, 3, 7)
    torch.testing.assert_close(whitened.from_coordinates(whitened.coordinates(far)), far, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(whitened.coordinates(whitened.from_coordinates(far)), far, atol=1e-4, rtol=1e-4)


def test_samples_are_those_of_the_mapping_network_for_all_classes_in_turn():
    generator = tiny_generator(c_dim=3)
    z = torch.randn(1500, 8)
    labels = torch.eye(3)[torch.arange(1500) % 3]
    torch.testing.assert_close(map_samples(generator, z, None), generator.mapping(z, labels)[:, 0])
    of_one_class = generator.mapping(z, labels[[1]].expand(1500, -1))[:, 0]
    torch.testing.assert_close(map_samples(generator, z, labels[1]), of_one_class)


def test_a_generators_own_w_are_near_and_the_same_every_time():
    generator = tiny_generator()
    whitened, again = Whitened.of(generator), Whitened.of(generator)
    assert torch.equal(whitened.basis, again.basis)
    w = generator.mapping(torch.randn(2000, 8))[:, 0]
    assert 0.8 < whitened.distance(w).mean() < 1.2
    assert whitened.distance(2 * w).mean() > 2 * whitened.distance(w).mean()


def test_classes_of_a_conditional_generator_take_part_alike():
    generator = tiny_generator(c_dim=3)
    whitened = Whitened.of(generator)
    w = torch.cat([generator.mapping(torch.randn(500, 8), torch.eye(3)[[c]].expand(500, -1))[:, 0] for c in range(3)])
    assert 0.8 < whitened.distance(w).mean() < 1.2
