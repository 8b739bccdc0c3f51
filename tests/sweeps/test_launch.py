"""A sweep is run, killed, and run again: nothing is done twice, and every state is reported."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wplus.errors import Interrupted, UserError
from wplus.sweeps.launch import Launch
from wplus.sweeps.slots import Slot, slots_of
from wplus.sweeps.spec import Spec
from wplus.sweeps.state import SweepFolder

ONE = {"verb": "invert", "axes": {"space": ["w", "w+"]}, "seeds": 2}
CHAIN = {"stages": [{"verb": "train", "seeds": 2}, {"verb": "invert", "overrides": ["checkpoint={train}/m"],
                                                    "axes": {"space": ["z", "w"]}}]}  # fmt: skip


class Runs:
    """Stands in for the commands: records what was run, in folders; some fail or are interrupted."""

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
        result = {"status": words, "job_type": "invert", "seconds": 60.0, "values": self.values(folder), **error}
        (folder / "result.json").write_text(json.dumps(result))
        return status, "words" * status

    def values(self, folder):
        return {"invert/psnr_db": {"value": 20.0 + len(self.ran), "direction": "higher"}}


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
    assert "[4/4] invert-003 w+ s1: done" in capsys.readouterr().out
    assert launch(runs).run() == 0
    assert len(runs.ran) == 4
    assert launch(runs, {**ONE, "seeds": 3}).run() == 0  # a seed more
    assert len(runs.ran) == 6
    capsys.readouterr()
    assert launch(runs, {**ONE, "seeds": 1}).run() == 0  # fewer: the others are there still
    last = capsys.readouterr().out.splitlines()
    assert [last[0].partition(": ")[2], last[-1]] == [
        "2 done of 2", "  no longer asked: invert-001 invert-003 invert-004 invert-005"
    ]  # fmt: skip
    asked = json.loads((runs.root / "s" / "sweep.json").read_text())
    assert [each["spec"]["stages"][0]["seeds"] for each in asked["earlier"]] == [2, 3]
    assert launch(runs, {**ONE, "seeds": 3}).run() == 0
    assert "no longer" not in capsys.readouterr().out
    assert len(runs.ran) == 6


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
    assert "invert-001 w s1: failed" in text
    assert text.splitlines()[-1].startswith("  failed: invert-001 w s1: ValueError: no")
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
    assert "invert-001  interrupted  w s1" in text
    assert text.splitlines()[-1] == "1 done, 2 queued, 1 interrupted of 4; about 3 min left"
    assert len(runs.ran) == 2


def test_another_sweep_in_the_folder_is_refused(runs):
    launch(runs)
    before = (runs.root / "s" / "sweep.json").read_bytes()
    with pytest.raises(UserError, match="is another sweep: what varies of invert had space and now num_images"):
        launch(runs, {"verb": "invert", "axes": {"num_images": [1, 2]}})
    assert (runs.root / "s" / "sweep.json").read_bytes() == before


def test_only_some_jobs_are_run_and_an_unknown_one_is_refused(runs):
    assert "invert-002" not in launch(runs, only=["invert-001"]).plan()
    launch(runs, only=["invert-001"]).run()
    assert runs.ran == ["invert-space=w-seed=1"]
    with pytest.raises(UserError, match="--only must be one of invert-000, invert-001, .*, got 'invert-004'"):
        launch(runs, only=["invert-004"])


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
    with pytest.raises(UserError, match=f"slots must be 1, cpu:N, gpu:A-B or slurm, got '{text}'"):
        slots_of(text)


SCRIPT = """
import os, sys, time
folder = sys.argv[-1].partition("=")[2]
os.makedirs(folder)
print("threads", os.environ["OMP_NUM_THREADS"], "on GPU", os.environ["CUDA_VISIBLE_DEVICES"])
if "seed=1" in sys.argv:
    sys.exit("a sentence")
