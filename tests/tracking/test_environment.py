"""The recorded environment of a run."""

import platform
import subprocess
from pathlib import Path

import torch

from wplus.tracking import environment


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_versions_name_python_and_torch():
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__.split("+")[0]


def test_git_state_follows_the_checkout(tmp_path):
    source = tmp_path / "code.py"
    source.write_text("a = 1\n")
    assert environment.git_state(source) == {}
    git(tmp_path, "init")
    assert environment.git_state(source) == {}  # not tracked: somebody else's checkout
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-m", "first")
    clean = environment.git_state(source)
    assert len(clean["sha"]) == 40
    assert clean["state"] == "clean"
    source.write_text("a = 2\n")
    assert environment.git_state(source) == {**clean, "state": "modified"}


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment.git_state() == {}


def test_the_device_is_described():
    described = environment.device()
    assert int(described["cores"]) >= 1
    assert described["threads"] == str(torch.get_num_threads())
    assert ("gpu" in described) == torch.cuda.is_available()
