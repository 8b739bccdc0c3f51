"""Inputs of a phase: micro-batches get what the full batch would; style mixing, and labels from the data."""

import pytest
import torch

from wplus.models.ops import minibatch_stddev
from wplus.training.inputs import GeneratorInputs, micro_batches, style_mixing
from wplus.training.penalties import DiscriminatorBatch, both_logits


@pytest.mark.parametrize(
    ("batch", "num_micro", "group"), [(8, 1, 4), (8, 2, 4), (8, 2, 2), (8, 4, 2), (12, 3, 4), (6, 2, 3), (4, 4, 1)]
)
def test_micro_batches_share_out_every_image_once_and_keep_stddev_groups(batch, num_micro, group):
    """Every image gets the standard deviation that it has in the full batch."""
    parts = micro_batches(batch, num_micro, group)
    numbers = [torch.arange(batch)[part] for part in parts]
    assert [len(part) for part in numbers] == [batch // num_micro] * num_micro
    assert sorted(torch.cat(numbers).tolist()) == list(range(batch))
    x = torch.randn(batch, 2, 3, 3)
    whole = minibatch_stddev(x, group)
    for part in parts:
        torch.testing.assert_close(minibatch_stddev(x[part], group), whole[part])


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_logits_of_the_joined_pass_are_those_of_two_passes(make_tiny, group):
    discriminator = make_tiny(discriminator={"mbstd_group_size": group}, c_dim=3).discriminator
    real, fake = torch.randn(2, 8, 3, 8, 8)
    labels, fake_labels = torch.eye(3)[torch.randint(3, (2, 8))]
    joined = both_logits(discriminator, DiscriminatorBatch(real, labels, fake, fake_labels, torch.zeros(8)))
    separate = discriminator(real, labels), discriminator(fake, fake_labels)
    for a, b in zip(joined, separate, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_fewer_images_than_a_group_never_mix_the_two_kinds(make_tiny, play):
    with pytest.raises(RuntimeError):
        play(make_tiny(batch_size=2, discriminator={"mbstd_group_size": 4}), 1)


def test_take():
    noise = (torch.randn(5, 1, 4, 4), torch.randn(5, 1, 8, 8))
    inputs = GeneratorInputs(torch.randn(5, 3), torch.randn(5, 2), noise, mix_from=2, z_mix=torch.randn(5, 3))
    index = torch.tensor([3, 0])
    part = inputs.take(index)
    for name in ("z", "c", "z_mix"):
        assert torch.equal(getattr(part, name), getattr(inputs, name)[index])
    assert all(torch.equal(a, b[index]) for a, b in zip(part.noise, noise, strict=True))
    assert (part.mix_from, part.pl_noise) == (2, None)


def test_one_micro_batch_copies_nothing():
    inputs = GeneratorInputs(torch.randn(4, 3), torch.randn(4, 2), (torch.randn(4, 1, 4, 4),))
    (everything,) = micro_batches(4, 1, 2)
    assert inputs.take(everything).z.data_ptr() == inputs.z.data_ptr()
    assert inputs.take(everything).noise[0].data_ptr() == inputs.noise[0].data_ptr()


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_style_mixing(make_tiny, probability):
    module, seen = make_tiny(style_mixing_prob=probability), set()
    for seed in range(12):
        torch.manual_seed(seed)
        inputs = module.sample_inputs(3)
        ws, _ = style_mixing(module.generator, inputs)
        first, second = module.generator.mapping(inputs.z), module.generator.mapping(inputs.z_mix)
        seen.add(inputs.mix_from)
        cut = module.generator.num_ws if inputs.mix_from is None else inputs.mix_from
        assert torch.equal(ws[:, :cut], first[:, :cut])
        assert torch.equal(ws[:, cut:], second[:, cut:])
    assert seen == ({None} if probability == 0 else {1, 2, 3})  # of 4 layers, at least one keeps the first style


def test_labels_of_generated_images_are_drawn_from_the_data(make_tiny):
    labels = make_tiny(c_dim=3).sample_inputs(64).c
    assert (labels.sum(dim=1) == torch.ones(64)).all()
    assert labels.sum(dim=0).min() > 8
