"""The study of paths: its tables match the folders of runs."""

from pathlib import Path

import pytest

from experiments.studies.interpolation.tables import TESTED, tables
from wplus.core.files import write_json

KERNEL = "kd_mobilenet_v2_mid_dip"


def folder_of(folder: Path, *, add: float, methods: dict[str, float]) -> Path:
    entries = {name: {"tortuosity": {"value": value, "interval": [value - 1, value + 1]},
                      KERNEL: {"value": value / 4, "interval": None}} for name, value in methods.items()}  # fmt: skip
    baseline, *others = methods
    test = {"num_items": 8, "difference": 1.0, "interval": [0.5, 1.5], "higher": 1.0, "effect": 1.0, "p": 0.01}
    paired = {name: {"tortuosity": test | {"p_holm": 0.02}, "seconds": test} for name in others}
    sets = {name: {KERNEL: {"value": 0.25, "interval": [0.0, 0.5]}} for name in others}
    rows = {name: {f"{pair}": dict.fromkeys(TESTED, pair + add) for pair in range(8)} for name in methods}
    content = {"means": entries, "paired": paired, "sets": sets, "baseline": baseline, "rows": rows}
    write_json(folder / "interpolation" / "table.json", content)
    return folder


@pytest.fixture
def found(tmp_path):
    of_paths = folder_of(tmp_path / "paths", add=0, methods={"w_lerp": 3.0, "w+_lerp": 2.0})
    encoded = folder_of(tmp_path / "encoder", add=-1, methods={"w+_lerp": 2.5})
    return {"paths": {"preconditioned": of_paths}, "ends": {"encoder": encoded}}


def test_paths_stand_beside_their_differences_from_the_baseline(found):
    (_, first), (title, second), *_ = tables(found)
    assert first.splitlines()[2:] == [
        "| w_lerp | 3.00 (2.00 to 4.00) | 0.75 |",
        "| w+_lerp | 2.00 (1.00 to 3.00) | 0.50 |",
    ]
    assert title == "paths, minus w_lerp"
    assert second.splitlines()[2:] == ["| w+_lerp | +1 (0.5 to 1.5), p = 0.02 | 0.25 (0.00 to 0.50) |"]


def test_ends_are_compared_pair_by_pair(found):
    *_, (_, first), (title, second) = tables(found)
    assert first.splitlines()[2:] == [
        "| preconditioned | 2.00 (1.00 to 3.00) | 0.50 |",
        "| encoder | 2.50 (1.50 to 3.50) | 0.62 |",
    ]
    assert title == "minus preconditioned"
    (line,) = second.splitlines()[2:]
    assert line.split(" | ") == [
        "| encoder",
        *["-1 (-1 to -1), p = 0.05"] * (len(TESTED) - 1),
        "-1 (-1 to -1), p = 0.05 |",
    ]