open(os.path.join(folder, "result.json"), "w").write('{"status": "finished"}')
"""


@pytest.fixture
def two_slots(monkeypatch):
    """Two slots, in which a script stands in for the commands."""
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real(
        [sys.executable, "-c", SCRIPT, *command[3:]], **options))  # fmt: skip
    return slots_of("gpu:4-5")


def test_equal_questions_in_two_processes_are_one_run(runs, two_slots):
    made = launch(runs, {"verb": "invert", "points": [{"space": "w"}, {"space": "w"}, {"space": "z"}]})
    made.slots = two_slots
    assert made.run() == 0
    assert [state.exit_status for state in made.states.values()].count(0) == 2


def test_jobs_in_processes_of_their_own(runs, two_slots):
    """Each in a slot; the last output of a failed one is its error."""
    made = launch(runs)
    made.slots = two_slots
    assert made.run() == 1
    assert list(states(runs).values()) == ["done", "failed", "done", "failed"]
    state = made.states["invert-001"]
    assert (state.exit_status, state.error) == (1, "a sentence")
    assert state.peak_memory_mib > 1
    words = [(runs.root / "s" / "jobs" / f"invert-00{number}.log").read_text().splitlines()[0] for number in range(4)]
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert set(words) == {f"threads {threads} on GPU 4", f"threads {threads} on GPU 5"}


def test_ctrl_c_ends_the_processes_and_then_the_sweep(runs, monkeypatch):
    real = subprocess.Popen
    sleeping = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); print(1, flush=1); time.sleep(60)"
    )
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


# What changes between two launches


def test_what_differs_from_the_sweep_in_the_folder_is_named(runs):
    launch(runs, {**ONE, "overrides": ["num_images=4", "input=a"]})
    message = (
        "the overrides of invert had num_images=4 and now num_images=8; give this one a name of its own, sweep=NAME"
    )
    with pytest.raises(UserError, match=message):
        launch(runs, {**ONE, "overrides": ["num_images=8", "input=a"]})
    with pytest.raises(UserError, match=r"its stages were invert \(invert\) and are now train \(train\)"):
        launch(runs, {"verb": "train"})


def test_a_job_keeps_its_number_and_its_state_when_values_change(runs):
    runs.answers["invert-space=w-seed=1"] = 1
    launch(runs).run()
    before = states(runs)
    assert launch(runs, {**ONE, "axes": {"space": ["z", "w+", "w"]}}).run() == 1
    assert {job_id: states(runs)[job_id] for job_id in before} == before
    labels = {job_id: state.label for job_id, state in SweepFolder(runs.root / "s").states().items()}
    assert (labels["invert-001"], labels["invert-004"]) == ("w s1", "z s0")
    assert len(runs.ran) == 6


def test_launches_at_the_same_time_number_their_jobs_alike(runs):
    """Whatever the other one has written down already."""
    launch(runs).run()
    folder = SweepFolder(runs.root / "s")
    before = {job.id: job.label for job in folder.jobs()}
    for number in (0, 2):
        (folder.path / "jobs" / f"invert-00{number}.json").unlink()
    assert {job.id: job.label for job in folder.jobs()} == before


def test_a_folder_of_another_run_is_not_taken_for_the_jobs(runs):
    made = launch(runs, {"verb": "invert"})
    made.question = lambda verb, overrides: ("digest", runs.root / "out", "ours")
    (runs.root / "out").mkdir()
    (runs.root / "out" / "run.json").write_text(json.dumps({"digest": "theirs"}))
    (runs.root / "out" / "result.json").write_text(json.dumps({"status": "finished"}))
    made.resolve_all()
    assert made.states["invert-000"].state == "queued"


def test_two_questions_of_one_folder_are_refused(runs):
    made = launch(runs)
    made.question = lambda verb, overrides: (" ".join(overrides), "out")
    with pytest.raises(UserError, match=r"invert-000 \(w s0\) and invert-001 \(w s1\) would both write to 'out'"):
        made.run()
    assert runs.ran == []


def test_a_later_stage_that_cannot_be_composed_is_told_before_anything_runs(runs):
    made, real = launch(runs, CHAIN), runs.asked

    def asked(verb, overrides):
        if verb == "invert":
            raise UserError("There is no key 'spce'.")
        return real(verb, overrides)

    made.question = asked
    with pytest.raises(UserError, match="There is no key 'spce'"):
        made.run()
    assert runs.ran == []


def test_a_job_that_turns_out_to_be_refused_fails_and_the_others_go_on(runs, capsys):
    made, real = launch(runs, CHAIN), runs.asked

    def asked(verb, overrides):
        if verb == "invert" and runs.ran and "space=z" in overrides:
            raise UserError("No.")
        return real(verb, overrides)

    made.question = asked
    assert made.run() == 1
    assert list(states(runs).values()) == ["done", "done", "failed", "done", "failed", "done"]
    assert "invert-000 z s0: failed after 0 s: No. (" in capsys.readouterr().out


# A stage that gathers


def test_a_stage_gathers_all_jobs_of_an_earlier_one(runs):
    gather = {"verb": "compare", "overrides": ["folders={invert.all}", "labels={invert.labels}"]}
    content = {"stages": [{"verb": "invert", "axes": {"space": ["w", "w+"]}}, gather]}
    runs.answers["invert-space=w+"] = 1
    assert launch(runs, content).run() == 1
    assert states(runs)["compare-000"] == "queued"
    made = launch(runs, content, retry=True)
    assert made.run() == 0
    folders = [f"'{runs.root}/runs/invert-space={space}'" for space in ("w", "w+")]
    assert made.states["compare-000"].overrides == [f"folders=[{','.join(folders)}]", "labels=['w','w+']"]


# Several launches at a time

DIVIDED = """
import json, pathlib, sys, time
from wplus.sweeps.launch import Launch
from wplus.sweeps.spec import Spec
from wplus.sweeps.state import SweepFolder
root = pathlib.Path(sys.argv[1])
def asked(verb, overrides):
    return overrides[0], root / overrides[0]
