"""A sweep is run, killed, and run again: nothing is done twice, and every state is told."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wplus.core.sweep import shared_folder
from wplus.errors import Interrupted, UserError
from wplus.sweeps.launch import Launch, Slot, slots_of
from wplus.sweeps.spec import Spec
from wplus.sweeps.state import SweepFolder

ONE = {"verb": "invert", "axes": {"space": ["w", "w+"]}, "seeds": 2}
CHAIN = {"stages": [{"verb": "train", "seeds": 2}, {"verb": "invert", "overrides": ["checkpoint={train}/m"],
                                                    "axes": {"space": ["z", "w"]}}]}  # fmt: skip


class Runs:
    """Stands for the commands: what was run, in folders with a record; some fail or are interrupted."""

    def __init__(self, root: Path) -> None:
        self.root, self.ran, self.answers = root, [], {}

    def asked(self, verb, overrides):
        name = "-".join([verb, *(override.replace("/", "_") for override in overrides)])
        return name, self.root / "runs" / name

    def __call__(self, arguments):
        folder = Path(arguments[-1].removeprefix("run_dir="))
        self.ran.append(folder.name)
        status = self.answers.pop(folder.name, 0)
        words = {0: "finished", 1: "failed", 130: "interrupted"}[status]
        folder.mkdir(parents=True, exist_ok=True)
        error = {"error": "ValueError: no"} if status == 1 else {}
        (folder / "result.json").write_text(json.dumps({"status": words, "seconds": 60.0, **error}))
        return status


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def launch(runs, content=ONE, name="s", **options):
    folder, spec = SweepFolder(runs.root / name), Spec.of(content, name=name)
    made = Launch(folder, spec, runs.asked, slots=[], command=runs, **options)
    folder.claim(spec, "wplus sweep run s")
    return made


def states(runs, name="s"):
    return {job_id: state.state for job_id, state in SweepFolder(runs.root / name).states().items()}


def test_what_is_done_is_not_done_again(runs, capsys):
    assert launch(runs).run() == 0
    assert len(runs.ran) == len(set(runs.ran)) == 4
    assert "[4/4] invert-003 space=w+ seed=1: done" in capsys.readouterr().out
    assert launch(runs).run() == 0
    assert len(runs.ran) == 4
    assert launch(runs, {**ONE, "seeds": 3}).run() == 0  # a seed more
    assert len(runs.ran) == 6


def test_the_jobs_share_a_folder_that_one_of_them_can_warn_the_others_in(runs):
    """An unreachable tracking server costs its timeout once a sweep."""
    seen = []
    made = launch(runs)
    made.command = lambda arguments: seen.append(shared_folder()) or runs(arguments)
    assert made.run() == 0
    assert seen == [runs.root / "s"] * 4
    assert shared_folder() is None


def test_equal_questions_of_one_sweep_are_one_run(runs):
    assert launch(runs, {"verb": "invert", "points": [{"space": "w"}, {"space": "w"}]}).run() == 0
    assert len(runs.ran) == 1
    assert list(states(runs).values()) == ["done", "done"]


def test_equal_questions_of_two_sweeps_are_one_run(runs):
    launch(runs).run()
    assert launch(runs, name="other").run() == 0
    assert len(runs.ran) == 4
    assert set(states(runs, "other").values()) == {"done"}


def test_a_failed_job_is_named_and_waits_for_retry(runs, capsys):
    runs.answers["invert-space=w-seed=1"] = 1
    assert launch(runs).run() == 1
    text = capsys.readouterr().out
    assert "invert-001 space=w seed=1: failed" in text
    assert text.splitlines()[-1].startswith("  failed: invert-001 space=w seed=1: ValueError: no")
    assert len(runs.ran) == 4  # the others went on
    assert launch(runs).run() == 1
    assert len(runs.ran) == 4
    assert launch(runs, retry=True).run() == 0
    assert len(runs.ran) == 5


def test_after_so_many_failures_nothing_further_starts(runs):
    runs.answers["invert-space=w-seed=0"] = 1
    assert launch(runs, max_failures=1).run() == 1
    assert len(runs.ran) == 1
    assert list(states(runs).values()) == ["failed", "queued", "queued", "queued"]


def test_an_interrupted_job_ends_the_sweep_and_goes_on_the_next_time(runs):
    runs.answers["invert-space=w-seed=1"] = 130
    with pytest.raises(Interrupted):
        launch(runs).run()
    assert list(states(runs).values()) == ["done", "interrupted", "queued", "queued"]
    assert launch(runs).run() == 0
    assert runs.ran.count("invert-space=w-seed=1") == 2


def test_a_chain_waits_for_what_it_reads(runs):
    runs.answers["train-seed=1"] = 1
    assert launch(runs, CHAIN).run() == 1
    assert [name.partition("-")[0] for name in runs.ran] == ["train", "train", "invert", "invert"]
    assert all(f"checkpoint={runs.root}_runs_train-seed=0_m".replace("/", "_") in name for name in runs.ran[2:])
    assert list(states(runs).values()) == ["done", "failed", "done", "done", "queued", "queued"]
    assert launch(runs, CHAIN, retry=True).run() == 0
    assert len(runs.ran) == 4 + 3


def test_the_plan_says_what_would_be_run(runs):
    runs.answers["invert-space=w-seed=1"] = 130
    with pytest.raises(Interrupted):
        launch(runs).run()
    text = launch(runs).plan()
    assert "invert-001  interrupted  space=w seed=1" in text
    assert text.splitlines()[-1] == "1 done, 2 queued, 1 interrupted of 4; about 3 min left"
    assert len(runs.ran) == 2


def test_another_sweep_in_the_folder_is_refused(runs):
    launch(runs)
    before = (runs.root / "s" / "sweep.json").read_bytes()
    with pytest.raises(UserError, match="is another sweep, over space"):
        launch(runs, {"verb": "invert", "axes": {"num_images": [1, 2]}})
    assert (runs.root / "s" / "sweep.json").read_bytes() == before


def test_a_deleted_run_is_queued_again(runs):
    launch(runs).run()
    (runs.root / "runs" / "invert-space=w-seed=0" / "result.json").unlink()
    assert launch(runs).run() == 0
    assert runs.ran.count("invert-space=w-seed=0") == 2


@pytest.mark.parametrize(
    ("text", "names"), [("1", []), ("cpu:2", ["cpu:0", "cpu:1"]), ("gpu:0-1,3", ["gpu:0", "gpu:1", "gpu:3"])]
)
def test_slots(text, names):
    slots = slots_of(text)
    assert [slot.name for slot in slots] == names
    if text.startswith("gpu"):
        assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["0", "1", "3"]


@pytest.mark.parametrize("text", ["0", "cpu:0", "cpu:x", "gpu:", "tpu:1"])
def test_other_slots_are_refused(text):
    with pytest.raises(UserError, match=f"slots must be 1, cpu:N or gpu:A-B, got '{text}'"):
        slots_of(text)


SCRIPT = """
import os, sys, time
folder = sys.argv[-1].partition("=")[2]
os.makedirs(folder)
print("threads", os.environ["OMP_NUM_THREADS"])
if "seed=1" in sys.argv:
    sys.exit("a sentence")
