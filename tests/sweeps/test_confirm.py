"""The winner of a sweep on fresh seeds: chosen on some seeds, judged on others, and both are shown."""

import numpy as np
import pytest

from tests.sweeps.runs import PSNR, write_run
from wplus.__main__ import main
from wplus.commands import sweep_table as command
from wplus.errors import UserError
from wplus.sweeps.confirm import chosen, confirming, fresh_seeds
from wplus.sweeps.members import read_members
from wplus.sweeps.spec import Spec, Stage
from wplus.sweeps.state import JobState, SweepFolder
from wplus.sweeps.table import sweep_table

SPEC = Spec(name="s", objective=PSNR, baseline={"space": "w"}, stages=[
    Stage(verb="train", name="t", axes={"gamma": [1, 2]}, seeds=[0, 1, 2, 3, 4]),
    Stage(verb="invert", overrides=["checkpoint={t}/last", "num_images=4"], axes={"space": ["w", "w+"]}),
])  # fmt: skip
TRUTH = {"w": 20.0, "w+": 21.0}


def write_sweep(spec: Spec, folder, *, luck: float) -> None:
    """Write all of its runs as if launched; `luck` is what gamma=2 gains on these seeds by chance."""
    sweep = SweepFolder(folder)
    sweep.claim(spec, "wplus sweep run s")
    for job in spec.jobs():
        path = folder / "of" / job.id
        point = dict(job.point)
        if job.stage.verb == "invert":
            value = TRUTH[point["space"]] + luck * (point["gamma"] == 2) + 0.01 * point["seed"]
            write_run(path, {PSNR: value}, space=point["space"], seed=0, checkpoint=f"content {job.parents['t']}")
        else:
            write_run(path, {"train/loss": 1.0}, command="train", **point)
        sweep.save(JobState(job.id, state="done", point=dict(job.point), run_dir=str(path)))


@pytest.fixture
def folder(tmp_path):
    write_sweep(SPEC, tmp_path / "s", luck=0.5)
    return tmp_path / "s"


def test_the_seeds_of_an_earlier_stage_are_seeds_of_the_last(folder):
    """Inversions with the generators of five trainings are one configuration, whichever file each of them read."""
    table = sweep_table(read_members([folder]))
    assert {group: len(row[PSNR].points) for group, row in table.rows.items()} == {
        f"gamma={gamma} space={space}": 5 for space in TRUTH for gamma in (1, 2)
    }


def test_what_is_run_again_is_the_best_and_the_baseline_on_seeds_that_nothing_used(folder):
    table = sweep_table(read_members([folder]), baseline={"space": "w", "gamma": 1}).sorted_by(PSNR)
    assert chosen(table, 1) == ["gamma=2 space=w+", "gamma=1 space=w"]
    assert fresh_seeds(table) == [5, 6, 7, 8, 9]
    spec = confirming(SPEC, SPEC.jobs(), table, "gamma=2 space=w+", fresh_seeds(table))
    assert spec.name == "gamma_2_space_w+"
    jobs = spec.jobs()
    assert [dict(job.point) for job in jobs if job.stage.name == "t"] == [
        {"gamma": 2, "seed": seed} for seed in range(5, 10)
    ]
    assert [dict(job.point) for job in jobs if job.stage.verb == "invert"] == [
        {"gamma": 2, "space": "w+", "seed": seed} for seed in range(5, 10)
    ]
    assert Spec.of(spec.as_dict(), name=spec.name) == spec


def test_both_are_shown_and_luck_is_gone(folder, capsys, monkeypatch):
    started = []
    monkeypatch.setattr(command, "_run", lambda spec, path, slots: started.append((path, slots)) or write_sweep(
        spec, path, luck=0.0) or 0)  # fmt: skip
    arguments = ["--baseline", "gamma=1 space=w", "--confirm", "1", "--slots", "cpu:2"]
    assert main(["sweep", "table", str(folder), *arguments]) == 0
    said = capsys.readouterr().out
    assert started == [(folder / "confirm" / name, "cpu:2") for name in ("gamma_2_space_w+", "gamma_1_space_w")]
    words = " ".join(said.split())
    assert "seeds 0 to 4, optimistic fresh seeds 5 to 9 change" in words
    row = next(line for line in said.splitlines()[::-1] if line.startswith("gamma=2 space=w+"))
    assert float(row.split()[-1]) == pytest.approx(-0.5 + 0.05, abs=1e-3)
    assert "was chosen by these very runs" in words
    assert np.isclose(float(row.split()[2]), 21.52)


def test_a_run_that_fails_is_not_shown_as_confirmed(folder, capsys, monkeypatch):
    monkeypatch.setattr(command, "_run", lambda *_: 1)
    assert main(["sweep", "table", str(folder), "--confirm", "1"]) == 1
    assert "On fresh seeds" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sort", "num", "message"),
    [(PSNR, 0, "confirm must be a whole number of at least 1"), (None, 1, "--confirm needs a number to choose by")],
)
def test_what_cannot_be_confirmed_is_refused(folder, sort, num, message):
    table = sweep_table(read_members([folder]))
    with pytest.raises(UserError, match=message):
        chosen(table if sort is None else table.sorted_by(sort), num)


def test_runs_without_a_sweep_are_refused(folder, capsys):
    assert (
        main(["sweep", "table", str(folder / "of"), "--where", "command=invert", "--sort", PSNR, "--confirm", "1"]) == 1
    )
    said = capsys.readouterr()
    assert "is not the folder of a sweep" in said.err
    assert said.out == ""  # before anything else is done
