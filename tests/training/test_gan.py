"""The phases of a step, that micro-batches add up to it, and a short run that must never change."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.trained import assert_gradients_close, equal, gradients, snapshot
from wplus.core.images import to_float
from wplus.core.random import step_seed
from wplus.data import Batches
from wplus.training.module import ema_decay

GOLDEN = Path(__file__).with_name("golden_curve.txt")


@pytest.fixture
def batch(make_images):
    """batch(c_dim): eight images and their labels."""
    return lambda c_dim=0: Batches(make_images(c_dim=c_dim), 8).at(0)


EVERY = list(range(7))


@pytest.mark.parametrize(
    ("hparams", "expected"),
    [
        ({"pl_interval": 2, "r1_interval": 3}, [EVERY, [0, 2, 4, 6], EVERY, [0, 3, 6]]),
        # path lengths count the generator's own steps
        ({"pl_interval": 2, "r1_interval": 3, "n_critic": 3}, [[0, 3, 6], [0, 6], EVERY, [0, 3, 6]]),
        ({"pl_weight": 0.0, "gamma": 0.0}, [EVERY, None, EVERY, None]),
    ],
)
def test_order_and_intervals_of_the_phases(make_tiny, play, monkeypatch, hparams, expected):
    module, ran = make_tiny(**hparams), {}
    monkeypatch.setattr(
        module, "run_phase", lambda phase, *_: ran.setdefault(phase.name, []).append(module.images_seen)
    )
    play(module, 7)
    names = ("generator", "path_length", "discriminator", "r1")
    due = {name: [4 * step for step in steps] for name, steps in zip(names, expected, strict=True) if steps}
    assert list(ran.items()) == list(due.items())


def test_a_phase_moves_its_network_only(make_tiny, batch):
    images, labels = batch()
    for phase in make_tiny().phases():
        module = make_tiny()
        other = module.discriminator if phase.network == "generator" else module.generator
        network, before = getattr(module, phase.network), snapshot(other)
        buffers = {name for name, _ in module.named_buffers()}
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, fused=True)
        moving = snapshot(network)
        (same,) = [candidate for candidate in module.phases() if candidate.name == phase.name]
        module.run_phase(same, to_float(images), labels, optimizer)
        assert not equal(snapshot(network), moving), phase.name
        assert equal(snapshot(other), before), phase.name
        assert all(p.grad is None for p in other.parameters()), phase.name
        assert {name for name, _ in module.named_buffers()} == buffers


def test_clock_average_and_w_avg_move_once_a_step(make_tiny, play):
    module = make_tiny(ema_kimg=0.01)
    optimizers = module.configure_optimizers()
    for step in range(3):
        average = copy.deepcopy(module.ema)
        play(module, 1, optimizers)
        assert_moved(module, average, ema_decay(4, 4 * step, half_life_kimg=0.01, rampup=None))
        assert torch.equal(module.ema.mapping.w_avg, module.generator.mapping.w_avg)
        assert module.images_seen == int(module.nimg) == 4 * (step + 1)
    assert not module.ema.training
    assert not any(p.requires_grad for p in module.ema.parameters())
    assert module.generator.mapping.w_avg.abs().sum() > 0


def assert_moved(module, before: nn.Module, decay: float) -> None:
    for mean, old, new in zip(module.ema.parameters(), before.parameters(), module.generator.parameters(), strict=True):
        torch.testing.assert_close(mean, decay * old + (1 - decay) * new.detach())


def test_the_average_ramps_up_by_the_images_before_the_step(make_tiny, play):
    """As StyleGAN2-ADA counts: none at the first step, after which the average is the network itself."""
    module = make_tiny(ema_kimg=1.0, ema_rampup=0.5)
    optimizers = module.configure_optimizers()
    for decay in (0.0, 0.5 ** (4 / 2), 0.5 ** (4 / 4)):  # half-lives of 0, 2 and 4 images
        before = copy.deepcopy(module.ema)
        play(module, 1, optimizers)
        assert_moved(module, before, decay)


def test_the_half_life_of_the_average_follows_the_clock(make_tiny, play):
    module = make_tiny(ema_kimg=0.0, ema_kimg_end=0.02, decay_kimg=0.016)
    optimizers = module.configure_optimizers()
    play(module, 2, optimizers)
    before = copy.deepcopy(module.ema)
    play(module, 1, optimizers)
    assert_moved(module, before, 0.5 ** (4 / 10))  # half of the way is over


def test_w_avg_is_the_mean_of_unstyle_mixing(make_tiny, batch):
    images, labels = batch()
    for probability in (0.0, 1.0):
        module = make_tiny(batch_size=8, style_mixing_prob=probability)
        gradients(module, "generator", images, labels)
        torch.manual_seed(step_seed(0, 0, 0, "generator"))
        draw = module.sample_inputs(8)
        expected = 0.005 * module.generator.mapping(draw.z, draw.c)[:, 0].mean(dim=0)
        torch.testing.assert_close(module.generator.mapping.w_avg, expected.detach())


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("num_micro", [2, 4])
@pytest.mark.parametrize("phase", ["generator", "path_length", "discriminator", "r1"])
def test_accumulated_gradients_are_the_full_batchs(make_tiny, batch, phase, num_micro, c_dim):
    images, labels = batch(c_dim)
    whole, parts = (make_tiny(batch_size=8, num_micro=n, c_dim=c_dim) for n in (1, num_micro))
    expected = gradients(whole, phase, images, labels)
    assert_gradients_close(gradients(parts, phase, images, labels), expected)
    for name in ("pl_mean", "generator.mapping.w_avg"):
        torch.testing.assert_close(parts.get_buffer(name), whole.get_buffer(name), rtol=1e-5, atol=1e-7)
    found, logged = parts.means.collect(), whole.means.collect()
    assert found.keys() == logged.keys()
    for name in found:
        if not name.endswith("_std"):  # within the micro-batch
            assert found[name] == pytest.approx(logged[name], rel=1e-4, abs=1e-6), name


def test_path_length_is_the_published_penalty(make_tiny, batch):
    """Lengths minus a running mean that includes them, squared, and the gradient through both."""
    images, labels = batch()
    module = make_tiny(batch_size=8, pl_weight=3.0, pl_interval=5, pl_decay=0.25)
    module.pl_mean.fill_(2.0)
    reference = copy.deepcopy(module)
    found = gradients(module, "path_length", images, labels)
    torch.manual_seed(step_seed(0, 0, 0, "path_length"))
    lengths = reference.path_lengths(reference.sample_inputs(8, path_length=True))
    average = 2.0 + 0.25 * (lengths.mean() - 2.0)
    (3.0 * 5 * (lengths - average).square().mean()).backward()
    named = reference.generator.named_parameters()
    assert_gradients_close(found, {name: p.grad for name, p in named if p.grad is not None})
    assert module.pl_mean.item() == pytest.approx(average.item(), rel=1e-5)


def test_path_lengths_are_measured_on_half_of_the_batch(make_tiny, batch, monkeypatch):
    module, drawn = make_tiny(batch_size=8, pl_batch_shrink=2), []
    draw = module.sample_inputs
    monkeypatch.setattr(module, "sample_inputs", lambda num, **choices: drawn.append(num) or draw(num, **choices))
    gradients(module, "path_length", *batch())
    assert drawn == [4]


@pytest.mark.parametrize("images_per_process", [1, 3])
def test_path_length_on_a_very_small_batch(make_tiny, play, images_per_process):
    module = make_tiny(batch_size=images_per_process, pl_batch_shrink=2, discriminator={"mbstd_group_size": 1})
    play(module, 2)
    assert module.skipped.tolist() == [0, 0]
    assert module.pl_mean > 0


def test_r1_is_the_published_penalty(make_tiny, batch):
    images, labels = batch()
    module = make_tiny(batch_size=8, gamma=3.0, r1_interval=5)
    real = to_float(images).requires_grad_()
    (by_image,) = torch.autograd.grad(module.discriminator(real, labels).sum(), real, create_graph=True)
    penalty = by_image.square().sum(dim=(1, 2, 3)).mean()
    parameters = dict(module.discriminator.named_parameters())
    expected = torch.autograd.grad(3.0 / 2 * 5 * penalty, list(parameters.values()), allow_unused=True)
    expected = {name: g for name, g in zip(parameters, expected, strict=True) if g is not None}
    found = gradients(module, "r1", images, labels)
    assert_gradients_close({name: found[name] for name in expected}, expected)
    assert module.means.collect()["train/r1/penalty"] == pytest.approx(penalty.item(), rel=1e-5)


def test_a_step_depends_on_seed_and_clock_alone(make_tiny, play):
    a = play(make_tiny(), 2)
    torch.manual_seed(77)
    b = make_tiny()
    torch.randn(5)
    assert equal(snapshot(play(b, 2)), snapshot(a))
    other = make_tiny()
    other.seed = 1
    assert not equal(snapshot(play(other, 2)), snapshot(a))


def test_every_number_that_is_logged_has_a_meaning(make_tiny, tiny_encoder, play, make_images):
    module = play(make_tiny(), 2)
    assert {*module.means.collect(), *module.state_summary()} <= module.log_infos().keys()
    encoder = tiny_encoder(loss_weights={"w_norm": 0.1})
    encoder.run_step(*Batches(make_images(), 4).at(0), optimizers=encoder.configure_optimizers())
    assert {*encoder.means.collect(), *encoder.state_summary()} <= encoder.log_infos().keys()
    for info in {**module.log_infos(), **encoder.log_infos()}.values():
        assert info.meaning.endswith(".")


# --- the golden curve -----------------------------------------------------------------------------------------------


def curve(module, images) -> list[list[float]]:
    """Losses and statistics of 20 steps, a row per step."""
    names = ("generator/loss", "discriminator/loss", "logits/real", "path_length/mean", "r1/penalty")
    optimizers, rows, last = module.configure_optimizers(), [], {}
    for batch in itertools.islice(Batches(images, 4, mirror="x"), 20):
        module.run_step(*batch, optimizers=optimizers)
        last |= module.means.collect()
        rows.append([last[f"train/{name}"] for name in names])
    return rows


def test_the_golden_curve(make_tiny, make_images, tmp_path):
    """A change that is not meant to change training does not move these numbers.

    One that is: copy the file that this test names over golden_curve.txt, and say so in the commit.
    """
    rows = curve(make_tiny(c_dim=3, num_micro=2), make_images(c_dim=3))
    fresh = tmp_path / "golden_curve.txt"
    header = "# generator loss, discriminator loss, mean real logit, path length, R1 penalty; 20 steps of test_gan.py\n"
    fresh.write_text(header + "".join(" ".join(f"{value:.6g}" for value in row) + "\n" for row in rows))
    expected = [[float(value) for value in line.split()] for line in GOLDEN.read_text().splitlines()[1:]]
    found = torch.tensor(rows, dtype=torch.float64)
    told = lambda text: f"{text}\nthe new curve is in {fresh}"
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-3, atol=1e-4, msg=told)
