"""A search proposes trials, receives results, and resumes with the next launch; it receives the recorded values."""

import json
import math
import re
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from wplus.commands.session import leaving_on_signals
from wplus.core.sweep import is_pruned
from wplus.errors import Interrupted, UserError
from wplus.sweeps import run_job, trials
from wplus.sweeps.launch import Launch
from wplus.sweeps.search import SAMPLERS
from wplus.sweeps.spec import Spec
from wplus.sweeps.state import SweepFolder
from wplus.tracking.tracker import KIMG

SEARCH = {
    "verb": "invert",
    "objective": "invert/psnr_db",
    "search": {"trials": 6, "sampler": "random", "space": {"x": {"low": 0.01, "high": 100.0, "log": True}}},
}


class Runs:
    """Stands in for the commands: the number is best (highest) where x is 1; some runs fail, or are interrupted."""

    def __init__(self, root):
        self.root, self.ran, self.answers, self.values = root, [], {}, []

    def asked(self, verb, overrides):
        name = "_".join([verb, *overrides])
        return name, self.root / "runs" / name

    def __call__(self, arguments):
        folder, number = Path(arguments[-1].removeprefix("run_dir=")), len(self.ran)
        self.ran.append(folder.name)
        status = self.answers.get(number, 0)
        x = float(re.search(r"x=([\d.e-]+)", folder.name)[1])
        words = {0: "finished", 1: "failed", 130: "interrupted"}[status]
        values = {"invert/psnr_db": {"value": -abs(math.log10(x)), "direction": "higher"},
                  "invert/l2": {"value": x, "direction": "lower"}}  # fmt: skip
        self.values.append({name: each["value"] for name, each in values.items()})
        self.write(folder, {"status": words, "values": values if status == 0 else {}})
        return status, ""

    def write(self, folder, content):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps(content))


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def launch(runs, content=SEARCH, slots=(), **search):
    content = {**content, "search": {**content["search"], **search}}
    folder, spec = SweepFolder(runs.root / "s"), Spec.of(content, name="s")
    folder.claim(spec, "")
    return Launch(folder, spec, runs.asked, slots=slots, command=runs)


