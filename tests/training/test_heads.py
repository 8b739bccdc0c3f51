"""Heads on frozen features in a training: losses by hand, scheduled weight, one step of all, and refusals."""

from typing import Any

import pytest
import torch
from torch.nn.functional import relu

import wplus
from tests.training.trained import CPU, LOSS, assert_gradients_close, equal, gradients, model, snapshot
from wplus.config import build, composed
from wplus.core.images import to_float
from wplus.data import Batches
from wplus.errors import UserError
from wplus.losses.adversarial import relativistic_discriminator, relativistic_generator
from wplus.models.projected import Aided, Projected
from wplus.models.spectral import SpectralConv2d
from wplus.training.build import gan_training
from wplus.training.gan_losses import discriminator_batches
from wplus.training.heads import Heads, ScheduledHeads
from wplus.training.hparams import explain_config
from wplus.training.penalties import both_logits
from wplus.training.phases import draw_pairs
from wplus.training.transfer import Transfer


def test_losses_by_hand():
    """Each head counts alike, however many positions it has."""
    real, fake = ([torch.randn(3, 16), torch.randn(3, 4)] for _ in range(2))
    heads = Heads()
    expected = torch.zeros(3)
    for a, b in zip(real, fake, strict=True):
        for n in range(3):
            values = [relu(1 - x) + relu(1 + y) for x, y in zip(a[n], b[n], strict=True)]
            expected[n] += sum(values) / len(values) / 2
    torch.testing.assert_close(heads.discriminator_loss(real, fake), expected)
    torch.testing.assert_close(heads.generator_loss(fake), -(fake[0].mean(dim=1) + fake[1].mean(dim=1)) / 2)
    share = heads.observe(
        [torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0]])], [torch.tensor([[-1.0, -1.0]]), torch.tensor([[2.0]])]
    )
    assert share.item() == pytest.approx((0.75 + 0.5) / 2)


def test_the_weight_by_the_clock():
    heads = ScheduledHeads(weight=0.8, start_kimg=1, warmup_kimg=2, hold_kimg=3, fade_kimg=4, floor=0.2)
    found = {kimg: heads.weight_at(int(kimg * 1000)) for kimg in (0, 0.999, 1, 2, 3, 6, 8, 10, 99)}
    assert found == pytest.approx({0: 0, 0.999: 0, 1: 0, 2: 0.4, 3: 0.8, 6: 0.8, 8: 0.5, 10: 0.2, 99: 0.2})
    assert ScheduledHeads(weight=0.5).weight_at(10**9) == 0.5
    assert ScheduledHeads(hold_kimg=1).weight_at(1001) == 0  # no time to fade in: at once


