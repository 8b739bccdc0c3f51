"""The folder of a run: its owner, state and output; a refusal leaves everything unchanged."""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from wplus.core.claim import digest
from wplus.core.lock import LOCK
from wplus.errors import Interrupted, UserError
from wplus.tracking.local import open_tracker, read_result
from wplus.tracking.run_folder import RunFolder


def claimed(folder: Path, kind: str = "train", **asked: object) -> RunFolder:
    return RunFolder(folder, kind=kind, asked={"seed": 0, **asked})


def work(folder: Path, error: BaseException | None = None, **asked: object) -> None:
    """A command that opens its record, prints something, and ends by itself or with an error."""
    with claimed(folder, **asked), open_tracker(output_dir=folder, job_type="train", name="n") as tracker:
        tracker.summary({"a": 1})
        print("said")
        if error is not None:
            raise error


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything in a folder, byte for byte, with the times of its files and its own."""
    files = [folder, *folder.rglob("*")]
    return {str(each): (os.stat(each).st_mtime_ns, each.read_bytes() if each.is_file() else b"") for each in files}


def test_a_folder_belongs_to_one_run_and_a_refusal_changes_nothing(tmp_path: Path):
    folder = tmp_path / "run"
    work(folder)
    before = content(folder)
    for other, message in (
        (claimed(folder, "evaluate"), "belongs to a run of 'train', not of 'evaluate'"),
        (
            claimed(folder, mirror="x"),
            "another run of 'train': mirror was null and is now \"x\"; repeat that, or choose",
        ),
        (claimed(folder, seed=2.5), "seed was 0 and is now 2.5"),
    ):
        with pytest.raises(UserError, match=message) as refused, other:
            raise AssertionError("let in")
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="by itself"), claimed(folder):
        raise UserError("by itself")
    with claimed(folder), pytest.raises(UserError, match="is in use"), claimed(folder):
        raise AssertionError("let in")
    assert content(folder) == before
    with pytest.raises(UserError), claimed(tmp_path / "not" / "yet"):
        raise UserError("never made")
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize(
    ("error", "status", "first_line"),
    [
        (None, "finished", None),
        (Interrupted(15), "interrupted", None),
        (UserError("The disk is full."), "failed", "UserError: The disk is full."),
        (ZeroDivisionError("one\ntwo"), "failed", "ZeroDivisionError: one"),
    ],
)
def test_the_status_says_how_it_ended(tmp_path: Path, error: BaseException | None, status: str, first_line: str | None):
    with contextlib.nullcontext() if error is None else pytest.raises(type(error)):
        work(tmp_path, error)
    result = read_result(tmp_path)
    assert (result["status"], result.get("error")) == (status, first_line)
    assert result["values"]["a"]["value"] == 1
    trace = tmp_path / "traceback.txt"
    assert trace.exists() is (status == "failed")
    assert not trace.exists() or "in work" in trace.read_text()
    assert not (tmp_path / LOCK).exists()
    work(tmp_path)
    assert (read_result(tmp_path)["status"], trace.exists()) == ("finished", False)
    assert (tmp_path / "console.log").read_text() == "said\nsaid\n"


def test_what_is_refused_before_anything_came_out_leaves_nothing(tmp_path: Path):
    """Also if the record was already open, and in a folder with files of its own."""

    def make(folder: Path, name: str, *, logged: bool) -> None:
        with claimed(folder), open_tracker(output_dir=folder, job_type="train", name="n") as tracker:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("x")
            if logged:
                tracker.log({"a": 1})
            raise UserError("No.")

    def refused(folder: Path, name: str, *, logged: bool = False) -> None:
        with pytest.raises(UserError):
            make(folder, name, logged=logged)

    refused(tmp_path / "new" / "run", "wandb/run")
    own = tmp_path / "own"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    before = content(tmp_path)
    refused(own, "inversion/settings.json")
    assert content(tmp_path) == before
    for number, (name, logged) in enumerate([("a.png", False), ("wandb/run", True)]):  # but what there is is kept
        for made in (name, "settings.json"):
            refused(tmp_path / str(number), made, logged=logged)
            assert read_result(tmp_path / str(number))["status"] == "failed"
            assert (tmp_path / str(number) / name).exists()
            assert (tmp_path / str(number) / "traceback.txt").exists()


def test_before_the_record_is_open_a_failure_is_told_too(tmp_path: Path):
    with pytest.raises(MemoryError), claimed(tmp_path / "a"):
        raise MemoryError("too large")
    assert read_result(tmp_path / "a")["error"] == "MemoryError: too large"
    with pytest.raises(Interrupted), claimed(tmp_path / "b"):
        raise Interrupted
    assert read_result(tmp_path / "b")["status"] == "interrupted"


def test_a_run_without_a_process_was_killed(tmp_path: Path):
    with claimed(tmp_path):
        open_tracker(output_dir=tmp_path, job_type="train", name="n")
        assert read_result(tmp_path)["status"] == "running"
        text = (tmp_path / "result.json").read_text()
    (tmp_path / "result.json").write_text(text)
    assert read_result(tmp_path)["status"] == "killed"


def test_a_claim_that_cannot_be_read_is_nobodys_to_take(tmp_path: Path):
    (tmp_path / "run.json").write_text('{"kind": "train", "dig')
    with (
        pytest.raises(UserError, match=r"run\.json', which identifies the folder's run, cannot be read"),
        claimed(tmp_path),
    ):
        raise AssertionError("let in")
    claim = {"kind": "train", "question": {"seed": 0}, "digest": digest({"seed": 0})}
    for damaged in ({**claim, "question": {"seed": 8}}, {**claim, "digest": "0" * 12}):
        (tmp_path / "run.json").write_text(json.dumps(damaged))
        with pytest.raises(UserError, match="cannot be read"):
            claimed(tmp_path).check()
    (tmp_path / "run.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match="cannot be read"):
        claimed(tmp_path).check()


def test_the_record_of_an_earlier_version_has_a_kind(tmp_path: Path):
    (tmp_path / "result.json").write_text('{"job_type": "train", "status": "running"}')
    with pytest.raises(UserError, match="a run of 'train'"):
        claimed(tmp_path, "invert").check()
    work(tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["question"] == {"seed": 0}


def test_the_console_is_kept_as_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    streams, log = (sys.stdout, sys.stderr), logging.getLogger()
    handler = logging.StreamHandler(sys.stdout)
    monkeypatch.setattr(log, "handlers", [handler])
    with claimed(tmp_path) as folder:
        print("before")
        assert not (tmp_path / "console.log").exists()
        folder.opened()
        print("\x1b[31mred\x1b[0m", file=sys.stderr)
        sys.stderr.write("\r\x1b[2Ka line above\nBar 1/10")
        sys.stderr.write("\r\x1b[2KBar 2/10")
        log.warning("logged")
    assert (sys.stdout, sys.stderr, handler.stream) == (*streams, streams[0])
    assert (tmp_path / "console.log").read_text() == "before\nred\na line above\nlogged\n"
    shown = capsys.readouterr()
    assert "logged" in shown.out
    assert "Bar 2/10" in shown.err
