"""The two files."""

from __future__ import annotations

import csv
import json

from wplus.core.tables import Table


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
