"""What all trainings share: skipped steps, means, a moving average, running statistics, and their description."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.trained import equal, snapshot
from wplus.core.images import to_float
from wplus.data import Batches
from wplus.errors import UserError
from wplus.losses import adversarial
from wplus.training.module import RunningMeans, check_same_run, ema_decay, leave_out, update_ema
from wplus.training.penalties import DiscriminatorBatch, both_logits

# --- steps that are skipped -----------------------------------------------------------------------------------------


class Poison:
    """A loss that is NaN from the n-th call on, for a number of calls."""

    def __init__(self, loss: Any, first: int, count: int, factor: float) -> None:
        self.loss, self.bad, self.factor, self.calls = loss, range(first, first + count), factor, itertools.count()

    def __call__(self, *logits: Tensor) -> Tensor:
        return self.loss(*logits) * (self.factor if next(self.calls) in self.bad else 1.0)


def poisoned(make_tiny, role: str, *, factor: float = float("nan"), first: int = 1, count: int = 1):
    losses = {"generator": adversarial.nonsaturating_generator, "discriminator": adversarial.logistic_discriminator}
    return make_tiny(losses={role: Poison(losses[role], first, count, factor)}, gamma=0.0, pl_weight=0.0)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_a_bad_gradient_changes_nothing_but_the_counters(make_tiny, play, role, factor):
    module = poisoned(make_tiny, role, factor=factor)
    optimizers = module.configure_optimizers()
    play(module, 1, optimizers)
    network, optimizer = getattr(module, role), optimizers[role == "discriminator"]
    parameters = [p.detach().clone() for p in network.parameters()]
    states = copy.deepcopy(optimizer.state_dict()["state"])
    play(module, 1, optimizers)
    assert equal([p.detach() for p in network.parameters()], parameters)
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(state[name], states[index][name]) for name in ("step", "exp_avg", "exp_avg_sq"))
    assert int(module.skipped[0]) == 1
    assert module.images_seen == 8
    play(module, 2, optimizers)
    assert module.skipped.tolist() == [1, 0]
    assert not equal([p.detach() for p in network.parameters()], parameters)
    assert all(tensor.isfinite().all() for tensor in snapshot(module))


def test_the_first_step_of_all_may_be_bad(make_tiny, play):
    module = play(poisoned(make_tiny, "generator", first=0), 2)
    assert int(module.skipped[0]) == 1
    assert all(tensor.isfinite().all() for tensor in snapshot(module))


def test_bad_steps_in_a_row_are_counted(make_tiny, play):
    both = poisoned(make_tiny, "discriminator", first=1, count=2)
    both.generator_loss = Poison(both.generator_loss, 1, 2, float("nan"))
    optimizers, counts = both.configure_optimizers(), []
    for _ in range(4):
        play(both, 1, optimizers)
        counts.append(both.skipped.tolist())
    assert counts == [[0, 0], [2, 2], [4, 4], [4, 0]]
    assert both.state_summary() == {"progress/skipped_steps": 4, "progress/skipped_in_a_row": 0}


def test_a_bad_path_length_leaves_its_running_mean(make_tiny, play, monkeypatch):
    module = make_tiny(pl_interval=1)
    optimizers = module.configure_optimizers()
    play(module, 1, optimizers)
    mean, lengths = module.pl_mean.clone(), module.path_lengths
    monkeypatch.setattr(module, "path_lengths", lambda sample: lengths(sample) * float("nan"))
    play(module, 1, optimizers)
    assert torch.equal(module.pl_mean, mean)
    assert int(module.skipped[0]) == 1


# --- means, and which run it is -------------------------------------------------------------------------------------


def test_means_since_the_last_collection():
    """Of values that may have a graph and may change later."""
    means, value = RunningMeans(), torch.tensor(1.0, requires_grad=True)
    assert means.collect() == {}
    for factor in (1.0, 2.0, 6.0):
        means.add("a", value * factor)
    plain = torch.tensor(5)
    means.add("b", plain)
    plain.fill_(7)
    assert means.collect() == pytest.approx({"a": 3.0, "b": 5.0})
    means.add("a", torch.tensor(7.0))
    assert means.collect() == {"a": 7.0}


FINGERPRINT = {"hparams": {"gamma": 1.0, "ema_rampup": None}, "generator": {"resolution": 8}, "seed": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"hparams": {"gamma": 2.0, "ema_rampup": None}}, r"hparams\.gamma was 1\.0 and is now 2\.0"),
        ({"hparams": {"gamma": 1.0, "ema_rampup": 0.05}}, r"hparams\.ema_rampup was None and is now 0\.05"),
        ({"generator": {"resolution": 16}}, r"generator\.resolution was 8 and is now 16"),
        ({"world_size": 2}, "world_size was None and is now 2"),
    ],
)
def test_a_run_continues_a_run_of_the_same_settings_only(change, message):
    check_same_run(FINGERPRINT, copy.deepcopy(FINGERPRINT), "file.ckpt")
    with pytest.raises(UserError, match=rf"^Cannot continue from 'file\.ckpt': {message}; .*another run_dir\.$"):
        check_same_run(FINGERPRINT, {**FINGERPRINT, **change}, "file.ckpt")
    with pytest.raises(UserError, match=r"^Cannot continue"):
        check_same_run({**FINGERPRINT, **change}, FINGERPRINT, "file.ckpt")


# --- moving average -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "half_life"), [(32, 10.0), (4, 0.5), (64, 20.0)])
def test_half_life_is_counted_in_images(batch, half_life):
    """After half_life images, the average has moved half way to a changed weight."""
    assert ema_decay(batch, 10**9, half_life, None) == pytest.approx(math.exp(-math.log(2) * batch / half_life / 1000))


def test_ramp_up_shortens_the_half_life_at_first():
    found = [ema_decay(32, nimg, 10, 0.05) for nimg in (0, 32_000, 200_000, 10**9)]
    assert found == pytest.approx([0.0, 0.5 ** (32 / 1600), 0.5 ** (32 / 10_000), 0.5 ** (32 / 10_000)])
    assert ema_decay(32, 0, 10, None) == pytest.approx(0.5 ** (32 / 10_000))
    assert ema_decay(32, 5000, 0, None) == 0.0


def test_updates_follow_the_geometric_series_and_copy_buffers():
    network, average = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    start = average[0].weight.detach().clone()
    network[1].running_mean.normal_()
    for step in range(10):
        network[0].weight.data.fill_(float(step))
        update_ema(average, network, 0.8)
    expected = 0.8**10 * start + sum(0.2 * 0.8 ** (9 - step) * step for step in range(10))
    torch.testing.assert_close(average[0].weight.detach(), expected)
    for mean, new in zip(average.buffers(), network.buffers(), strict=True):
        assert torch.equal(mean, new)
        assert mean is not new
    update_ema(average, network, 1.0)
    torch.testing.assert_close(average[0].weight.detach(), expected)
    update_ema(average, network, 0.0)
    assert torch.equal(average[0].weight, network[0].weight)


# --- batch normalisation --------------------------------------------------------------------------------------------


def test_real_and_generated_images_are_normalised_apart(make_tiny):
    """At 16 px, because at 8 px this discriminator normalises nothing after its first layer."""
    discriminator, none = make_tiny("dcgan", resolution=16).discriminator, torch.zeros(4, 0)
    pairs = DiscriminatorBatch(torch.randn(4, 3, 16, 16), none, torch.randn(4, 3, 16, 16) + 3, none, torch.ones(4))
    real, fake = both_logits(discriminator, pairs)
    assert torch.equal(real, discriminator(pairs.real))
    assert torch.equal(fake, discriminator(pairs.fake))
    assert not torch.allclose(real, discriminator(torch.cat([pairs.real, pairs.fake]))[:4])


@pytest.mark.parametrize("ema_kimg", [0.02, 0.0])
def test_the_average_has_the_statistics_of_the_generator(make_tiny, play, ema_kimg):
    module = play(make_tiny("dcgan", ema_kimg=ema_kimg), 3)
    ours, theirs = dict(module.ema.named_buffers()), dict(module.generator.named_buffers())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert module.ema.synthesis.norms[0].running_var.sum() != 8
    assert not any(each.training for each in module.ema.modules())
    z = torch.randn(4, 6)
    torch.testing.assert_close(module.ema(z)[:1], module.ema(z[:1]))
    assert equal([*module.ema.parameters()], [*module.generator.parameters()]) == (ema_kimg == 0)


def statistics(*networks: nn.Module) -> dict[str, Tensor]:
    """Running means and variances."""
    named = [(f"{index}.{name}", buffer) for index, net in enumerate(networks) for name, buffer in net.named_buffers()]
    return {name: buffer.clone() for name, buffer in named if name.endswith(("running_mean", "running_var"))}


@pytest.mark.parametrize("lost", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["discriminator", "encoder"])
def test_a_lost_batch_leaves_the_statistics_as_they_were(make_tiny, tiny_encoder, make_images, kind, lost):
    """For a discriminator, which normalises from 16 px on; for an encoder and its average."""
    module = tiny_encoder() if kind == "encoder" else make_tiny("dcgan", resolution=16)
    networks = [module.encoder, module.average] if kind == "encoder" else [module.discriminator]
    images, labels = Batches(make_images(resolution=module.generator.resolution), 4).at(0)
    optimizers = module.configure_optimizers()
    module.run_step(images, labels, optimizers)
    before = statistics(*networks)
    assert len(before) == 2 * len(networks)
    module.update(torch.full_like(to_float(images), lost), labels, optimizers)
    assert module.skipped[0] > 0
    assert all(torch.equal(value, before[name]) for name, value in statistics(*networks).items())
    assert all(value.isfinite().all() for network in networks for value in network.state_dict().values())
    module.run_step(images, labels, optimizers)
    assert all(not torch.equal(value, before[name]) for name, value in statistics(*networks).items())


def test_a_lost_channel_of_the_generator_is_not_in_the_average_either(make_tiny, play):
    """The other channels of the same layer move on."""
    module = make_tiny("dcgan")
    optimizers = module.configure_optimizers()
    play(module, 1, optimizers)
    norm, start = module.generator.synthesis.norms[0], statistics(module.generator)

    def lose_a_channel(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        x = args[0].clone()
        x[:, 1] = float("nan")
        return (x,)

    handle = norm.register_forward_pre_hook(lose_a_channel)
    play(module, 1, optimizers)
    handle.remove()
    now, name = statistics(module.generator), "0.synthesis.norms.0.running_var"
    stayed = now[name] == start[name]
    assert stayed.nonzero().flatten().tolist() == [1]
    assert all(torch.equal(value, now[name]) for name, value in statistics(module.ema).items())
    assert module.ema(torch.randn(2, 6)).isfinite().all()


def test_an_encoders_statistics_are_those_of_its_images(tiny_encoder, make_images):
    """One pass updates them once."""
    module, (images, labels) = tiny_encoder(), Batches(make_images(), 4).at(0)
    module.run_step(images, labels, module.configure_optimizers())
    assert int(module.encoder.norm.num_batches_tracked) == 1
    torch.testing.assert_close(module.encoder.norm.running_mean, 0.1 * to_float(images).mean(dim=(0, 2, 3)))


def test_frozen_parts_stay_out_of_the_state_and_are_not_asked_for():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own, self.frozen, self.frozen_too, self.absent = (
                nn.Linear(2, 1),
                nn.Linear(2, 1),
                nn.Linear(2, 1),
                None,
            )
            leave_out(self, "frozen", "absent")

    first, second = nn.ModuleDict({"a": Pair()}), nn.ModuleDict({"a": Pair()})
    before = second["a"].frozen.weight.clone()
    state = first.state_dict()
    assert {name.split(".")[1] for name in state} == {"own", "frozen_too"}
    second.load_state_dict(state)  # strictly
    assert torch.equal(second["a"].own.weight, first["a"].own.weight)
    assert torch.equal(second["a"].frozen.weight, before)
    with pytest.raises(RuntimeError, match="frozen_too"):
        second.load_state_dict({name: value for name, value in state.items() if "too" not in name})
