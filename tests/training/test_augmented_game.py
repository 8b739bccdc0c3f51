"""The game with augmentation: who sees what, micro-batches, exact resume, the controller in a run."""

from functools import partial
from pathlib import Path

import pytest
import torch

from wplus.core.images import to_float
from wplus.core.random import step_seed
from wplus.core.runtime import Runtime
from wplus.data import Batches
from wplus.errors import UserError
from wplus.models import mlp_gan
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, ScheduledAugment
from wplus.training.build import gan_training
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams, auto
from wplus.training.loop import Schedule, fit

CPU = Runtime(device=torch.device("cpu"))


@pytest.fixture
def augmented(make_tiny):
    """augmented(augment, ...): a tiny game with it."""

    def make(augment, **changes) -> GanModule:
        plain = make_tiny(**changes)
        return GanModule(
            plain.generator,
            plain.discriminator,
            generator_loss=plain.generator_loss,
            discriminator_loss=plain.discriminator_loss,
            hparams=plain.hp,
            penalties=plain.penalties,
            num_micro=plain.num_micro,
            labels=plain.labels,
            augment=augment,
        )

    return make


@pytest.fixture
def train(make_images, recorder):
    """train(folder, images, game): the game, trained in `folder` up to so many images."""

    def run(folder: Path, images: int, game: GanModule) -> GanModule:
        batches = Batches(make_images(c_dim=3), 4, start_nimg=lambda: game.images_seen)
        schedule = Schedule(kimg=images / 1000, log_kimg=0.004, snapshot_kimg=0.004)
        fit(
            game, batches, schedule=schedule, runtime=CPU, output_dir=folder, tracker=recorder, export=lambda game: None
        )
        return game

    return run


