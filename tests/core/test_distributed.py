"""What two processes measure together is what one measures alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wplus.core.distributed import (
    all_agree,
    average_gradients,
    gathered,
    is_first,
    mean_over_ranks,
    only_first_speaks,
    process_group,
    rank_and_world,
    share,
    total,
)


def test_alone_nothing_is_exchanged() -> None:
    assert rank_and_world() == (0, 1)
    assert is_first()
    assert share([1, 2, 3]) == [1, 2, 3]
    value = torch.rand(3)
    assert total(value) is mean_over_ranks(value) is gathered(value) is value
    average_gradients([gradient := value.clone()])
    assert torch.equal(gradient, value)
    assert all_agree(True)
    assert not all_agree(False)
    assert torch.equal(gathered(torch.tensor([20.0, 0.0, 10.0]), torch.tensor([2, 0, 1])), torch.arange(3) * 10.0)


def test_alone_a_process_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    with only_first_speaks():
        print("heard")
    assert capsys.readouterr().out == "heard\n"


def test_without_torchrun_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group(torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        assert rank_and_world() == (0, 1)


def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("two_measuring.py"))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*start, script, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "process 0 speaks", "same", "same"]
    assert list(tmp_path.glob("features-*.npz"))
