"""The table over runs: varying options are found, seeds are pooled, differences are tested; with planted effects."""

import importlib.util
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from tests.sweeps.runs import FD, PSNR, write_run
from wplus.__main__ import main
from wplus.core.seed_stats import sign_flip_p
from wplus.core.set_stats import improvement_probability, interquartile_mean
from wplus.errors import UserError
from wplus.sweeps.across import across_sets
from wplus.sweeps.members import read_member, read_members, varying
from wplus.sweeps.sections import markdown, notes, show
from wplus.sweeps.table import sweep_table
from wplus.sweeps.trials import direction, value_of
from wplus.sweeps.where import having, read_conditions

RNG = np.random.default_rng(0)
GAIN = {"w": 0.0, "w+": 2.0, "z": -1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def values(folder):
    """Three spaces with six seeds each: seeds differ by their number, the effect of the space is planted."""
    found = {space: [20 + gain + 0.1 * seed + 0.01 * float(RNG.normal()) for seed in range(6)]
             for space, gain in GAIN.items()}  # fmt: skip
    for space, points in found.items():
        for seed, value in enumerate(points):
            images = [value + float(RNG.normal()) for _ in range(6)]
            write_run(folder / f"{space}{seed}", {PSNR: value}, space=space, seed=seed, images=images)
    return found


def test_what_varies_is_found_and_seeds_are_pooled(folder, values):
    members = read_members([folder])
    assert varying(members) == ["space", "seed"]
    table = sweep_table(members, baseline={"space": "w"}, margin=5.0).sorted_by(PSNR)
    assert list(table.rows) == ["space=w+", "space=w", "space=z"]
    assert table.numbers == [PSNR]
    cell = table.cell("space=w+", PSNR)
    assert cell.mean.value == pytest.approx(np.mean(values["w+"]))
    assert cell.mean.interval[0] < cell.mean.value < cell.mean.interval[1]
    assert 0.7 < cell.clustered.image_sd < 1.4
    test = table.tests["space=w+"][PSNR]
    differences = np.subtract(values["w+"], values["w"])
    assert (test.difference, test.p) == (pytest.approx(differences.mean()), sign_flip_p(differences))
    assert test.p_holm == 2 * test.p  # two comparisons
    assert test.equivalent_p < 1e-6
    text = markdown(table)
    assert f"| configuration | seeds | {PSNR} ↑ |" in text
    assert "| space=w (baseline) | 6 |" in text
    assert "p = 0.06, equal within the margin" in text
    assert "The first of 3 rows was chosen by these very runs" in text
    assert "q = 0.03" in markdown(table, screen=True)


def test_seeds_alone_are_one_configuration(tmp_path):
    for seed in range(3):
        write_run(tmp_path / str(seed), {PSNR: float(seed)}, seed=seed)
    table = sweep_table(read_members([tmp_path]))
    assert {group: dict(row[PSNR].points) for group, row in table.rows.items()} == {"all runs": {0: 0, 1: 1, 2: 2}}
    write_run(tmp_path / "again", {PSNR: 9.0}, seed=1)
    again = sweep_table(read_members([tmp_path]))
    assert dict(again.rows["all runs"][PSNR].points) == {0: 0, 1: 1, 2: 2}
    assert "1 runs repeat another one" in again.notes[0]


def test_numbers_of_earlier_stages_stand_beside_a_runs_own(tmp_path):
    """What an edit preserves beside the closeness of the inversion that it edits, image by image."""
    for seed, space in enumerate(("w", "w+")):
        write_run(tmp_path / "invert" / space, {PSNR: 20.0, "invert/l2": 1.0}, space=space, images=[19.0, 21.0])
        write_run(tmp_path / "edit" / space, {"edit/kept": seed, "invert/l2": 2.0}, space=space, images=[0.0, 1.0],
                  command="edit")  # fmt: skip
    members = [read_member(tmp_path / "edit" / space, earlier=[tmp_path / "invert" / space]) for space in ("w", "w+")]
    assert members[1].numbers() == {PSNR: 20.0, "invert/l2": 2.0, "edit/kept": 1.0}
    assert members[1].items["1"] == {PSNR: 21.0, "edit/kept": 1.0}
    assert members[1].inherited == {PSNR}
    assert PSNR not in sweep_table(members).comparison.tested


def test_numbers_of_several_methods_are_numbers_of_the_run(tmp_path):
    """A value of one method in a comparison of paths can be an objective, and a column."""
    number = "evaluate/interpolation/w_lerp/tortuosity"
    for seed, value in enumerate((3.0, 4.0)):
        write_run(tmp_path / f"{seed}", {}, seed=seed, command="evaluate")
        result = json.loads((tmp_path / f"{seed}" / "result.json").read_text())
        entry = {"value": value, "direction": "lower"}
        methods = {"evaluate/interpolation": {"w_lerp": {"tortuosity": entry}}}
        (tmp_path / f"{seed}" / "result.json").write_text(json.dumps(result | {"methods": methods}))
    assert [member.numbers() for member in read_members([tmp_path])] == [{number: 3.0}, {number: 4.0}]
    later = read_member(tmp_path / "1", earlier=[tmp_path / "0"])
    assert (later.numbers(), later.inherited) == ({number: 4.0}, set())
    assert (direction(tmp_path / "0", number), value_of(tmp_path / "0", number)) == ("lower", 3.0)


def test_a_baseline_is_found_by_the_value_of_a_number(folder, values):
    whole = [replace(each, asked={**each.asked, "weight": int(GAIN[each.asked["space"]])})
             for each in read_members([folder])]  # fmt: skip
    assert sweep_table(whole, baseline={"weight": 2.0}).baseline.endswith("weight=2")


def test_keys_with_the_same_last_word_are_told_apart(folder, values):
    both = [replace(each, asked={**each.asked, "a.x": each.seed % 2, "b.x": each.asked["space"]})
            for each in read_members([folder])]  # fmt: skip
    assert "a.x=0 b.x=w space=w" in sweep_table(both).rows


def test_below_five_seeds_the_points_are_shown(tmp_path):
    for space in ("w", "w+"):
        for seed in (0, 1):
            write_run(tmp_path / f"{space}{seed}", {PSNR: 20.0 + seed}, space=space, seed=seed)
    write_run(tmp_path / "late", {PSNR: 1.0}, space="z", seed=0, status="failed")
    text = markdown(sweep_table(read_members([tmp_path]), baseline="space=w"), [PSNR])
    assert text.count("20.5 [20, 21]") == 2
    assert "no test below 5 seeds" in text
    assert "Below 5 seeds there is no interval" in text
    assert "1 of 5 runs have not finished" in text
    assert "| space=z |" not in text


def test_five_seeds_that_cannot_decide_say_so(folder, values):
    few = [each for each in read_members([folder]) if each.seed < 5]
    table = sweep_table(few, baseline="space=w")
    assert table.tests["space=w+"][PSNR].p == 2 / 2**5
    assert "(!) the interval and the test disagree" in " ".join(notes(table, [PSNR]))


def test_conditions_on_settings_and_on_numbers(folder, values):
    members = read_members([folder])

    def kept(*texts):
        conditions = read_conditions(texts, members)
        return sorted(sweep_table(having(members, conditions)).only(conditions).rows)

    assert kept("space=w+") == ["all runs"]
    assert kept("space != w+") == ["space=w", "space=z"]
    assert kept("psnr_db>20", "seed<3") == ["space=w", "space=w+"]
    assert kept("invert/psnr_db <= 20", "command=invert") == ["space=z"]
    assert kept("inverter=x") == ["space=w", "space=w+", "space=z"]
    assert len(having(members, read_conditions(["seed>=4"], members))) == 6


def test_files_of_every_kind(folder, values, tmp_path):
    table = sweep_table(read_members([folder]), baseline="space=w")
    frame = pd.read_csv(table.write(tmp_path / "t.csv")).set_index("space")
    assert frame.loc["w+", "difference"] == pytest.approx(np.mean(values["w+"]) - np.mean(values["w"]))
    assert json.loads(frame.loc["z", "points"])["3"] == values["z"][3]
    assert 0.7 < frame.loc["w", "image_sd"] < 1.4
    assert table.write(tmp_path / "t.md").read_text() == markdown(table)
    content = json.loads(table.write(tmp_path / "t.json").read_text())
    assert content["rows"]["space=z"][PSNR]["points"]["3"] == values["z"][3]
    kept = pyarrow.parquet.read_table(table.write(tmp_path / "t.parquet")).to_pylist()
    assert {row["space"]: row["difference"] for row in kept}["w+"] == frame.loc["w+", "difference"]
    with pytest.raises(UserError, match="ending of the table must be one of md, csv, json, parquet"):
        table.write(tmp_path / "t.xlsx")


def test_settings_of_several_kinds_are_text_in_a_parquet_file(tmp_path):
    settings = [None, 1, "auto", [1, 2], 0.123456789]
    for number, value in enumerate(settings):
        write_run(tmp_path / f"{number}", {PSNR: 20.0}, seed=0, **({} if value is None else {"x": value}))
    kept = pyarrow.parquet.read_table(sweep_table(read_members([tmp_path])).write(tmp_path / "t.parquet")).to_pylist()
    assert {row["x"] for row in kept} == {None, "1", "auto", "[1,2]", "0.123456789"}
    assert {row["mean"] for row in kept} == {20.0}


def test_what_a_file_needs_is_said_before_the_work(folder, values, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["sweep", "table", str(folder), "--output", f"{tmp_path}/t.md", f"{tmp_path}/t.parquet"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "A .parquet file needs pyarrow: pip install 'wplus[sweep]'.\n")
    assert list(tmp_path.iterdir()) == []


def test_long_numbers_are_short_names(tmp_path):
    for number, value in enumerate((0.015159204611384718, 0.4311710058685491)):
        write_run(tmp_path / f"{number}", {PSNR: 20.0}, seed=0, x=value, y=value)
    assert list(sweep_table(read_members([tmp_path]), keys=["x"]).rows) == ["x=0.01516", "x=0.4312"]


def test_several_data_sets_have_no_mean_but_ratios_and_chances(tmp_path):
    """Distances of a few and of thousands: the method is a tenth better on both."""
    scale = {"cats": 10.0, "dogs": 4000.0}
    for data, level in scale.items():
        for method, factor in (("old", 1.0), ("new", 0.9)):
            for seed in range(4):
                value = level * factor * (1 + 0.01 * float(RNG.normal()))
                asked = {"data.path": f"content {data}", "data.name": data, "method": method, "seed": seed}
                write_run(tmp_path / f"{data}{method}{seed}", {FD: value, PSNR: value / level}, **asked)
    table = sweep_table(read_members([tmp_path]), baseline="method=old", across=["data"])
    found = across_sets(table, FD)["method=new"]
    assert (found.num_sets, found.is_ratio) == (2, True)
    assert found.interquartile.value == pytest.approx(0.9, abs=0.01)
    assert found.improvement.value == 1.0
    sides = [[list(table.rows[group][FD].points.values()) for group in table.groups if f"method={name}" in group]
             for name in ("new", "old")]  # fmt: skip
    ratios = [[value / np.mean(base) for value in own] for own, base in zip(*sides, strict=True)]
    assert found.interquartile == interquartile_mean(ratios)
    assert found.improvement == improvement_probability(*sides, higher_is_better=False)
    decibels = across_sets(table, PSNR)["method=new"]
    assert (decibels.is_ratio, decibels.improvement.value) == (False, 0.0)
    assert len(table.tests) == 2  # each on its own data set
    text = markdown(table, [FD])
    assert "| method=new | times 0.9" in text
    assert "better with 1.00" in text
    assert text.count("(baseline)") == 2


def test_a_terminal_of_a_hundred_letters_is_enough(folder, values, capsys):
    table = sweep_table(read_members([folder]), baseline="space=w").sorted_by(PSNR)
    show(table, width=100)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:4] == ["configuration", "seeds", PSNR, "↑"]
    assert any(line.startswith(f"{PSNR} ↑: How close.") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 0, "space=w+"),
        (["--where", "psnr_db>20", "--baseline", "space=w", "--numbers", "psnr_db", "--margin", "psnr_db=3"], 0,
         "equal within the margin"),
        (["--sort", "psnr_db", "--margin", "0.2", "--baseline", "space=w", "--screen"], 0, "Benjamini"),
        (["--where", "spice=w"], 1, "'spice' must be one key: no run has it, as a setting or as a number."),
        (["--where", "space"], 1, "--where must be KEY=VALUE, or !=, <, <=, >, >= instead of =, got 'space'."),
        (["--where", "space=q"], 1, "None of the 18 runs has space=q."),
        (["--where", "psnr_db>99"], 1, "None of the 3 configurations has invert/psnr_db>99."),
        (["--margin", "0.2"], 1, "--margin 0.2 must name its number, as NUMBER=0.2: there is no objective."),
        (["--margin", "psnr_db=x"], 1, "--margin must be VALUE or NUMBER=VALUE, got 'psnr_db=x'."),
        (["--across", "data"], 1, "across must be among the keys that vary, which are space; got data."),
        (["--numbers", "x"], 1, "The number 'x' must fit one: there are invert/psnr_db."),
    ],
)  # fmt: skip
def test_the_command(folder, values, capsys, arguments, status, words):
    assert main(["sweep", "table", str(folder), *arguments]) == status
    said = capsys.readouterr()
    assert words in " ".join((said.out if status == 0 else said.err).split())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: read_members([path / "nothing"]), "There are no runs in"),
        (
            lambda path: sweep_table(read_members([path]), baseline="space=x"),
            "must fit one of space=w.*; it fits 0",
        ),
        (
            lambda path: sweep_table(read_members([path]), baseline="x"),
            "baseline must be one of space=w.*, got 'x'",
        ),
        (lambda path: sweep_table(read_members([path]), baseline={"space": "x"}), "it fits 0"),
        (lambda path: sweep_table(read_members([path])).sorted_by("x"), "sort must be one of invert/psnr_db"),
        (lambda path: markdown(sweep_table(read_members([path])), ["x"]), "numbers must be one of invert/psnr_db"),
    ],
)
def test_a_mistake_is_a_sentence(folder, values, make, message):
    with pytest.raises(UserError, match=message):
        make(folder)


def test_runs_of_two_commands_are_no_table(folder, values, tmp_path):
    write_run(tmp_path / "train", {FD: 1.0}, command="train", seed=0)
    members = read_members([folder, tmp_path])
    with pytest.raises(UserError, match="These are runs of invert and train"):
        sweep_table(members)
    assert sweep_table(having(members, read_conditions(["command=train"], members))).numbers == [FD]
