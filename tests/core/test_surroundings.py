"""Variables that are set but empty, and users without a home folder."""

import os
from pathlib import Path

import pytest

from wplus.core.surroundings import settle


def test_what_is_set_but_empty_is_not_set(monkeypatch):
    dropped = (
        "WPLUS_CACHE",
        "WANDB_MODE",
        "TORCH_HOME",
        "XDG_CACHE_HOME",
        "HF_HOME",
        "TMPDIR",
        "LOCAL_RANK",
        "WORLD_SIZE",
    )
    for name in (*dropped, "CUDA_VISIBLE_DEVICES", "OTHER"):
        monkeypatch.setenv(name, "" if name != "TMPDIR" else "  ")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    settle()
    assert not {*dropped} & {*os.environ}
    assert (os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OTHER"], os.environ["WANDB_PROJECT"]) == ("", "", "mine")


@pytest.mark.parametrize("home", [None, "", "/nowhere/at/all"])
def test_who_has_no_home_gets_a_temporary_one_and_is_told(home, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user that the system does not know
    for name in ("HOME", "USER"):
        monkeypatch.setenv(name, home or "")
        if home is None:
            monkeypatch.delenv(name)
    settle()
    folder = tmp_path / f"wplus-{os.getuid()}"
    assert Path.home() == folder
    assert folder.is_dir()
    assert f"caches go to {folder}" in capsys.readouterr().err
    settle()
    assert capsys.readouterr().err == ""