def study(runs):
    backend = optuna.storages.journal.JournalFileBackend(str(runs.root / "s" / "search.journal"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name="sweep", storage=storage)


def told(runs):
    return [(trial.state, trial.params.get("x"), trial.value) for trial in study(runs).get_trials()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_told_is_what_was_recorded(runs, sampler, capsys):
    assert launch(runs, sampler=sampler).run() == 0
    assert len(set(runs.ran)) == 6
    for state, x, value in told(runs):
        assert state == TrialState.COMPLETE
        assert value == pytest.approx(abs(math.log10(x)))  # less is better for Optuna
    best = min(told(runs), key=lambda each: each[2])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  best invert/psnr_db: ")]
    assert f"x={best[1]:.4g}" in line


def test_a_later_launch_goes_on_with_the_study(runs):
    launch(runs).run()
    assert launch(runs).run() == 0
    assert len(runs.ran) == 6
    assert launch(runs, trials=9).run() == 0
    assert len(set(runs.ran)) == 9  # other numbers than those of the first launch
    assert [state for state, _, _ in told(runs)] == [TrialState.COMPLETE] * 9
    assert len(SweepFolder(runs.root / "s").states()) == 9


def test_an_interrupted_trial_goes_on_and_a_failed_one_is_told(runs, capsys):
    runs.answers = {1: 1, 2: 130}
    with pytest.raises(Interrupted):
        launch(runs).run()
    assert "1 done, 1 interrupted, 1 failed of 3, 3 of the search not asked yet" in capsys.readouterr().out
    assert [state for state, _, _ in told(runs)] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING]
    assert launch(runs).run() == 1
    assert runs.ran[2] == runs.ran[3]
    assert [state for state, _, _ in told(runs)].count(TrialState.COMPLETE) == 5


def test_what_a_killed_launch_has_done_is_told_by_the_next(runs, monkeypatch):
    monkeypatch.setattr(trials.Trials, "tell", lambda *_: None)
    launch(runs, trials=2).run()
    assert {state for state, _, _ in told(runs)} == {TrialState.RUNNING}
    monkeypatch.undo()
    launch(runs, trials=2).run()
    assert {state for state, _, _ in told(runs)} == {TrialState.COMPLETE}
    assert len(runs.ran) == 2


def test_a_trial_that_was_asked_for_and_not_written_down_is_run(runs):
    launch(runs, trials=2).run()
    lost = study(runs).ask({"x": optuna.distributions.FloatDistribution(0.01, 100.0, log=True)})
    assert launch(runs, trials=3).run() == 0
    assert runs.ran[-1] == f"invert_x={lost.params['x']}"


def test_several_objectives_and_seeds(runs, capsys):
    content = {**SEARCH, "objective": ["invert/psnr_db", "invert/l2"], "seeds": 2}
    assert launch(runs, content, sampler="nsgaii").run() == 0
    assert len(runs.ran) == 12
    said = capsys.readouterr().out.splitlines()
    (first,) = [number for number, line in enumerate(said) if line.startswith("  best in invert/psnr_db and invert/l2")]
    found = [tuple(map(float, line.split(", ")[:2])) for line in said[first + 1 :]]
    points = {(value["invert/psnr_db"], value["invert/l2"]) for value in runs.values}
    front = {(a, b) for a, b in points if not any(x >= a and y <= b for x, y in points - {(a, b)})}
    assert {(round(a, 3), round(b, 3)) for a, b in found} == {(round(a, 3), round(b, 3)) for a, b in front}
    for trial in study(runs).get_trials():
        assert trial.values == pytest.approx([abs(math.log10(trial.params["x"])), trial.params["x"]])


def test_choices_and_whole_numbers_keep_their_kind(runs):
    space = {"x": {"low": 1, "high": 4}, "flag": [True, False], "mode": ["a", "b"]}
    launch(runs, space=space).run()
    points = SweepFolder(runs.root / "s").spec.search.points
    assert {type(point["x"]) for point in points} == {int}
    assert {type(point["flag"]) for point in points} == {bool}


def test_an_unknown_objective_is_answered_with_the_known_ones(runs):
    known = r"objective=invert/snr is not among the numbers of .*: invert/psnr_db, invert/l2"
    with pytest.raises(UserError, match=known):
        launch(runs, {**SEARCH, "objective": "invert/snr"}).run()
    assert len(runs.ran) == 1


class Curves(Runs):
    """Runs with numbers over kimg; with x above 10 a run would never end."""

    def __call__(self, arguments):
        folder = Path(arguments[-1].removeprefix("run_dir="))
        self.ran.append(folder.name)
        x = float(re.search(r"x=([\d.]+)", folder.name)[1])
        info = {"info": {"invert/psnr_db": {"direction": "higher"}}}
        self.write(folder, {"status": "running", **info})
        rows = [json.dumps({KIMG: step, "invert/psnr_db": -x}) for step in (1, 2)]
        (folder / "records.jsonl").write_text("\n".join(rows) + "\n")
        if x > 10:
            try:
                with leaving_on_signals():
                    time.sleep(30)
            except KeyboardInterrupt:
                self.was_told = is_pruned()
                self.write(folder, {"status": "interrupted", **info})
                return 143, ""
        self.write(folder, {"status": "finished", "values": {"invert/psnr_db": {"value": -x, "direction": "higher"}}})
        return 0, ""


def test_a_bad_trial_is_ended_by_its_numbers_over_kimg(tmp_path, monkeypatch):
    """After five good ones. A later launch does not resume it."""
    monkeypatch.setattr(trials, "_LOOK", 0.0)
    monkeypatch.setattr(run_job, "_POLL", 0.01)
    xs = iter([1.0, 1.1, 1.2, 1.3, 1.4, 50.0])
    monkeypatch.setattr(trials.Trials, "_point", lambda *_: {"x": next(xs)})
    runs = Curves(tmp_path)
    assert launch(runs, pruner="median").run() == 0
    assert [state for state, _, _ in told(runs)] == [TrialState.COMPLETE] * 5 + [TrialState.PRUNED]
    assert SweepFolder(tmp_path / "s").states()["invert-005"].state == "pruned"
    assert runs.was_told  # so that nobody asks for the same command once more
    assert not is_pruned()
    assert launch(runs, pruner="median").run() == 0
    assert len(runs.ran) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trials": 0}, "search.trials must be a whole number of at least 1"),
        ({"sampler": "best"}, "search.sampler must be one of tpe, random, nsgaii, qmc"),
        ({"space": {}}, "search.space must name the keys"),
        ({"space": {"x": {"low": 1}}}, "search.space.x must have low and high"),
        ({"space": {"x": {"low": 2, "high": 1}}}, "search.space.x.high must be a number of at least 2"),
        ({"space": {"x": {"low": 0, "high": 1, "log": True}}}, "search.space.x is logarithmic: low must be above 0"),
        ({"space": {"x": "abc"}}, "search.space.x must be a list of values"),
    ],
)
def test_a_mistake_is_a_sentence(change, message):
    with pytest.raises(UserError, match=message):
        Spec.of({**SEARCH, "search": {**SEARCH["search"], **change}}, name="s")


def test_what_a_pruner_needs_is_asked_for():
    for more in ({"objective": ["invert/l2", "invert/psnr_db"]}, {"seeds": 2}):
        with pytest.raises(UserError, match=r"search.pruner=median needs one objective and one job a trial"):
            Spec.of({**SEARCH, **more, "search": {**SEARCH["search"], "pruner": "median"}}, name="s")
    with pytest.raises(UserError, match="A search needs objective=NUMBER"):
        Spec.of({**SEARCH, "objective": None}, name="s")
