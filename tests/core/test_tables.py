"""Tables of methods: their numbers, their files, missing values."""

import csv
import json

import numpy as np
import pytest

from wplus.core.metric_result import MetricInfo
from wplus.core.seed_stats import SEEDS
from wplus.core.tables import Comparison, Table
from wplus.errors import UserError

NAMES = [f"{index:02d}" for index in range(8)]
BASE = {name: {"l2": 0.1 * index, "psnr_db": 20.0} for index, name in enumerate(NAMES)}
BETTER = {name: {"l2": row["l2"], "psnr_db": 22.0, "lec": 1.5} for name, row in BASE.items()}


L2 = MetricInfo(meaning="Mean squared difference.", direction="lower")
PSNR = MetricInfo(meaning="Peak signal to noise.", unit="dB", direction="higher")


def test_means_and_differences():
    methods = Comparison({"base": BASE, "better": BETTER}, "base")
    assert methods.columns == ["l2", "psnr_db", "lec"]
    assert methods.means["base"]["l2"].value == pytest.approx(0.35)
    assert "lec" not in methods.means["base"]
    assert list(methods.paired) == ["better"]
    found = methods.paired["better"]
    assert list(found) == ["l2", "psnr_db"]  # the baseline has no lec
    assert (found["psnr_db"].difference, found["psnr_db"].p_holm) == (2, pytest.approx(2 * 2 / 2**8))
    alone = Comparison({"base": BASE, "better": BETTER}, "base", tested=["psnr_db"]).paired["better"]
    assert (list(alone), alone["psnr_db"].p_holm) == (["psnr_db"], pytest.approx(2 / 2**8))


def test_files_say_the_same(tmp_path):
    methods = Comparison({"base": BASE, "better": BETTER}, "base")
    methods.write(tmp_path, {"images": "held out"}, headings={"psnr_db": ("PSNR, dB", ".1f"), "lec": ("LEC", ".2f")})
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["rows"] == {"base": BASE, "better": BETTER}
    assert content["protocol"] == {"images": "held out"}
    assert content["paired"]["better"]["psnr_db"]["interval"] == [2, 2]
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert rows[0] == {"method": "base", "name": "00", "l2": "0.0", "psnr_db": "20.0", "lec": ""}
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| method | PSNR, dB | LEC |", "|---|---|---|", "| base | 20.0 | – |", "| better | 22.0 | 1.50 |", "",
        "| minus 'base', paired | PSNR, dB |", "|---|---|", "| better | +2.0, p = 0.02 |",
    ]  # fmt: skip


def test_a_single_method_has_no_differences_and_few_items_no_test():
    assert "paired" not in Comparison({"base": BASE}, "base").markdown()
    few = {"one": {name: {"l2": 1.0} for name in "abc"}, "two": {"a": {"l2": 2}, "b": {"l2": 3}, "c": {"l2": 4}}}
    words = "| two | +2.0 (+1.0 to +3.0), no test below 6 items |"
    assert words in Comparison(few, "one").markdown({"l2": ("L2", ".1f")})


def test_an_unknown_score_is_refused():
    with pytest.raises(UserError, match="tested must be one of l2, psnr_db, got 'lpips'"):
        _ = Comparison({"base": BASE, "same": BASE}, "base", tested=["lpips"]).paired


def test_files_of_one_method(tmp_path):
    rows = {"a": {"l2": 0.25, "psnr_db": 12.5}, "sub/b,c": {"l2": 0.75, "psnr_db": 7.5}}
    table = Table(rows, info={"psnr_db": PSNR})
    table.write(tmp_path, {"space": "w"})
    with open(tmp_path / "table.csv", newline="") as file:
        read = {row.pop("name"): {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)}
    assert read == rows
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["rows"] == rows
    assert content["means"]["l2"]["value"] == 0.5
    assert content["protocol"] == {"space": "w"}
    assert content["info"] == {
        "psnr_db": {"meaning": "Peak signal to noise.", "unit": "dB", "direction": "higher", "per_item": True}
    }
    assert str(table).splitlines()[1:] == ["  l2             0.5 (0.25 to 0.75)", "  psnr_db ↑      10 (7.5 to 12.5)"]
    with pytest.raises(UserError, match="no meaning of l2"):
        table.entries("w/", {})
    explained = Table(rows, info={"l2": L2, "psnr_db": PSNR})
    assert explained.entries("w/", {"space": "w"})["w/psnr_db"] == {
        "value": 10, "interval": (7.5, 12.5), "protocol": {"space": "w"},
        "meaning": "Peak signal to noise.", "unit": "dB", "direction": "higher",
    }  # fmt: skip


def test_where_seeds_are_the_unit_there_are_points_below_five_and_images_within():
    few = {"base": {"0": {"l2": 1.0}, "1": {"l2": 3.0}}, "new": {"0": {"l2": 2.0}, "1": {"l2": 5.0}}}
    shown = {"l2": ("L2", ".1f")}
    text = Comparison(few, "base", unit=SEEDS).markdown(shown).splitlines()
    assert text[2:4] == ["| base | 2.0 [1.0, 3.0] |", "| new | 3.5 [2.0, 5.0] |"]
    assert text[-1] == "| new | +1.5, no test below 5 seeds |"
    rng = np.random.default_rng(0)
    items = {method: {str(seed): {name: {"l2": base + 0.1 * seed + float(rng.normal())} for name in NAMES}
                      for seed in range(6)} for method, base in (("base", 1.0), ("new", 4.0))}  # fmt: skip
    found = Comparison.over_seeds(items, "base", margins={"l2": 5.0})
    assert found.rows["new"]["3"]["l2"] == pytest.approx(np.mean([row["l2"] for row in items["new"]["3"].values()]))
    test = found.paired["new"]["l2"]
    assert (test.num_items, test.p) == (6, 2 / 2**6)
    assert test.equivalent_p < 0.01
    assert found.clusters("new", "l2").value == pytest.approx(found.means["new"]["l2"].value)
    assert "p = 0.03, equal within the margin: p = " in found.markdown(shown)
    assert found.as_dict()["unit"] == "seeds"
    assert Comparison(few, "base", unit=SEEDS).clusters("new", "l2") is None
    assert Comparison(few, None, unit=SEEDS).paired == {}
