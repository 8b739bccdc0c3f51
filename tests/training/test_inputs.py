"""Inputs of a phase: micro-batches see what the full batch would; styles are mixed, labels those of the data."""

import pytest
import torch

from wplus.models.ops import minibatch_stddev
from wplus.training.inputs import GeneratorInputs, micro_batches, style_mixing

CASES = [(8, 1, 4), (8, 2, 4), (8, 2, 2), (8, 4, 2), (12, 3, 4), (6, 2, 3), (4, 4, 1)]


@pytest.mark.parametrize(("batch", "num_micro", "group"), CASES)
def test_micro_batches_share_out_every_image_once(batch, num_micro, group):
    parts = micro_batches(batch, num_micro, group)
    assert len(parts) == num_micro
    assert {len(part) for part in parts} == {batch // num_micro}
    assert sorted(torch.cat(parts).tolist()) == list(range(batch))


@pytest.mark.parametrize(("batch", "num_micro", "group"), CASES)
def test_micro_batches_keep_stddev_groups(batch, num_micro, group):
    """Every image gets the standard deviation that it has in the full batch."""
    x = torch.randn(batch, 2, 3, 3)
    whole = minibatch_stddev(x, group)
    for part in micro_batches(batch, num_micro, group):
        torch.testing.assert_close(minibatch_stddev(x[part], group), whole[part])


def test_take():
    draw = GeneratorInputs(
        z=torch.randn(5, 3),
        c=torch.randn(5, 2),
        noise=(torch.randn(5, 1, 4, 4), torch.randn(5, 1, 8, 8)),
        mix_from=2,
        z_mix=torch.randn(5, 3),
    )
    index = torch.tensor([3, 0])
    part = draw.take(index)
    for name in ("z", "c", "z_mix"):
        assert torch.equal(getattr(part, name), getattr(draw, name)[index])
    assert all(torch.equal(a, b[index]) for a, b in zip(part.noise, draw.noise, strict=True))
    assert part.mix_from == 2
    assert part.pl_noise is None


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_style_mixing(make_tiny, probability):
    game = make_tiny(style_mixing_prob=probability)
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        draw = game.sample_inputs(3)
        ws, _ = style_mixing(game.generator, draw)
        first, second = game.generator.mapping(draw.z), game.generator.mapping(draw.z_mix)
        seen.add(draw.mix_from)
        cut = game.generator.num_ws if draw.mix_from is None else draw.mix_from
        assert torch.equal(ws[:, :cut], first[:, :cut])
        assert torch.equal(ws[:, cut:], second[:, cut:])
    assert seen == ({None} if probability == 0 else {1, 2, 3})  # of 4 layers, at least one keeps the first style


def test_labels_of_generated_images_are_drawn_from_the_data(make_tiny):
    game = make_tiny(c_dim=3)
    draw = game.sample_inputs(64)
    assert draw.c.shape == (64, 3)
    assert (draw.c.sum(dim=1) == 1).all()
    assert draw.c.sum(dim=0).min() > 8
