from __future__ import annotations

import pytest
import torch

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.evaluation import sampler
from wplus.evaluation.sampler import generated_images, noise_maps, normal, random_labels, uniform


def test_rows_depend_on_seed_and_index_alone() -> None:
    whole = normal(3, sampler.LATENT, range(10), 5)
    assert torch.equal(normal(3, sampler.LATENT, [7, 2], 5), whole[[7, 2]])
    assert not torch.equal(normal(4, sampler.LATENT, range(10), 5), whole)
    assert not torch.equal(normal(3, sampler.SECOND_LATENT, range(10), 5), whole)
    assert len(whole.unique()) == 50


def test_numbers_are_distributed_as_they_say() -> None:
    z = normal(0, sampler.LATENT, range(400), 50)
    assert abs(float(z.mean())) < 0.03
    assert abs(float(z.std()) - 1) < 0.02
    t = uniform(0, sampler.POSITION, range(2000))
    assert t.dtype == torch.float64
    assert abs(float(t.mean()) - 0.5) < 0.02
    assert abs(float(t.std()) - 12**-0.5) < 0.02


def test_noise_of_a_sample_does_not_depend_on_its_neighbours() -> None:
    shapes = [(4, 4), (8, 8)]
    pair, single = noise_maps(1, [5, 6], shapes), noise_maps(1, [6], shapes)
    assert [tuple(layer.shape) for layer in pair] == [(2, 1, 4, 4), (2, 1, 8, 8)]
    assert all(torch.equal(both[1:], one) for both, one in zip(pair, single, strict=True))


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_images_do_not_depend_on_the_batch_size(models: Models, noise_mode: str) -> None:
    options = {"num": 11, "seed": 5, "device": "cpu", "noise_mode": noise_mode}
    one = torch.cat(list(generated_images(models.generator, batch_size=1, **options))).int()
    many = torch.cat(list(generated_images(models.generator, batch_size=4, **options))).int()
    assert one.shape == (11, 3, 16, 16)
    # Another batch size may use another kernel, and a value on the edge may round the other way.
    assert (one - many).abs().max() <= 1
    assert (one != many).float().mean() < 1e-3


def test_noise_modes_differ_and_random_is_reproducible(models: Models) -> None:
    options = {"num": 4, "seed": 5, "device": "cpu", "batch_size": 4}
    images = {
        mode: next(generated_images(models.generator, noise_mode=mode, **options)) for mode in ("const", "random")
    }
    assert not torch.equal(images["const"], images["random"])
    torch.manual_seed(99)
    assert torch.equal(next(generated_images(models.generator, noise_mode="random", **options)), images["random"])


def test_truncation_reaches_the_mapping_network(models: Models) -> None:
    options = {"num": 3, "seed": 0, "device": "cpu", "batch_size": 3}
    mean = next(generated_images(models.generator, truncation_psi=0.0, **options))
    assert torch.equal(mean[0], mean[1])


def test_labels_follow_those_of_the_data(conditional: Models, real: object) -> None:
    real.labels = torch.eye(3)[torch.tensor([0] * 30 + [1] * 10)]
    labels = random_labels(conditional.generator, real, 0, range(2000))
    torch.testing.assert_close(labels.mean(dim=0), torch.tensor([0.75, 0.25, 0.0]), atol=0.03, rtol=0)
    assert torch.equal(random_labels(conditional.generator, real, 0, [17]), labels[17:18])


def test_a_conditional_generator_needs_labels(conditional: Models, real: object) -> None:
    with pytest.raises(UserError, match="conditional on 3 classes and the data has no labels"):
        random_labels(conditional.generator, real, 0, range(2))
    real.labels = torch.eye(2)[torch.zeros(40, dtype=torch.long)]
    with pytest.raises(UserError, match="labels of 2 classes"):
        random_labels(conditional.generator, real, 0, range(2))


def test_nothing_to_sample_is_refused() -> None:
    with pytest.raises(UserError, match="0 images in batches of 4"):
        sampler.index_batches(0, 4)