def test_the_strength_goes_down_while_heads_win():
    """64 images x 4 steps / 2 kimg down, or up; within [0, 1]; by the mean over the steps since the last move."""
    heads = ScheduledHeads(weight=0.5, target=0.7, speed_kimg=2)
    won, lost = [torch.ones(2, 4)], [-torch.ones(2, 4)]
    for step in range(1, 9):
        heads.observe(won, lost)
        heads.adapt(batch_size=64, step=step)
        assert heads.strength.item() == pytest.approx(1 - 0.128 * (step // 4))
    assert heads.weight_at(0).item() == pytest.approx(0.5 * (1 - 0.256))
    for step in range(9, 41):
        heads.observe(lost, won)
        heads.adapt(batch_size=64, step=step)
    assert heads.strength.item() == 1
    for step in range(41, 45):  # half of the steps right: 0.5 is below the target, 0.75 above it
        heads.observe(won, lost if step % 2 else won)
        heads.adapt(batch_size=64, step=step)
    assert heads.strength.item() == pytest.approx(1 - 0.128)
    for step in range(45, 49):  # nobody asked them
        heads.adapt(batch_size=64, step=step)
    assert heads.strength.item() == pytest.approx(1 - 0.128)


@pytest.fixture
def aided(make_tiny):
    """aided(...): as make_tiny, with heads beside the discriminator."""

    def make(*, heads: Heads | None = None, **changes: Any) -> Any:
        return make_tiny(
            heads=ScheduledHeads(weight=0.5, **changes.pop("weights", {})) if heads is None else heads, **changes
        )

    return make


@pytest.fixture
def batch(make_images):
    return Batches(make_images(c_dim=3), 8).at(0)


def test_the_generator_hears_the_weighted_heads(aided, make_tiny, batch):
    """Its gradient is that without heads, and the weight times that of what they say."""
    found = {
        weight: gradients(aided(c_dim=3, heads=ScheduledHeads(weight=weight)), "generator", *batch)
        for weight in (0.5, 1.0)
    }
    plain = gradients(make_tiny(c_dim=3), "generator", *batch)
    for name, gradient in plain.items():
        torch.testing.assert_close(
            found[0.5][name] - gradient, (found[1.0][name] - gradient) / 2, rtol=1e-3, atol=1e-6, msg=name
        )
    assert any((found[1.0][name] - gradient).abs().max() > 1e-4 for name, gradient in plain.items())


def test_the_pixels_learn_what_they_learn_without_heads(aided, make_tiny, batch):
    """And the heads by a hinge loss of the images that everyone sees; R1 leaves the heads alone."""
    module, plain = aided(c_dim=3), make_tiny(c_dim=3)
    found, expected = (gradients(each, "discriminator", *batch) for each in (module, plain))
    assert_gradients_close({name: found[f"pixel.{name}"] for name in expected}, expected)
    assert any(name.startswith("nets.") for name in found)
    found, expected = (gradients(each, "r1", *batch) for each in (aided(c_dim=3), make_tiny(c_dim=3)))
    assert_gradients_close(found, {f"pixel.{name}": gradient for name, gradient in expected.items()})


@pytest.mark.parametrize("phase", ["generator", "discriminator"])
def test_micro_batches_add_up(aided, batch, phase):
    options: dict[str, Any] = {"c_dim": 3, "weights": {"policy": "color,translation,cutout"}}
    whole, parts = (gradients(aided(num_micro=num, **options), phase, *batch) for num in (1, 2))
    assert_gradients_close(parts, whole)


@pytest.mark.parametrize("family", ["stylegan1", "r3gan", "dcgan", "progan"])
def test_heads_beside_every_family_in_training(aided, play, family):
    """Networks that grow, a loss that compares, batch normalisation: the heads learn, and the generator hears them."""
    losses = {"generator": relativistic_generator, "discriminator": relativistic_discriminator}
    module = aided(family=family, resolution=16, c_dim=3, losses=losses if family == "r3gan" else None)
    before = snapshot(module.discriminator.nets)
    found = play(module, 2).means.collect()
    assert not equal(snapshot(module.discriminator.nets), before)
    assert {"train/heads/generator", "train/heads/accuracy", "train/generator/loss"} <= set(found)
    assert int(module.skipped[0]) == 0


def test_nobody_asks_heads_of_weight_0(aided, play, monkeypatch):
    module = aided(weights={"start_kimg": 0.008})
    asked: list[int] = []
    ask = module.discriminator.head_logits
    monkeypatch.setattr(
        module.discriminator, "head_logits", lambda *args: (asked.append(module.images_seen), ask(*args))[1]
    )
    play(module, 4)
    assert asked == [8, 8, 12, 12]


def test_the_power_iteration_moves_once_a_step(aided, play, monkeypatch):
    module, moved = aided(num_micro=2), []
    monkeypatch.setattr(SpectralConv2d, "iterate", lambda layer, num=1: moved.append(layer))
    play(module, 1)
    spectral = [part for part in module.discriminator.modules() if isinstance(part, SpectralConv2d)]
    assert len(moved) == len(spectral)
    assert all(a is b for a, b in zip(moved, spectral, strict=True))


def test_own_learning_rate_and_moving_numbers(aided, play):
    module = aided(weights={"lr": 0.123}, decay_kimg=0.01, lr_end=0.0)
    optimizers = module.configure_optimizers()
    play(module, 4, optimizers)
    rates = [group["lr"] for group in optimizers[1].param_groups]
    assert rates[1] == 0.123
    assert rates[0] < 1e-5
    shared = aided(weights={"lr": None}).configure_optimizers()[1].param_groups
    assert len(shared) == 1
    assert len(shared[0]["params"]) == len(list(aided().discriminator.parameters()))


def start_with(choice: str, *overrides: str, **changes: Any) -> Any:
    """A training of a tiny StyleGAN2 with configs/discriminator/CHOICE."""
    from tests.fakes import random_images

    node = composed("train", [f"discriminator={choice}", *overrides])["discriminator"]
    node["network"].update({"channels": [8, 8, 8, 8], "input_px": 32} if "heads" in node else {})
    options = {"preset": None, "loss": None, "runtime": CPU, "seed": 0, "num_samples": 4, **changes}
    return gan_training(
        data=lambda split: random_images(resolution=16), model=lambda: model(channel_base=64, channel_max=8),
        hparams={"batch_size": 4, **options.pop("hparams", {})}, micro_batch_size=None,
        discriminator=lambda: build(node), **options,
    )  # fmt: skip


def test_aided_as_the_command_builds_it(play):
    """The pixels' weights are those of a run without heads; the file records which nets were used."""
    training, plain = (
        start_with("aided", "discriminator.heads.weight=0.3"),
        start_with("aided", "discriminator.heads.weight=0.1"),
    )
    module = training.module
    assert isinstance(module.discriminator, Aided)
    assert module.heads.weight == 0.3
    assert len(module.discriminator.arguments["sha256"]["effnet_lite0"]) == 64
    assert module.ema.saw == module.discriminator.saw == ("effnet_lite0",)
    assert module.run_fingerprint["heads"] != plain.module.run_fingerprint["heads"]
    assert {"train/heads/accuracy", "train/heads/weight"} <= set(module.log_infos())
    assert "train/heads/loss" in play(module, 2).means.collect()


def test_projected_as_the_command_builds_it(play):
    """No pixels: no penalty, no loss of the model's; ADA follows the heads."""
    from wplus.training.augment.control import AdaptiveAugment

    training = start_with("projected", augment=lambda: AdaptiveAugment(interval=1, speed_kimg=0.01))
    module = play(training.module, 3)
    assert isinstance(module.discriminator, Projected)
    assert training.resolved["gamma"] == (0.0, "this loss has no penalty with this weight")
    assert [phase.name for phase in module.phases()] == ["generator", "path_length", "discriminator"]
    assert -1 <= module.augment.rt.item() <= 1
    assert module.augment.rt.item() != 0
    found = module.means.collect()
    assert "train/generator/loss" not in found
    assert found["train/heads/loss"] > 0
    with pytest.raises(UserError, match="loss has no effect on a discriminator of frozen features alone"):
        start_with("projected", loss=lambda: LOSS)


def test_the_configuration_knows_the_numbers_of_both():
    assert explain_config(composed("train", ["discriminator=projected", "data.resolution=32"]))["gamma"][0] == 0
    assert explain_config(composed("train", ["discriminator=aided", "data.resolution=32"]))["gamma"][0] > 0


def test_heads_join_a_trained_discriminator_and_leave_it(files, start, tmp_path):
    trained = wplus.load(files[1]).discriminator
    module = start_with("aided", transfer=Transfer(checkpoint=list(files))).module
    assert torch.equal(module.discriminator.pixel.b4.out.weight, trained.b4.out.weight)
    assert torch.equal(module.discriminator.pixel.b8.conv0.weight, trained.b8.conv0.weight)
    path = wplus.save(tmp_path / "aided.safetensors", discriminator=module.discriminator)
    plain = start([files[0], path])
    assert torch.equal(plain.module.discriminator.b16.conv1.weight, module.discriminator.pixel.b16.conv1.weight)
    assert not plain.transfer.networks[1].new
    again = start_with("projected", transfer=Transfer(checkpoint=[files[0], path])).module.discriminator
    head = again.nets["effnet_lite0"].heads[0].read.weight
    assert torch.equal(head, module.discriminator.nets["effnet_lite0"].heads[0].read.weight)
    san = start_with("san", transfer=Transfer(checkpoint=[files[0], path])).module.discriminator
    assert torch.equal(san.direction.weight, module.discriminator.pixel.b4.out.weight)
    path = wplus.save(tmp_path / "san.safetensors", discriminator=san)
    assert torch.equal(start([files[0], path]).module.discriminator.b4.out.weight, san.direction.weight)


def test_the_direction_of_san_learns_to_part_the_images(make_tiny, make_images):
    """Its gradient is that of E<w, h(G(z))> - E<w, h(x)>, so a step along it raises real logits over generated ones."""
    module, (images, labels) = make_tiny(san=True), Batches(make_images(), 8).at(0)
    found = gradients(module, "discriminator", images, labels)
    module.seed_phase("discriminator")
    (part,) = discriminator_batches(module, draw_pairs(module, to_float(images), labels))
    real, fake = both_logits(module.discriminator, part)
    weight = module.discriminator.direction.weight
    expected = torch.autograd.grad((fake[:, 1] - real[:, 1]).mean(), weight)[0]
    torch.testing.assert_close(found["pixel.b4.out.weight"], expected)
    assert expected.abs().max() > 1e-4
