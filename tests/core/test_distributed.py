"""A single process exchanges nothing; torchrun's processes connect; more in tests/evaluation/two_measuring.py."""

import os
import re
from pathlib import Path

import pytest
import torch

from tests.processes import Python
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
from wplus.errors import UserError


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a whole number, as torchrun sets it, got 'two'."),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE must be a whole number, as torchrun sets it, got '-1'."),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2 means several processes, but MASTER_ADDR is not set: "),
    ],
)
def test_what_torchrun_did_not_set_is_told(monkeypatch: pytest.MonkeyPatch, variables: dict, words: str) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=re.escape(words)), process_group(torch.device("cpu")):
        pass


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group(torch.device("cpu")) as device, only_first_speaks():
        assert device == torch.device("cpu")
        assert rank_and_world() == (0, 1)
        print("heard")
    assert capsys.readouterr().out == "heard\n"


def test_processes_that_torchrun_starts_meet(tmp_path: Path, repository: Path) -> None:
    """By torchrun itself: elsewhere its variables are set by hand."""
    script = tmp_path / "script.py"
    script.write_text("""
import torch
from wplus.core.distributed import only_first_speaks, process_group, rank_and_world, total
with process_group(torch.device("cpu")), only_first_speaks():
    rank, world = rank_and_world()
    print(rank, world, int(total(torch.tensor(10**rank))))
""")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script)
    process = Python(*torchrun, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(repository / "src")})
    printed = process.output(200)
    assert process.returncode == 0, printed
    assert "0 2 11\n" in printed
    assert "1 2 11" not in printed
