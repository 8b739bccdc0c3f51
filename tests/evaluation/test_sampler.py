import pytest
import torch

from wplus.errors import UserError
from wplus.evaluation import sampler
from wplus.evaluation.sampler import Sampling, generate, noise_maps, normal, ordered_labels, random_labels, uniform


def test_rows_depend_on_seed_and_index_alone():
    whole = normal(3, sampler.LATENT, range(10), 5)
    assert torch.equal(normal(3, sampler.LATENT, [7, 2], 5), whole[[7, 2]])
    assert not torch.equal(normal(4, sampler.LATENT, range(10), 5), whole)
    assert not torch.equal(normal(3, sampler.SECOND_LATENT, range(10), 5), whole)
    assert len(whole.unique()) == 50


def test_numbers_are_distributed_as_they_say():
    z = normal(0, sampler.LATENT, range(400), 50)
    assert abs(float(z.mean())) < 0.03
    assert abs(float(z.std()) - 1) < 0.02
    t = uniform(0, sampler.POSITION, range(2000))
    assert t.dtype == torch.float64
    assert abs(float(t.mean()) - 0.5) < 0.02
    assert abs(float(t.std()) - 12**-0.5) < 0.02


def test_noise_of_a_sample_does_not_depend_on_its_neighbours():
    shapes = [(4, 4), (8, 8)]
    pair, single = noise_maps(1, [5, 6], shapes), noise_maps(1, [6], shapes)
    assert [tuple(layer.shape) for layer in pair] == [(2, 1, 4, 4), (2, 1, 8, 8)]
    assert all(torch.equal(both[1:], one) for both, one in zip(pair, single, strict=True))


@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_images_do_not_depend_on_their_batch(models, noise_mode):
    options = {"sampling": Sampling(noise_mode=noise_mode), "seed": 5}
    one = torch.cat([generate(models.generator, [index], **options) for index in range(11)]).int()
    many = generate(models.generator, range(11), **options).int()
    assert one.shape == (11, 3, 16, 16)
    # Another batch size may use another kernel, and a value on the edge may round the other way.
    assert (one - many).abs().max() <= 1
    assert (one != many).float().mean() < 1e-3


def test_noise_modes_differ_random_is_reproducible_and_truncation_reaches_the_mapping_network(models):
    samplings = [Sampling(), *[Sampling(noise_mode="random")] * 2, Sampling(truncation_psi=0.0)]
    const, one, again, mean = (generate(models.generator, range(4), sampling=each, seed=5) for each in samplings)
    assert not torch.equal(const, one)
    assert torch.equal(one, again)
    assert torch.equal(mean[0], mean[1])


def test_labels_follow_those_of_the_data_in_whatever_order_they_stand(conditional):
    given = torch.eye(3)[torch.tensor([0] * 30 + [1] * 10)]
    labels = random_labels(conditional.generator, ordered_labels(given), 0, range(2000))
    torch.testing.assert_close(labels.mean(dim=0), torch.tensor([0.75, 0.25, 0.0]), atol=0.03, rtol=0)
    assert torch.equal(random_labels(conditional.generator, ordered_labels(given), 0, [17]), labels[17:18])
    shuffled = ordered_labels(given[torch.randperm(40)])
    assert torch.equal(random_labels(conditional.generator, shuffled, 0, range(2000)), labels)


def test_a_conditional_generator_needs_labels(conditional):
    with pytest.raises(UserError, match="conditional on 3 classes and the data has no labels"):
        random_labels(conditional.generator, None, 0, range(2))
    with pytest.raises(UserError, match="labels of 2 classes"):
        random_labels(conditional.generator, torch.eye(2), 0, range(2))


def test_nothing_to_sample_and_an_unknown_noise_mode_are_refused():
    with pytest.raises(UserError, match="num_samples must be 1 or more, got 0"):
        sampler.index_batches(0, 4)
    with pytest.raises(UserError, match="noise_mode must be one of const, random, none, got 'loud'"):
        Sampling(noise_mode="loud")
