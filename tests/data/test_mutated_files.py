"""Damaged files are read or named by every reader; experiments/benchmarks/mutated_files.py tries a thousand."""

import pytest

from experiments.benchmarks import mutated_files


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_named():
    counts, failures = mutated_files.campaign(32, seed=7)
    assert failures == []
    assert {outcome for _, outcome in counts} == {"read", "named"}
    assert {way for way, _ in counts} == {"folder", "zip", "prepare", "invert"}


def test_the_campaign_sees_what_is_neither(tmp_path, monkeypatch):
    def fails() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(mutated_files, "ways", lambda *_, **__: {"folder": fails, "zip": lambda: None})
    counts, failures = mutated_files.campaign(1, seed=7)
    assert counts == {("folder", "failed"): 1, ("zip", "read"): 1}
    assert len(failures) == 1
    assert "ZeroDivisionError" in failures[0]
