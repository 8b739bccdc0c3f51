"""Commands as steps of long work."""

from __future__ import annotations

import pytest

from wplus.steps import run_step


def test_a_step_runs_in_its_folder_and_is_named_first(tmp_path, capfd):
    (tmp_path / "where.py").write_text("import os, sys; print(os.getcwd(), sys.argv[1:])")
    run_step(["where.py", "a b"], tmp_path)
    assert capfd.readouterr().out.splitlines()[1:] == ["python where.py 'a b'", f"{tmp_path} ['a b']"]


def test_a_failure_ends_the_work_with_its_status(tmp_path):
    (tmp_path / "fails.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit) as error:
        run_step(["fails.py"], tmp_path)
    assert error.value.code == 3