open(os.path.join(folder, "result.json"), "w").write('{"status": "finished"}')
"""


@pytest.fixture
def two_slots(monkeypatch):
    """Two, in which a script stands for the commands."""
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real(
        [sys.executable, "-c", SCRIPT, *command[3:]], **options))  # fmt: skip
    return [Slot("a", {"OMP_NUM_THREADS": "1"}), Slot("b", {"OMP_NUM_THREADS": "1"})]


def test_equal_questions_in_two_processes_are_one_run(runs, two_slots):
    made = launch(runs, {"verb": "invert", "points": [{"space": "w"}, {"space": "w"}, {"space": "z"}]})
    made.slots = two_slots
    assert made.run() == 0
    assert [state.exit_status for state in made.states.values()].count(0) == 2


def test_jobs_in_processes_of_their_own(runs, two_slots):
    """Each in a slot; what a failed one said last is its error."""
    made = launch(runs)
    made.slots = two_slots
    assert made.run() == 1
    assert list(states(runs).values()) == ["done", "failed", "done", "failed"]
    state = made.states["invert-001"]
    assert (state.exit_status, state.error) == (1, "a sentence")
    assert state.peak_memory_mib > 1
    assert "threads 1" in (runs.root / "s" / "jobs" / "invert-000.log").read_text()


def test_ctrl_c_ends_the_processes_and_then_the_sweep(runs, monkeypatch):
    real = subprocess.Popen
    sleeping = "import signal, sys, time; signal.signal(2, lambda *_: sys.exit(130)); print(1, flush=1); time.sleep(60)"
    made = launch(runs)
    made.slots = [Slot("a", {})]

    def started(command, **options):
        threading.Thread(target=press_ctrl_c, daemon=True).start()
        return real([sys.executable, "-c", sleeping], **options)

    def press_ctrl_c():
        log = runs.root / "s" / "jobs" / "invert-000.log"
        while not log.exists() or not log.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(Interrupted):
        made.run()
    assert made.states["invert-000"].state == "interrupted"
    assert made.states["invert-001"].state == "queued"
