"""Progress on outputs that are not terminals, and its estimates."""

import re

import pytest

from wplus.core import progress
from wplus.core.progress import Bar, track, watched


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests turn, and lines at every update."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    return now


def test_the_time_left_is_that_of_the_work_at_hand(clock, capsys):
    """90 of 100 were done before, the first one came after a slow start, each takes two seconds from then on."""
    with Bar("Working", 100, start=90) as moved:
        clock[0] += 60
        moved.update()
        for _ in range(3):
            clock[0] += 2
            moved.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Working: 91/100, 60 s"
    assert lines[-1] == "Working: 94/100, 66 s, 12 s left"


def test_many_small_parts_arrive(monkeypatch, capsys):
    with Bar("Inverting", 3) as moved:
        for _ in range(300):
            moved.update(1 / 100)
            assert re.match(r"Inverting: \d(\.\d)?/3,", moved._line())
    assert re.search(r"Inverting: 3/3, \d+ s, 0 s left$", capsys.readouterr().err.strip())


def test_items_pass_through(capsys):
    assert list(track([1, 2, 3], "Reading")) == [1, 2, 3]
    assert "Reading: 3/3" in capsys.readouterr().err


def test_a_watcher_sees_bars_and_may_end_the_work():
    seen = []

    def watch(bar):
        seen.append((bar.description, bar.done))
        if bar.done == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError), watched(watch):
        list(track([1, 2, 3], "Reading"))
    assert seen == [("Reading", 1), ("Reading", 2)]
    assert list(track([1, 2, 3], "Reading")) == [1, 2, 3]
    assert len(seen) == 2
