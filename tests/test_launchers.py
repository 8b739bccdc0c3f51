"""`-m` and its slots: the folder of the sweep, processes, GPUs, and allocations of a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wplus.__main__ import main
from wplus.core.files import write_json
from wplus.sweeps.slots import Slot, SlurmOptions, slots_of
from wplus.sweeps.slurm import Allocation
from wplus.sweeps.state import SweepFolder

STAND_INS = Path(__file__).parent / "stand_ins" / "slurm"
SOON = 120.0


@pytest.fixture
def folders(tmp_path, monkeypatch) -> str:
    """Two runs to report on, the lightest possible job; below the working directory."""
    for name in ("a", "b"):
        write_json(tmp_path / name / "result.json", {"status": "finished", "config": {"seed": 0}, "numbers": {}})
    monkeypatch.chdir(tmp_path)
    return "folder=a,b"


def states(name: str = "s") -> dict[str, str]:
    return {job_id: state.state for job_id, state in SweepFolder(Path("runs/sweeps") / name).states().items()}


def wait_for(*files: str) -> None:
    deadline = time.monotonic() + SOON
    while not all(Path(file).exists() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_several_values_are_a_sweep_with_a_folder(folders, capsys):
    main(["report", "-m", folders])
    (sweep,) = Path("runs/sweeps").iterdir()
    assert sweep.name.startswith("report-folder-")
    written = json.loads((sweep / "sweep.json").read_text())
    assert written["spec"]["stages"][0]["axes"] == {"folder": ["a", "b"]}
    assert written["command"]
    assert written["versions"]
    assert states(sweep.name) == {"report-000": "done", "report-001": "done"}
    assert capsys.readouterr().out.splitlines()[-1] == f"{sweep}: 2 done of 2"
    stamp = Path("a/report.html").stat().st_mtime_ns
    main(["report", "-m", folders])
    assert Path("a/report.html").stat().st_mtime_ns == stamp
    main(["report", "-m", "folder=a", "output=c.html"])  # another one, beside the first
    assert len(list(Path("runs/sweeps").iterdir())) == 2


def test_two_processes_take_the_jobs_between_them(folders, capsys, monkeypatch, repository):
    """The real command in separate processes, with output in files."""
    monkeypatch.setenv("PYTHONPATH", str(repository / "src"))
    main(["report", "-m", folders, "sweep=s", "slots=cpu:2"])
    said = capsys.readouterr().out.splitlines()
    assert (said[-1], len(said)) == ("runs/sweeps/s: 2 done of 2", 3)
    assert states() == {"report-000": "done", "report-001": "done"}
    for number, name in enumerate("ab"):
        assert Path(f"{name}/report.html").exists()
        assert Path(f"runs/sweeps/s/jobs/report-00{number}.log").read_text() == f"{name}/report.html\n"
    noted = json.loads(Path("runs/sweeps/s/jobs/report-000.json").read_text())
    assert noted["exit_status"] == 0
    assert noted["peak_memory_mib"] > 10


def test_a_plan_writes_nothing(folders, capsys):
    main(["report", "-m", folders, "--dry"])
    assert capsys.readouterr().out.splitlines()[-1] == "2 queued of 2"
    assert sorted(os.listdir()) == ["a", "b"]


def test_a_failing_job_fails_the_sweep_and_the_others_go_on(folders, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", "-m", "folder=absent,a", "sweep=s"])
    assert ended.value.code == 1
    assert Path("a/report.html").exists()
    assert states() == {"report-000": "failed", "report-001": "done"}
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("  failed: report-000 absent: There ")
    with pytest.raises(SystemExit):
        main(["report", "-m", "folder=missing,b", "sweep=t", "max_failures=1"])
    assert states("t") == {"report-000": "failed", "report-001": "queued"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["folder=a,b", "slots=gpu"], "slots must be 1, cpu:N, gpu:A-B or slurm, got 'gpu'."),
        (["folder=a,b", "output=x", "outptu=y"], "There is no key 'outptu'; did you mean output? Known are"),
        (["folder=a,b", "slurm.tiem=3"], "slurm.KEY must be one of partition, account"),
        (["folder=a,b", "search.trails=3"], "search.KEY must be one of trials, sampler, pruner, seed, got 'trails'"),
        (["folder=a,b", "objective=invert/l2"], "The section of objective=invert/l2 must be one of report"),
        (["folder=interval(0,1)"], "folder=interval(0,1) is a range to search in: give search.trials=N."),
        (["folder=a,b", "hydra/launcher=joblib"], "'hydra/launcher=joblib' is now 'slots=cpu:N'."),
        (["folder=range(0,1000000000)"], "folder=range(0,1000000000) has more than 10000 values"),
        (["output=a,b"], "These keys have no value yet: folder; give them"),
        (["folder=a,''"], "folder is empty: give the name of a file or folder"),
        (["folder=a,b", "max_failures=0"], "max_failures must be a whole number of at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_written(folders, arguments, sentence):
    with pytest.raises(SystemExit) as ended:
        main(["report", "-m", *arguments])
    assert str(ended.value.code).startswith(sentence)
    assert sorted(os.listdir()) == ["a", "b"]


def test_two_jobs_of_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["invert", "-m", "checkpoint=x", "input=held_out", "seed=0,1", "run_dir=out"])
    assert "invert-000 (s0) and invert-001 (s1) would both write to 'out'" in str(ended.value.code)
    assert os.listdir() == []


def test_every_job_has_its_gpu_and_its_part_of_the_cores():
    one, two = slots_of("gpu:0,3")
    assert (one.environment["CUDA_VISIBLE_DEVICES"], two.environment["CUDA_VISIBLE_DEVICES"]) == ("0", "3")
    assert int(one.environment["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 2)


@pytest.mark.parametrize(
    ("seen", "number", "gpus"),
    [("4,5", 1, [None]), ("4,5", 2, ["4", "5"]), ("4,5", 3, ["4", "5", "4"]), ("", 2, [None, None])],
)
def test_jobs_of_an_allocation_divide_its_gpus(monkeypatch, seen, number, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    slots: list[Slot] = slots_of(f"allocation:{number}")
    assert [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in slots] == gpus


def test_options_of_slurm_are_checked():
    assert SlurmOptions.of({"setup": "module load cuda"}).setup == ["module load cuda"]
    with pytest.raises(ValueError, match=r"slurm.time must be a whole number of at least 1, got 0"):
        SlurmOptions.of({"time": 0})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it outlives who submitted it
def test_a_sweep_is_submitted_and_left_alone(folders, capsys):
    """Two jobs share one allocation of submitit's local cluster, and each job is submitted once. In it they are
    processes, whose words are in files."""
    main(["report", "-m", folders, "sweep=s", "slots=slurm", "slurm.cluster=local", "slurm.jobs_per_allocation=2",
          "slurm.gpus=0"])  # fmt: skip
    assert "Submitted 2 jobs" in capsys.readouterr().out
    main(["report", "-m", folders, "sweep=s", "slots=slurm", "slurm.cluster=local", "slurm.gpus=0"])
    assert "Submitted 0 jobs" in capsys.readouterr().out
    main(["sweep", "status", "runs/sweeps/s"])
    assert "submitted as local " in capsys.readouterr().out
    wait_for("a/report.html", "b/report.html")
    deadline = time.monotonic() + SOON
    while set(states().values()) != {"done"}:
        assert time.monotonic() < deadline, states()
        time.sleep(0.1)
    assert len(list(Path("runs/sweeps/s/slurm").glob("[0-9]*"))) == 1
    assert Path("runs/sweeps/s/jobs/report-000.log").read_text().strip().endswith("a/report.html")


def test_a_sweep_goes_through_sbatch(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{STAND_INS}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    first = {"verb": "report", "name": "first", "overrides": ["folder=a"]}
    second = {"verb": "report", "name": "second", "overrides": ["folder=b", "output={first}/after.html"]}
    Path("s.yaml").write_text(json.dumps({"stages": [first, second]}))
    main(["sweep", "run", "s.yaml", "slots=slurm", "slurm.partition=gpu", "slurm.time=60", "slurm.gpus=2"])
    script = (tmp_path / "submitted.sh").read_text()
    wanted = "--partition=gpu --gpus-per-node=2 --cpus-per-task=8 --mem=64GB --time=60 --dependency=afterany:4711"
    for line in wanted.split():
        assert f"#SBATCH {line}" in script
    wait_for("a/report.html", "after.html")
    found = {state.allocation for state in SweepFolder(Path("runs/sweeps/s")).states().values()}
    assert found <= {"", "slurm 4711", "slurm 4712"}


def test_without_slurm_the_sentence_says_so(folders, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="slots=slurm needs Slurm's commands, sbatch and srun, which are not here"):
        main(["report", "-m", folders, "slots=slurm"])


@pytest.mark.parametrize(("module", "arguments"), [
    ("submitit", ["slots=slurm"]),
    ("optuna", ["search.trials=2", "objective=report/x"]),
])  # fmt: skip
def test_what_is_not_installed_is_named(folders, monkeypatch, module, arguments):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit, match=r"needs \w+: pip install 'wplus\[sweep\]'"):
        main(["report", "-m", folders, *arguments])


def test_an_allocation_whose_time_is_over_saves_and_is_asked_for_again(tmp_path, monkeypatch):
    """Its launch is interrupted and waited for; the resubmission has the same jobs."""
    sleep = """
import signal, sys, time
signal.signal(15, lambda *_: (open("saved", "w"), sys.exit(130)))
open("up", "w")
time.sleep(60)
"""
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", sleep], **options))
    allocation = Allocation(["run", "s"], str(tmp_path))
    again = []

    def tell(*_):
        again.append(allocation.checkpoint())

    before = signal.signal(signal.SIGUSR2, tell)
    script = f"""
import os, time
while not os.path.exists({str(tmp_path / "up")!r}):
    time.sleep(0.05)
os.kill({os.getpid()}, {int(signal.SIGUSR2)})
"""
    helper = real([sys.executable, "-c", script])
    try:
        assert allocation() == 130
    finally:
        signal.signal(signal.SIGUSR2, before)
        helper.wait()
    assert (tmp_path / "saved").exists()
    assert (again[0].function.arguments, again[0].function.folder) == (["run", "s"], str(tmp_path))
