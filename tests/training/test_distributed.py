"""Several processes: one update, the same on all, equal to that of one process with the whole batch."""

import re
from pathlib import Path

import pytest
import torch

import wplus
from tests.processes import Python, pair
from tests.training.two_ranks import CASES, EQUAL, trained
from wplus.config import CONFIG_FOLDER

ROOT = Path(__file__).resolve().parents[2]
ONE_PLACE = 2.0**-23  # the last place of a float32: 1e-6 is less than that of 25, and mappings have such weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Results of two processes for every case."""
    made = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("two_ranks.py")
    pair(script, made, timeout=400)
    return made


def test_every_choice_is_among_the_cases():
    """Losses by their names; of augmentations, discriminators and heads every class that a configuration names."""
    files = [path for group in ("augment", "discriminator") for path in (CONFIG_FOLDER / group).glob("*.yaml")]
    named = {target for path in files for target in re.findall(r"_target_: (wplus\.(?!losses)\S+)", path.read_text())}
    parts = [part for make in EQUAL.values() for part in make().modules()]
    assert named <= {f"{type(part).__module__}.{type(part).__name__}" for part in parts}
    assert len(named) > 6


@pytest.mark.parametrize("case", CASES)
def test_two_processes_stay_the_same_and_equal_one(folder, case):
    """To the bit; and equal to one process up to rounding, except for batches normalised within each process."""
    first, second = (torch.load(folder / f"{case}-{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(tensor, second[name]) and tensor.isfinite().all() for name, tensor in first.items())
    if case in EQUAL:
        for name, tensor in trained(case).items():
            torch.testing.assert_close(
                first[name], tensor, rtol=ONE_PLACE, atol=1e-6, msg=lambda text, name=name: name + text
            )


def test_the_command_on_two_processes(tmp_path):
    """trainer=ddp through Lightning: the second process starts by itself, and there are one record and one model."""
    command = ["train.py", "trainer=ddp", "device=cpu", "debug=quick", "data.num_images=60", "schedule.kimg=0.032"]
    process = Python(*command, f"run_dir={tmp_path}/run", "num_samples=4", cwd=ROOT)
    printed = process.output(250)
    assert process.returncode == 0, printed
    assert wplus.load(tmp_path / "run" / "model.safetensors").metadata["nimg"] == 32
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["nimg-000000000032.ckpt"]