def run(arguments):
    folder = pathlib.Path(arguments[-1].removeprefix("run_dir="))
    with open(root / "ran", "a") as file:
        file.write(folder.name + "\\n")
    time.sleep(0.02)
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps({"status": "finished"}))
    return 0, ""
spec = Spec.of({"verb": "invert", "seeds": 20}, name="s")
folder = SweepFolder(root / "s")
folder.claim(spec, "")
(root / sys.argv[2]).touch()
while not all((root / name).exists() for name in "ab"):
    time.sleep(0.01)
sys.exit(Launch(folder, spec, asked, slots=[], command=run).run())
"""


def test_two_launches_divide_the_jobs(tmp_path):
    both = [
        subprocess.Popen([sys.executable, "-c", DIVIDED, str(tmp_path), name], stdout=subprocess.PIPE) for name in "ab"
    ]
    words = [process.communicate(timeout=100)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], words
    assert sorted((tmp_path / "ran").read_text().split()) == sorted(f"seed={seed}" for seed in range(20))
    assert all("20 done of 20" in word.splitlines()[-1] for word in words)


def test_what_another_sweep_has_run_is_noted_here_too(runs):
    """Also for a later stage, which is resolved only then."""
    launch(runs, CHAIN).run()
    assert launch(runs, CHAIN, name="other").run() == 0
    assert len(runs.ran) == 2 + 4
    assert set(states(runs, "other").values()) == {"done"}


def test_a_job_that_another_process_runs_is_running(runs):
    made = launch(runs, {"verb": "invert"})
    made.resolve_all()
    state = made.states["invert-000"]
    with state.taken():
        assert SweepFolder(runs.root / "s").load(made.jobs["invert-000"]).state == "queued"
        assert state.look().state == "running"
    assert state.look().state == "killed"


def test_the_peak_of_memory_is_the_jobs_own(runs):
    """It excludes that of an earlier job in the same process."""
    real = runs.values
    runs.values = lambda folder: (len(b"x" * (200 << 20)) if folder.name.endswith("=0") else 0) and real(folder)
    made = launch(runs, {"verb": "invert", "seeds": 2})
    made.run()
    first, second = (state.peak_memory_mib for state in made.states.values())
    assert first > second + 150


# The best


def test_the_last_lines_name_the_best_by_the_objective(runs, capsys):
    assert launch(runs, {**ONE, "objective": "invert/psnr_db"}).run() == 0
    assert "  best invert/psnr_db: 24, invert-003 w+ s1 (" in capsys.readouterr().out


def test_an_objective_that_nothing_records_ends_the_sweep_with_the_known_ones(runs):
    with pytest.raises(UserError, match=r"objective=invert/snr is not among the numbers of .*: invert/psnr_db\."):
        launch(runs, {**ONE, "objective": "invert/snr"}).run()
    assert len(runs.ran) == 1
    with pytest.raises(UserError, match=r"The section of objective=evaluate/fd must be one of invert, got 'evaluate'"):
        launch(runs, {**ONE, "objective": "evaluate/fd"})


def test_the_plan_estimates_from_earlier_runs_of_the_command(runs):
    launch(runs, {"verb": "invert", "axes": {"space": ["z"]}}, name="first").run()
    assert launch(runs).plan().splitlines()[-1] == "4 queued of 4; about 4 min left"
