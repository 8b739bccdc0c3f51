"""Steps that are skipped: a gradient that is not finite changes nothing but the counters."""

import copy
import itertools

import pytest
import torch

from tests.training.states import equal, snapshot
from wplus.losses import adversarial


class Poison:
    """A loss that is bad from the n-th call on, for a number of calls."""

    def __init__(self, loss, first: int, count: int, factor: float) -> None:
        self.loss, self.bad, self.factor, self.calls = loss, range(first, first + count), factor, itertools.count()

    def __call__(self, *logits: torch.Tensor) -> torch.Tensor:
        return self.loss(*logits) * (self.factor if next(self.calls) in self.bad else 1.0)


def poisoned(make_tiny, role: str, *, factor: float = float("nan"), first: int = 1, count: int = 1, **hparams):
    losses = {"generator": adversarial.nonsaturating_generator, "discriminator": adversarial.logistic_discriminator}
    return make_tiny(losses={role: Poison(losses[role], first, count, factor)}, **hparams)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_a_bad_gradient_changes_nothing_but_the_counters(make_tiny, play, role, factor):
    game = poisoned(make_tiny, role, factor=factor, gamma=0.0, pl_weight=0.0)
    optimizers = game.configure_optimizers()
    play(game, 1, optimizers)
    network = getattr(game, role)
    parameters = [p.detach().clone() for p in network.parameters()]
    states = copy.deepcopy([o.state_dict()["state"] for o in optimizers][role == "discriminator"])
    play(game, 1, optimizers)
    assert equal([p.detach() for p in network.parameters()], parameters)
    for index, state in [o.state_dict()["state"] for o in optimizers][role == "discriminator"].items():
        assert all(torch.equal(state[name], states[index][name]) for name in ("step", "exp_avg", "exp_avg_sq"))
    assert int(game.skipped[0]) == 1
    assert game.images_seen == 8
    play(game, 2, optimizers)
    assert game.skipped.tolist() == [1, 0]
    assert not equal([p.detach() for p in network.parameters()], parameters)
    assert all(tensor.isfinite().all() for tensor in snapshot(game))


def test_the_first_step_of_all_may_be_bad(make_tiny, play):
    game = poisoned(make_tiny, "generator", first=0, count=1, gamma=0.0, pl_weight=0.0)
    play(game, 2)
    assert int(game.skipped[0]) == 1
    assert all(tensor.isfinite().all() for tensor in snapshot(game))


def test_bad_steps_in_a_row_are_counted(make_tiny, play):
    both = poisoned(make_tiny, "discriminator", first=1, count=2, gamma=0.0, pl_weight=0.0)
    both.generator_loss = Poison(both.generator_loss, 1, 2, float("nan"))
    optimizers, counts = both.configure_optimizers(), []
    for _ in range(4):
        play(both, 1, optimizers)
        counts.append(both.skipped.tolist())
    assert counts == [[0, 0], [2, 2], [4, 4], [4, 0]]
    assert both.state_summary() == {"progress/skipped_steps": 4, "progress/skipped_in_a_row": 0}


def test_a_bad_path_length_leaves_its_running_mean(make_tiny, play, monkeypatch):
    game = make_tiny(pl_interval=1)
    optimizers = game.configure_optimizers()
    play(game, 1, optimizers)
    mean = game.pl_mean.clone()
    lengths = game.path_lengths
    monkeypatch.setattr(game, "path_lengths", lambda sample: lengths(sample) * float("nan"))
    play(game, 1, optimizers)
    assert torch.equal(game.pl_mean, mean)
    assert int(game.skipped[0]) == 1
