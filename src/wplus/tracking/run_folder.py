"""The folder of a run while a command works in it: its owner, its status, and the console output.

`run.json` identifies the run that owns the folder: the kind of command and its question (`wplus.core.claim`). Nothing
is written, logged or sent before that is checked. `console.log` keeps the terminal's output, `traceback.txt` the reason
why the last part of a run failed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from wplus.core.claim import difference, digest
from wplus.core.files import at_home, write_json
from wplus.core.lock import LOCK, FolderLock, is_held
from wplus.errors import UserError

Status = Literal["finished", "interrupted", "failed"]
CLAIM, RESULT, CONSOLE, TRACEBACK = "run.json", "result.json", "console.log", "traceback.txt"
RECORDS, WANDB = "records.jsonl", "wandb"
# Files that a command writes before it has any results, and the keys of its result that hold results.
_ACCOUNT = {CLAIM, LOCK, RESULT, CONSOLE, TRACEBACK, RECORDS, "settings.json"}
_OUTCOME = ("values", "methods", "files")
_active: dict[Path, RunFolder] = {}


class RunFolder:
    """Context manager that reserves the folder `path` for a command of this `kind` with this question.

    Entering raises UserError, without changing anything, if the folder belongs to another run or is in use by another
    process. A UserError from the block restores the folder's former state if the folder is new and has no results: no
    metric, no picture, and no file besides the record of the run itself.
    """

    def __init__(self, path: str | Path, *, kind: str, asked: Mapping[str, Any]) -> None:
        self.path, self.kind, self.asked = at_home(path).resolve(), kind, dict(asked)
        self._lock = FolderLock(self.path)
        self._is_opened = self._is_new = False
        self._began = time.time()

    def __enter__(self) -> RunFolder:
        self.check()
        self._missing = [each for each in (self.path, *self.path.parents) if not each.exists()]
        self._before = None if self._missing else os.stat(self.path)
        self._names = set() if self._missing or not self.path.is_dir() else set(os.listdir(self.path))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            self._take_away()
            raise UserError(f"Cannot write to the output folder '{self.path}': {error.strerror or error}.") from error
        try:
            self.check()  # again: another process may have just finished
            self._is_new = not (self.path / CLAIM).exists()
            if self._is_new:
                claim = {"kind": self.kind, "digest": digest(self.asked), "question": self.asked}
                write_json(self.path / CLAIM, claim)
            self._console = Console(self.path / CONSOLE)
        except BaseException:
            self._leave_as_it_was()
            raise
        _active[self.path] = self
        return self

    def check(self) -> None:
        """Raise UserError if the folder belongs to another run; only reads."""
        claim = read_claim(self.path)
        if claim is None:
            return
        cure = "repeat that, or choose another run_dir"
        if claim["kind"] != self.kind:
            raise UserError(f"'{self.path}' belongs to a run of '{claim['kind']}', not of '{self.kind}': {cure}.")
        if claim.get("digest") not in (None, digest(self.asked)):
            changed = difference(claim["question"], self.asked)
            raise UserError(f"'{self.path}' belongs to another run of '{self.kind}': {changed}; {cure}.")

    def opened(self) -> None:
        """Note that the folder's record is now that of this process."""
        self._is_opened = True
        self._console.write()
        (self.path / TRACEBACK).unlink(missing_ok=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        del _active[self.path]
        self._console.close()
        if self._has_said_nothing(error):
            self._leave_as_it_was()
            return
        if self._is_opened or self._is_new:
            with contextlib.suppress(UserError, OSError):  # e.g. a full disk: that error is already being raised
                self._record(error)
        self._lock.release()

    def _has_said_nothing(self, error: BaseException | None) -> bool:
        """Whether this process left nothing worth keeping: it made nothing, or failed with a UserError before it had
        results."""
        if error is not None and not isinstance(error, UserError):
            return False
        made = [path for each in self._made() - {CLAIM} for path in (self.path / each, *(self.path / each).rglob("*"))]
        if not self._is_opened and not made:
            return True
        if error is None or not self._is_new or self._names & _ACCOUNT:
            return False
        own = self.path / WANDB
        further = [path for path in made if path.is_file() and path.name not in _ACCOUNT and own not in path.parents]
        has_rows = (self.path / RECORDS).is_file() and (self.path / RECORDS).stat().st_size > 0
        return not further and not has_rows and not any(map(read_json(self.path / RESULT).get, _OUTCOME))

    def _made(self) -> set[str]:
        """Names of files in a new folder that were not there before."""
        found = set(os.listdir(self.path)) if self._is_new and self.path.is_dir() else set()
        return found - self._names - {LOCK}

    def _record(self, error: BaseException | None) -> None:
        """Write the status, if the tracker has not, and the reason of a failure."""
        path, status = self.path / RESULT, status_of(error)
        found = read_json(path) or {"job_type": self.kind, "seconds": round(time.time() - self._began, 1)}
        if status == "failed":
            found["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
            (self.path / TRACEBACK).write_text("".join(traceback.format_exception(error)))
        write_json(path, found | {"status": status})

    def _leave_as_it_was(self) -> None:
        for path in (self.path / name for name in self._made()):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        self._lock.release()
        if self._before is not None:
            with contextlib.suppress(OSError):
                os.utime(self.path, ns=(self._before.st_atime_ns, self._before.st_mtime_ns))
        self._take_away()

    def _take_away(self) -> None:
        """Remove the folders created for this run if they are empty."""
        with contextlib.suppress(OSError):
            for folder in self._missing:
                folder.rmdir()


def record_opened(folder: Path) -> None:
    """Notify the command that works in `folder`, if any, that its record is open."""
    if folder in _active:
        _active[folder].opened()


def status_of(error: BaseException | None) -> Status:
    """The status of a run that ended with `error`: finished, interrupted or failed."""
    asked = KeyboardInterrupt, SystemExit  # the latter is raised by cluster launchers
    return "finished" if error is None else "interrupted" if isinstance(error, asked) else "failed"


def true_status(folder: Path, recorded: str | None) -> str | None:
    """Return `recorded`, or "killed" if it is "running" but the process is gone."""
    is_ours = recorded == "running" and (folder / CLAIM).exists()
    return "killed" if is_ours and not is_held(folder) else recorded


def read_claim(folder: Path) -> dict[str, Any] | None:
    """The claim on `folder`, or None. Of a run without a claim, only the kind in its record is known."""
    path = folder / CLAIM
    if not path.exists():
        kind = read_json(folder / RESULT).get("job_type")
        return {"kind": kind} if kind else None
    claim = read_json(path)
    if not {"kind", "digest", "question"} <= claim.keys() or digest(claim["question"]) != claim["digest"]:
        raise UserError(f"'{path}', which identifies the folder's run, cannot be read: choose another run_dir.")
    return claim


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it is missing or unreadable."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Console:
    """Copies printed output to a file once `write` is called; until then it is buffered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []
        self._file: TextIO | None = None
        self._streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Tee(stream, self._keep) for stream in self._streams)
        self._move_logs(self._streams, (sys.stdout, sys.stderr))

    def write(self) -> None:
        """Open the file, appending to the output of earlier parts of the run."""
        with contextlib.suppress(OSError):  # a full disk
            self._file = open(self.path, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            self._keep("".join(self._waiting))

    def close(self) -> None:
        """Restore the streams."""
        self._move_logs((sys.stdout, sys.stderr), self._streams)
        sys.stdout, sys.stderr = self._streams
        if self._file is not None:
            self._file.close()

    def _keep(self, text: str) -> None:
        if self._file is None:
            self._waiting.append(text)
            return
        with contextlib.suppress(OSError, ValueError):  # a full disk, or a stream used after closing
            self._file.write(_plain(text))
            self._file.flush()

    def _move_logs(self, old: tuple[Any, Any], new: tuple[Any, Any]) -> None:
        for handler in logging.getLogger().handlers:
            for before, after in zip(old, new, strict=True):
                if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                    handler.setStream(after)


class _Tee:
    """A stream that also passes on everything written to it."""

    def __init__(self, stream: TextIO, keep: Callable[[str], None]) -> None:
        self._stream, self._keep = stream, keep

    def write(self, text: str) -> int:
        self._keep(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _plain(text: str) -> str:
    """Remove terminal codes, and lines that are overwritten, such as progress bars."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text[: text.rfind("\n") + 1] if "\r" in text else text)
