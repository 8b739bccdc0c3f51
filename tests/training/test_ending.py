"""A run ends by images or by training time, and continues when either limit is raised."""

import re
from types import SimpleNamespace

import pytest
import torch

from wplus.core.claim import digest, question
from wplus.errors import UserError
from wplus.training import ending
from wplus.training.loop import Schedule


class Clock:
    """A second passes with every reading; `away` passes during an export."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch, signals_restored) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ending, "time", clock)
    return clock


def test_minutes_end_a_run_and_more_of_them_continue_it(train, make_tiny, tmp_path, clock):
    """4 images and a second a step: a minute is 60 steps; snapshots, an hour each, do not count as training."""

    def export(module, **_):
        clock.now += 3600

    straight = train(tmp_path / "straight", 48, make_tiny())
    parts = tmp_path / "parts"
    first = train(parts, None, make_tiny(), minutes=0.1, snapshot=12, export=export)
    assert first.seconds >= 6 > first.seconds - first.step_seconds
    assert 16 <= first.images_seen <= 24  # looks at the clock around a snapshot pass as seconds here
    again = train(parts, None, make_tiny(), minutes=0.1, export=export)  # the same command: nothing is left to do
    assert (again.images_seen, again.seconds) == (first.images_seen, first.seconds)
    more = train(parts, None, make_tiny(), minutes=0.15)
    assert more.images_seen > first.images_seen
    assert more.seconds >= 9 > more.seconds - more.step_seconds
    last = train(parts, 48, make_tiny(), minutes=9)  # the first limit that is reached ends it
    assert last.images_seen == 48
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, last.state_dict()[name]), name


def test_less_than_a_run_has_is_refused(train, make_tiny, tmp_path):
    train(tmp_path, None, make_tiny(), minutes=0.1)
    with pytest.raises(UserError, match=r"schedule\.minutes=0\.05 is less than the 0\.\d+ minutes"):
        train(tmp_path, None, make_tiny(), minutes=0.05)


def test_limits_that_are_none():
    with pytest.raises(UserError, match="cannot both be null"):
        Schedule(kimg=None)
    with pytest.raises(UserError, match=re.escape("schedule.minutes must be a number of at least 0, got -1")):
        Schedule(kimg=1, minutes=-1)


def test_the_log_says_what_was_spent_also_in_its_last_row(train, make_tiny, tmp_path, recorder):
    module = train(tmp_path, None, make_tiny(), minutes=0.1, snapshot=1000)
    kimg, values = recorder.rows[-1]
    assert kimg == module.images_seen / 1000
    assert values["progress/minutes"] == pytest.approx(module.seconds / 60)


def test_how_long_a_run_goes_is_no_other_question():
    asked = [digest(question({"trainer": {}, "schedule": {"kimg": 1, "minutes": minutes}, "seed": 0}))
             for minutes in (None, 1, 2)]  # fmt: skip
    assert len(set(asked)) == 1


def test_processes_agree_on_the_step_after_which_they_end(monkeypatch):
    """The slower one has time left, and is asked to end with the other; only every few steps."""
    monkeypatch.setattr(ending, "mean_over_ranks", lambda value: value + 0.5)
    stop = ending.StopAtEnd(kimg=1, minutes=1)
    module = SimpleNamespace(images_seen=4, batch_size=4, seconds=0.0, step_seconds=0.0, device=torch.device("cpu"))
    trainer = SimpleNamespace(world_size=2, is_global_zero=False, should_stop=False)
    stop.on_train_start(trainer, module)
    ended = []
    for step in range(1, 9):
        module.images_seen = 4 * step
        stop.on_train_batch_end(trainer, module)
        ended.append(trainer.should_stop)
    assert ended == [False] * 7 + [True]
