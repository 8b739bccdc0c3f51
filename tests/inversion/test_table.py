"""Means, intervals, and the two files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from wplus.inversion.table import Table, bootstrap_mean


def test_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    mean = bootstrap_mean(values)
    assert mean.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert mean.interval == pytest.approx((mean.value - half, mean.value + half), abs=0.03)


def test_interval_is_the_same_every_time_and_absent_for_one_value():
    assert bootstrap_mean([1, 2, 3]) == bootstrap_mean([1, 2, 3])
    assert bootstrap_mean([5.0]).interval is None


def test_files_say_the_same(tmp_path):
    rows = {"a": {"l2": 0.25, "psnr_db": 12.5}, "sub/b,c": {"l2": 0.75, "psnr_db": 7.5}}
    table = Table(rows)
    table.write(tmp_path, {"space": "w"})
    with open(tmp_path / "table.csv", newline="") as file:
        read = {row.pop("name"): {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)}
    assert read == rows
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["rows"] == rows
    assert content["means"]["l2"]["value"] == 0.5
    assert content["protocol"] == {"space": "w"}
    assert "psnr_db" in str(table)
