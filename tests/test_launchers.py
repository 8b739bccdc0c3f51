"""Sweeps over processes and over a cluster: the launchers' configs compose, and jobs run through them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from wplus.config import CONFIG_FOLDER

STAND_INS = Path(__file__).parent / "stand_ins" / "slurm"


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    """Two empty folders to report on: the lightest job there is."""
    found = [tmp_path / name for name in ("a", "b")]
    for folder in found:
        folder.mkdir()
    return found


def sweep(
    repository: Path, folders: list[Path], *overrides: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`wplus report -m folder=a,b ...` from the folder above a and b."""
    command = [sys.executable, "-m", "wplus", "report", "-m"]
    return subprocess.run(
        [*command, f"folder={','.join(map(str, folders))}", *overrides],
        cwd=folders[0].parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_slurm_launcher_composes():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = compose("train", ["hydra/launcher=slurm", "hydra.launcher.partition=gpu"], return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.gpus_per_node, launcher.max_num_timeout) == ("gpu", 1, 20)


def test_a_sweep_goes_through_sbatch(repository, folders, tmp_path):
    done = sweep(
        repository,
        folders,
        "hydra/launcher=slurm",
        "hydra.launcher.partition=gpu",
        PATH=f"{STAND_INS}:{os.environ['PATH']}",
        FAKE_SLURM=str(tmp_path),
    )
    logs = "".join(path.read_text() for path in tmp_path.glob("log-*"))
    assert done.returncode == 0, done.stderr + logs
    assert [(folder / "report.html").exists() for folder in folders] == [True, True]
    script = (tmp_path / "submitted.sh").read_text()
    for line in (
        "--partition=gpu",
        "--gpus-per-node=1",
        "--cpus-per-task=8",
        "--mem=64GB",
        "--time=1440",
        "--array=0-1%",
    ):
        assert f"#SBATCH {line}" in script


def test_a_sweep_over_processes(repository, folders):
    done = sweep(repository, folders, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert [(folder / "report.html").exists() for folder in folders] == [True, True]
