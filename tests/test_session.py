"""Commands as a shell sees them: exit statuses, one process per folder, sweeps that stop on request."""

import os
import pkgutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import CompactHydraException

import wplus
from tests.processes import Python
from wplus.__main__ import main
from wplus.commands import entry
from wplus.commands.session import is_first
from wplus.core.files import write_json
from wplus.errors import Interrupted
from wplus.models.stylegan2 import Generator
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import read_json

ENDLESS = [
    "train", "debug=quick", "data.num_images=60", "num_samples=4", "probes=[]", "schedule.kimg=1000",
    "schedule.snapshot_kimg=1000",
]  # fmt: skip
SOON = 240.0
Started = Callable[..., Python]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """start(*arguments): `wplus` running in its own process group, as a shell starts it."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **how: Python("-m", "wplus", *arguments, "data.cache_dir=cache", **how)


def wait_for(process: Python, *names: str) -> None:
    deadline = time.monotonic() + SOON
    while not all(Path(name).exists() for name in names):
        assert process.poll() is None, process.output(SOON)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def statuses(*names: str) -> list[str | None]:
    return [read_result(name).get("status") for name in names]


def test_one_process_a_folder_and_a_kill_is_seen(start: Started):
    first = start(*ENDLESS, "run_dir=out")
    wait_for(first, "out/records.jsonl")
    second = start(*ENDLESS, "run_dir=out")
    refused = second.output(SOON)
    assert (second.returncode, refused.count("\n")) == (1, 1), refused
    assert f"out' is in use by process {first.pid} on " in refused
    assert statuses("out") == ["running"]
    first.kill()
    first.output(SOON)
    assert statuses("out") == ["killed"]
    again = start(*ENDLESS, "run_dir=out", "schedule.kimg=0.016")
    shown = again.output(SOON)
    assert (again.returncode, statuses("out")) == (0, ["finished"]), shown
    assert Path("out/console.log").read_text().count("Training stylegan2 ") == 2


@pytest.mark.parametrize("slots", ["1", "cpu:3"])
def test_an_interrupted_sweep_ends_with_every_job_saved(start: Started, slots: str):
    """In a terminal Ctrl-C reaches the whole process group; of three slots one is idle."""
    sweep = start(*ENDLESS, "-m", "seed=1,2", "run_dir=out/${seed}", f"slots={slots}", forked=slots == "1")
    running = ["out/1", *(["out/2"] if slots != "1" else [])]
    wait_for(sweep, *(f"{name}/records.jsonl" for name in running))
    os.killpg(sweep.pid, signal.SIGINT)
    shown = sweep.output(SOON)
    assert sweep.returncode == 128 + signal.SIGINT, shown
    assert "Traceback" not in shown
    assert statuses("out/1", "out/2") == ["interrupted", "interrupted" if slots != "1" else None]
    assert shown.splitlines()[-2].endswith("missing: train-000 train-001"), shown
    assert all(list(Path(name).glob("checkpoints/*.ckpt")) for name in running)


@pytest.mark.parametrize(
    ("devices", "environment", "expected"),
    [
        (1, {"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, True),
        (2, {"SLURM_PROCID": "1"}, False),
        (2, {"RANK": "0", "SLURM_PROCID": "3"}, True),
        (2, {"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        (2, {"LOCAL_RANK": "0"}, True),
        (None, {"WORLD_SIZE": "2", "RANK": "1"}, False),
        (None, {"RANK": "1"}, True),
    ],
)
def test_of_several_processes_one_is_the_first(monkeypatch, devices, environment, expected):
    for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first({} if devices is None else {"trainer": {"devices": devices, "num_nodes": 1}}) is expected


def test_a_signal_that_comes_while_hydra_composes_is_no_mistake(monkeypatch: pytest.MonkeyPatch, capsys):
    def run(*_: object) -> None:
        try:
            raise Interrupted(signal.SIGTERM)
        except Interrupted as error:
            raise CompactHydraException from error

    monkeypatch.setattr(entry, "_run", run)
    with pytest.raises(SystemExit) as ended:
        main(["invert"])
    assert ended.value.code == 143
    assert "the same command goes on from there" in capsys.readouterr().err


# What is about to be called when the signal comes, the signal, and whether the record is open already.
EARLY = {
    "importlib.import_module": (signal.SIGINT, False),
    "wplus.commands.entry._run": (signal.SIGINT, False),
    "wplus.config.FileConfigSource.load_config": (signal.SIGINT, False),
    "wplus.commands.entry.shaped": (signal.SIGINT, False),
    "wplus.core.lock.FolderLock.acquire": (signal.SIGTERM, False),
    "wplus.tracking.run_folder.Console": (signal.SIGTERM, False),
    "wplus.commands.common.load": (signal.SIGTERM, False),
    "wplus.tracking.weights_and_biases.LocalRecord": (signal.SIGINT, False),
    "wplus.tracking.weights_and_biases.start": (signal.SIGTERM, True),
}


@pytest.fixture
def directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """directions(*overrides): the command with the smallest model."""
    generator = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=32, channel_max=4, num_mapping_layers=1)
    wplus.save(tmp_path / "model.safetensors", generator=generator)
    monkeypatch.chdir(tmp_path)
    chosen = ["checkpoint=model.safetensors", "finder.num_samples=16", "finder.num_directions=2"]
    return lambda *overrides: main(["directions", *chosen, *overrides])


def signalled(run: Callable[[], None], moment: str, sent: signal.Signals) -> object:
    """Exit status of a command that gets a signal when `moment` is about to be called."""
    called = pkgutil.resolve_name(moment)

    def interrupted(*args: object, **kwargs: object) -> object:
        signal.raise_signal(sent)
        return called(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moment, interrupted)
        # A shell that starts the tests in the background has its children ignore SIGINT.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            run()
        except SystemExit as ended:
            return ended.code
        finally:
            signal.signal(signal.SIGINT, before)
    return None


def test_a_signal_before_the_record_is_open_leaves_what_it_said(directions):
    """An earlier part that finished has finished, one that was interrupted was; a new folder says interrupted, or
    nothing."""
    directions("tracking=local", "run_dir=out")
    for number, (moment, (sent, is_open)) in enumerate(EARLY.items()):
        before = ("finished", "interrupted")[number % 2]
        write_json("out/result.json", read_json(Path("out/result.json")) | {"status": before})
        folders = {"out": [before], **({f"new{number}": [None, "interrupted"]} if number in (5, 6, 8) else {})}
        for folder, unopened in folders.items():
            status = signalled(lambda folder=folder: directions(f"run_dir={folder}"), moment, sent)
            assert status == 128 + sent, moment
            assert statuses(folder)[0] in (["interrupted"] if is_open else unopened), moment
            assert not Path(folder, ".lock").exists(), moment
