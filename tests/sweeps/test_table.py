"""The table over runs: what varies is found, seeds are pooled, differences are tested."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wplus.errors import UserError
from wplus.sweeps.members import read_members, varying
from wplus.sweeps.seed_stats import sign_flip_p
from wplus.sweeps.table import sweep_table

RNG = np.random.default_rng(0)
GAIN = {"w": 0.0, "w+": 2.0, "z": -1.0}
PSNR = "invert/psnr_db"


def write_run(folder: Path, *, space: str, seed: int, status: str = "finished", num_images: int = 0) -> float:
    value = 20 + GAIN[space] + 0.1 * seed + 0.01 * float(RNG.normal())
    entry = {"value": value, "meaning": "How close.", "unit": "dB", "direction": "higher"}
    asked = {"space": space, "seed": seed, "checkpoint": "content abc", "inverter._target_": "wplus.inversion.x"}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"kind": "invert", "digest": "0", "question": asked}))
    values = {PSNR: entry, "derived/x": {"value": 3.0}, "probe/health": {"value": "fine"}}
    (folder / "result.json").write_text(json.dumps({"status": status, "values": values, "seconds": 3.0}))
    if num_images:
        rows = {f"{index}": {"psnr_db": value + float(RNG.normal())} for index in range(num_images)}
        (folder / "table.json").write_text(json.dumps({"rows": rows}))
    return value


@pytest.fixture
def values(tmp_path):
    return {space: [write_run(tmp_path / f"{space}{seed}", space=space, seed=seed, num_images=6) for seed in range(6)]
            for space in GAIN}  # fmt: skip


def test_what_varies_is_found_and_seeds_are_pooled(tmp_path, values):
    members = read_members([tmp_path])
    assert varying(members) == ["space", "seed"]
    table = sweep_table(members, baseline={"space": "w"}, margin=5.0).sorted_by(PSNR)
    assert list(table.rows) == ["space=w+", "space=w", "space=z"]
    assert table.numbers == [PSNR]
    cell = table.rows["space=w+"][PSNR]
    assert cell.mean.value == pytest.approx(np.mean(values["w+"]))
    assert cell.mean.interval[0] < cell.mean.value < cell.mean.interval[1]
    assert 0.7 < cell.clustered.image_sd < 1.4
    test = table.tests["space=w+"][PSNR]
    differences = np.subtract(values["w+"], values["w"])
    assert (test.difference, test.p) == (pytest.approx(differences.mean()), sign_flip_p(differences))
    assert test.p_corrected == 2 * test.p  # two comparisons
    assert test.equivalent_p < 1e-6
    text = table.markdown()
    assert f"| configuration | seeds | {PSNR} ↑ |" in text
    assert "| space=w (baseline) | 6 |" in text
    assert "p = 0.06, the same within the margin" in text


def test_a_baseline_is_found_by_the_value_of_a_number(tmp_path, values):
    members = read_members([tmp_path])
    whole = [replace(each, asked={**each.asked, "weight": int(GAIN[each.asked["space"]])}) for each in members]
    assert sweep_table(whole, baseline={"weight": 2.0}).baseline.endswith("weight=2")


def test_below_five_seeds_the_points_are_shown(tmp_path):
    for space in ("w", "w+"):
        for seed in (0, 1):
            write_run(tmp_path / f"{space}{seed}", space=space, seed=seed)
    write_run(tmp_path / "late", space="z", seed=0, status="failed")
    text = sweep_table(read_members([tmp_path]), baseline="space=w").markdown([PSNR])
    assert text.count("[") == 2
    assert "no test below 5 seeds" in text
    assert "space=z" not in text


def test_files_of_every_kind(tmp_path, values):
    table = sweep_table(read_members([tmp_path]), baseline="space=w")
    frame = pd.read_csv(table.write(tmp_path / "t.csv"))
    assert frame.set_index("space").loc["w+", "difference"] == pytest.approx(
        np.mean(values["w+"]) - np.mean(values["w"])
    )
    assert table.write(tmp_path / "t.md").read_text() == table.markdown()
    content = json.loads(table.write(tmp_path / "t.json").read_text())
    assert content["rows"]["space=z"][PSNR]["points"]["3"] == values["z"][3]
    with pytest.raises(UserError, match="ending of the table must be one of md, csv, json, parquet"):
        table.write(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: read_members([path / "nothing"]), "There are no runs in"),
        (lambda path: sweep_table(read_members([path]), baseline="space=x"), "baseline must be one of .*, got"),
        (lambda path: sweep_table(read_members([path]), baseline={"space": "x"}), "it fits 0"),
        (lambda path: sweep_table(read_members([path])).sorted_by("x"), "sort must be one of invert/psnr_db"),
        (lambda path: sweep_table(read_members([path])).markdown(["x"]), "numbers must be one of invert/psnr_db"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path, values, make, message):
    with pytest.raises(UserError, match=message):
        make(tmp_path)
