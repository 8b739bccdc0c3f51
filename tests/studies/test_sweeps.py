"""The study of sweeps: its commands parse, and its small sweeps are those shown in its README."""

import pytest

from experiments.studies.sweeps import show
from wplus.commands.compose import Composer
from wplus.commands.multirun import spec_of
from wplus.commands.sweep_run import SweepKeys, named_spec, with_overrides

COMPOSER = Composer()


@pytest.fixture
def typed(monkeypatch) -> list[tuple[str, ...]]:
    """Return the commands without running any."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(show, "wplus", lambda *arguments, **_: found.append(arguments))
    monkeypatch.setattr(show, "file_in_the_way", lambda *_: show.contextmanager(lambda: (yield))())
    return found


def test_what_is_typed_can_be_asked(typed):
    for part in show.PARTS.values():
        part()
    runs = {each for each in typed if each[:2] == ("sweep", "run") or "-m" in each}
    for verb, *rest in runs:
        keys, overrides = SweepKeys.of(rest[2 if verb == "sweep" else 1 :])
        named = [each for each in overrides if each != "--dry"]
        spec = with_overrides(named_spec(rest[1]), named) if verb == "sweep" else spec_of(verb, overrides, keys)
        if spec.search is None:
            COMPOSER.asked(spec.stages[0].verb, spec.jobs()[0].overrides({}))
        else:
            assert set(spec.objectives) <= {"val/fd_effnet_lite0", "invert/psnr_db", "invert/prior_distance"}
    assert {len(named_spec(name).jobs()) for name in show.SMALL} == {24, 6}