def gradients(game: GanModule, phase_name: str, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    (phase,) = [phase for phase in game.phases() if phase.name == phase_name]
    network = getattr(game, phase.network)
    game.run_phase(phase, to_float(images), labels, torch.optim.SGD(network.parameters(), lr=0.0, fused=True))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_without_augmentation_a_game_has_the_state_and_the_identity_of_before(make_tiny):
    game = make_tiny()
    assert not [name for name in game.state_dict() if "augment" in name]
    assert game.run_fingerprint["augment"] is None


def test_p_0_changes_nothing(make_tiny, augmented, play):
    plain = play(make_tiny(), 3)
    for p_0 in (FixedAugment(0.0), AdaptiveAugment(0.0, target=1.0)):
        same = play(augmented(p_0), 3)
        for name, value in plain.state_dict().items():
            assert torch.equal(value, same.state_dict()[name]), name


@pytest.mark.parametrize("phase", ["generator", "discriminator", "r1"])
def test_the_discriminator_sees_augmented_images_only(augmented, make_images, phase):
    """A transform that leaves nothing of an image: then D must have seen nothing."""
    blank = FixedAugment(1.0, transforms="cutout", strengths={"cutout_size": 3.0})
    game, seen = augmented(blank, batch_size=8), []
    game.discriminator.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    gradients(game, phase, *Batches(make_images(), 8).at(0))
    assert len(torch.cat(seen)) == (16 if phase == "discriminator" else 8)
    assert not torch.cat(seen).any()  # all is cut out


def test_real_and_generated_images_are_augmented_each_in_its_own_way(augmented, make_images):
    """A transform that both had in common would be seen to be one."""
    images, labels = Batches(make_images(), 8).at(0)
    (pairs,) = augmented(FixedAugment(1.0), batch_size=8).discriminator_batches(to_float(images), labels)
    assert not torch.equal(pairs.augment_real.geometry, pairs.augment_fake.geometry)
    assert not torch.equal(pairs.augment_real.color, pairs.augment_fake.color)


def test_path_lengths_are_those_of_images_that_are_not_augmented(make_tiny, augmented, make_images):
    batch = Batches(make_images(), 8).at(0)
    plain = gradients(make_tiny(batch_size=8), "path_length", *batch)
    found = gradients(augmented(FixedAugment(1.0), batch_size=8), "path_length", *batch)
    assert all(torch.equal(found[name], plain[name]) for name in plain)


@pytest.mark.parametrize("phase", ["generator", "discriminator", "r1"])
def test_accumulated_gradients_are_the_full_batchs(augmented, make_images, phase):
    images, labels = Batches(make_images(c_dim=3), 8).at(0)
    games = [augmented(FixedAugment(0.9, transforms="bgcfnc"), batch_size=8, num_micro=n, c_dim=3) for n in (1, 4)]
    expected, found = (gradients(game, phase, images, labels) for game in games)
    scale = max(g.abs().max().item() for g in expected.values())
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max().item() <= 1e-5 * scale, name


def test_r1_is_the_gradient_by_the_image_before_it_is_augmented(augmented, make_images):
    images, labels = Batches(make_images(), 8).at(0)
    game = augmented(FixedAugment(0.9), batch_size=8, gamma=3.0, r1_interval=5)
    real = to_float(images).requires_grad_()
    torch.manual_seed(step_seed(0, 0, 0, "r1"))
    logits = game.discriminator(game.augment.sample(real)(real), labels)
    (by_image,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    penalty = 3.0 / 2 * 5 * by_image.square().sum(dim=(1, 2, 3)).mean()
    parameters = dict(game.discriminator.named_parameters())
    expected = dict(zip(parameters, torch.autograd.grad(penalty, parameters.values(), allow_unused=True), strict=True))
    found = gradients(game, "r1", images, labels)
    for name, gradient in expected.items():
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def adaptive() -> AdaptiveAugment:
    """Moves every second step, by a tenth or so."""
    return AdaptiveAugment(0.4, interval=2, speed_kimg=0.064, target=0.0, transforms="bgcfnc")


def scheduled() -> ScheduledAugment:
    """At its end after six steps."""
    return ScheduledAugment(0.0, p_end=0.8, decay_kimg=0.024, transforms="bgcfnc")


def test_the_controller_follows_the_logits_of_real_images(make_tiny, augmented, play):
    """As the discriminator's loss is given them, and not those of generated ones."""
    signs, loss = {"real": 0.0, "fake": 0.0}, make_tiny().discriminator_loss

    def counted(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        signs["real"] += real.sign().sum().item()
        signs["fake"] += fake.sign().sum().item()
        return loss(real, fake)

    losses = {"discriminator": counted}
    game = augmented(AdaptiveAugment(0.5, interval=100), losses=losses, lr_discriminator=0.01)
    play(game, 5)
    assert signs["real"] != signs["fake"]
    assert game.augment.signs.tolist() == [signs["real"], 5 * 4]


@pytest.mark.parametrize(("first", "strength"), [(4, adaptive), (12, adaptive), (20, adaptive), (12, scheduled)])
def test_a_resumed_run_equals_an_uninterrupted_one(augmented, train, tmp_path, first, strength):
    """Wherever the pause lies between two updates of p."""
    straight = train(tmp_path / "straight", 32, augmented(strength(), c_dim=3))
    train(tmp_path / "parts", first, augmented(strength(), c_dim=3))
    resumed = train(tmp_path / "parts", 32, augmented(strength(), c_dim=3))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert straight.augment.p != strength().p


def test_a_discriminator_with_dropout_moves_p(make_tiny, play):
    """Its logits of real images differ from pass to pass; their signs still say how sure it is, and a seed repeats."""

    def run() -> GanModule:
        torch.manual_seed(0)
        numbers = {**make_tiny().run_fingerprint["hparams"], "pl_weight": 0.0, "style_mixing_prob": 0.0}
        losses = {name: getattr(make_tiny(), name) for name in ("generator_loss", "discriminator_loss")}
        game = GanModule(
            mlp_gan.Generator(resolution=8, z_dim=6, width=16),
            mlp_gan.Discriminator(resolution=8, width=8, dropout=0.5),
            hparams=Hparams(**{**numbers, "lr_discriminator": 0.02, "gamma": 0.0}),
            augment=AdaptiveAugment(0.4, interval=2, speed_kimg=0.4, target=-1.0),
            **losses,
        )
        return play(game, 8)

    game, again = run(), run()
    assert game.skipped.tolist() == [0, 0]
    assert game.augment.p.item() == pytest.approx(0.4 + 4 * 8 / 400)
    assert -1 < game.augment.rt.item() < 1
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in game.state_dict().items())


def test_p_and_rt_are_logged(augmented, train, tmp_path, recorder):
    game = train(tmp_path, 16, augmented(adaptive(), c_dim=3))
    for _, row in recorder.rows:
        assert {"train/augment/p", "train/augment/rt", "train/augment/saturated"} <= row.keys()
    assert recorder.rows[-1][1]["train/augment/p"] == pytest.approx(game.augment.p.item())
    assert recorder.rows[-1][1]["train/augment/rt"] == pytest.approx(game.augment.rt.item())


def test_another_augmentation_is_another_run(augmented, train, make_tiny, tmp_path):
    train(tmp_path, 8, augmented(FixedAugment(0.2), c_dim=3))
    with pytest.raises(UserError, match=r"augment\.p was 0\.2 and is now 0\.3"):
        train(tmp_path, 16, augmented(FixedAugment(0.3), c_dim=3))
    with pytest.raises(UserError, match=r"augment\.p was 0\.2 and is now None"):
        train(tmp_path, 16, make_tiny(c_dim=3))


def test_a_training_hands_its_augmentation_to_the_game(make_images, make_tiny):
    tiny = make_tiny()
    parts = {
        "generator": partial(Generator, **tiny.generator.arguments),
        "discriminator": partial(Discriminator, **tiny.discriminator.arguments),
        "preset": auto,
        "loss": {"generator_loss": tiny.generator_loss, "discriminator_loss": tiny.discriminator_loss},
    }
    for part in ("generator", "discriminator"):
        for name in ("resolution", "c_dim", "img_channels"):
            del parts[part].keywords[name]
    choices = {"preset": None, "hparams": {}, "micro_batch_size": None, "runtime": CPU, "seed": 0, "num_samples": 4}
    known = {"data": lambda split: make_images(), "model": lambda: parts, "loss": None}
    training = gan_training(**known, augment=lambda: FixedAugment(0.3), **choices)
    assert training.module.augment.p.item() == pytest.approx(0.3)
    assert training.module.run_fingerprint["augment"] == {"p": 0.3}
    assert gan_training(**known, augment=None, **choices).module.run_fingerprint["augment"] is None
