"""Commands as steps of long jobs."""

import pytest

from experiments.run_command import run_command, run_script
from wplus.core.files import write_json
from wplus.errors import UserError


def test_a_step_runs_where_the_work_does_and_is_named_first(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "a b" / "result.json", {"status": "finished", "config": {"seed": 0}, "numbers": {}})
    run_command(["report", "folder=a b"])
    assert capfd.readouterr().out.splitlines()[1:] == ["wplus report 'folder=a b'", "a b/report.html"]


def test_a_failure_ends_the_work_with_its_status(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        run_command(["report", "nokey=1"])
    assert error.value.code == 1


def test_bad_input_of_a_script_is_one_sentence():
    def refuse() -> None:
        raise UserError("'x' is not the folder of a sweep.")

    with pytest.raises(SystemExit, match=r"^'x' is not the folder of a sweep\.$"):
        run_script(refuse)
