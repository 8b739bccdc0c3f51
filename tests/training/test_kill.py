"""The real command, killed without warning, asked to stop, and started again, with the same result."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.processes import Python

TINY = (
    "data=folder data.resolution=8 mirror=x num_samples=4 tracking=local device=cpu "
    "probes=[style_mixing,noise_map,neighbours] probes.neighbours.num_images=4 "
    "model.generator.z_dim=6 model.generator.w_dim=6 model.generator.channel_base=64 model.generator.channel_max=8 "
    "training.micro_batch_size=4 training.hparams.batch_size=8 training.hparams.r1_interval=4 "
    "schedule.kimg=0.2 schedule.log_kimg=0.016 schedule.snapshot_kimg=0.04"
)
SOON = 120.0  # seconds that a busy machine may take for what is waited for


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    source = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(source.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def start(images, repository, tmp_path_factory):
    """start(run_dir): the command, running."""
    cache = tmp_path_factory.mktemp("cache")
    overrides = [*TINY.split(), f"data.path={images}", f"data.cache_dir={cache}"]

    return lambda run_dir: Python(repository / "train.py", *overrides, f"run_dir={run_dir}", cwd=cache)


@pytest.fixture(scope="module")
def uninterrupted(start, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    finish(start(folder))
    return folder


def finish(process: Python, status: int = 0) -> str:
    printed = process.output(SOON)
    assert process.returncode == status, printed
    return printed


def wait_for_checkpoint(process: Python, folder: Path, *, after: int) -> None:
    """Wait until the run has saved a checkpoint of more than `after` images."""
    deadline = time.monotonic() + SOON
    while newest(folder) <= after:
        assert process.poll() is None, process.output(SOON)
        assert time.monotonic() < deadline
        time.sleep(0.005)


def newest(folder: Path) -> int:
    return max((int(path.stem.removeprefix("nimg-")) for path in folder.glob("checkpoints/nimg-*.ckpt")), default=-1)


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint: networks, average, clock, both optimizers."""
    path = folder / "checkpoints" / f"nimg-{newest(folder):012d}.ckpt"
    content = torch.load(path, weights_only=True)
    flat = {f"model.{name}": tensor for name, tensor in content["state_dict"].items()}
    for number, optimizer in enumerate(content["optimizer_states"]):
        for index, state in optimizer["state"].items():
            flat |= {f"optimizer.{number}.{index}.{name}": tensor for name, tensor in state.items()}
    return flat


def curves(folder: Path) -> dict[float, dict[str, float]]:
    """Losses at each point in time, without what depends on time and memory."""
    rows = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    losses = [row for row in rows if "train/generator/loss" in row]
    assert len(losses) == len({row["progress/kimg"] for row in losses})
    volatile = ("time", "progress/minutes", "progress/kimg_per_s", "progress/sec_per_kimg", "progress/peak_memory_gb")
    return {row["progress/kimg"]: {key: row[key] for key in row.keys() - volatile} for row in losses}


def test_killed_and_asked_to_leave_and_finished(start, uninterrupted, tmp_path):
    """SIGKILL, a truncated checkpoint beside good ones, SIGTERM: three starts of one command equal a single one."""
    folder = tmp_path / "run"

    killed = start(folder)
    wait_for_checkpoint(killed, folder, after=39)
    killed.send_signal(signal.SIGKILL)
    killed.output(SOON)
    assert killed.returncode == -signal.SIGKILL
    first = newest(folder)
    assert 40 <= first < 160
    good = folder / "checkpoints" / f"nimg-{first:012d}.ckpt"
    (folder / "checkpoints" / f"nimg-{first + 8:012d}.ckpt").write_bytes(good.read_bytes()[:5000])
    (folder / "checkpoints" / f".nimg-{first + 8:012d}.ckpt.99.tmp").write_bytes(b"half")

    asked = start(folder)
    wait_for_checkpoint(asked, folder, after=first + 8)
    asked.send_signal(signal.SIGTERM)
    printed = finish(asked, 128 + signal.SIGTERM)
    second = newest(folder)
    assert first + 8 < second < 200
    assert f"interrupted at {second / 1000:g} kimg: {folder}" in printed
    assert f"nimg-{first + 8:012d}.ckpt' is truncated or damaged; trying the one before it." in printed
    assert "Traceback" not in printed

    assert f"finished at 0.2 kimg: {folder}" in finish(start(folder))
    compare(folder, uninterrupted)


def compare(folder: Path, straight: Path) -> None:
    found, expected = final_state(folder), final_state(straight)
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)] == []
    assert (folder / "model.safetensors").read_bytes() == (straight / "model.safetensors").read_bytes()
    names = {path.name for path in (straight / "samples").iterdir()}
    assert "kimg-000000.200.png" in names
    for name in names:
        assert (folder / "samples" / name).read_bytes() == (straight / "samples" / name).read_bytes(), name
    rows, kept = curves(straight), curves(folder)
    assert len(rows) == 13
    assert rows.keys() <= kept.keys()  # and a row where it was asked to leave
    # The means of the rows that a restart has cut in two miss the steps before it; all others are equal.
    assert sum(rows[kimg] == kept[kimg] for kimg in rows) >= 11


def test_the_same_command_after_the_end_changes_nothing(start, uninterrupted):
    before = final_state(uninterrupted), (uninterrupted / "model.safetensors").read_bytes()
    printed = finish(start(uninterrupted))
    assert "finished at 0.2 kimg" in printed
    assert "Traceback" not in printed
    after = final_state(uninterrupted)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before[0].items())
    assert (uninterrupted / "model.safetensors").read_bytes() == before[1]
