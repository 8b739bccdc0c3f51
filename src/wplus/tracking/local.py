"""The local record, without any service: records.jsonl is appended line by line, result.json holds the results.

Both are valid JSON at any time, even after the process was killed. JSON has no NaN or infinity: they are written as the
strings "nan", "inf" and "-inf", which `float()` reads back.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from wplus.core.files import atomic_write, ensure_folder, sha256, write_json
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.tracking import environment
from wplus.tracking.run_folder import RECORDS, RESULT, Status, read_json, record_opened, true_status
from wplus.tracking.tracker import KIMG, AnyPath, Level, Plain, Run, Sink, Tracker, with_decided

MESSAGE = "message"
# Sections of the result that a resumed run keeps.
_KEPT = ("values", "methods", "info", "files", "artifacts", "inputs")


def open_tracker(**run: Any) -> Tracker:
    """A tracker that only writes the local record; `run` are the fields of `Run`."""
    described = Run(**run)
    return Tracker([LocalRecord(described)], job_type=described.job_type)


class LocalRecord(Sink):
    """`records.jsonl` and `result.json` in the run's output folder, continued from an earlier part of the run."""

    def __init__(self, run: Run) -> None:
        self.folder = ensure_folder(run.output_dir)
        self.records = self.folder / RECORDS
        _check(self.records)
        record_opened(self.folder)
        _repair(self.records)
        earlier = read_result(self.folder)
        self._earlier_seconds = float(earlier.get("seconds", 0))
        self._started = time.time()
        self._shown_at: dict[str, float | None] = {}
        self.result: dict[str, Any] = {
            "job_type": run.job_type,
            "name": run.name,
            "group": run.group,
            "tags": list(run.tags),
            "command": run.notes,
            "status": "running",
            "started": earlier.get("started", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
            "seconds": self._earlier_seconds,
            **{key: earlier.get(key, {}) for key in _KEPT},
            "config": run.config,
            "versions": environment.versions(),
            "git": environment.git_state(),
            "device": environment.device(),
        }
        self._save()

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Append one line: the axis if given, the time in seconds since 1970, the values."""
        self._append(values, kimg)

    def describe(self, info: Mapping[str, MetricInfo]) -> None:
        """Store the meanings in the result, beside the values."""
        new = {name: asdict(each) for name, each in info.items()}
        if any(self.result["info"].get(name) != each for name, each in new.items()):
            self.result["info"].update(new)
            self._save()

    def image(self, key: str, path: AnyPath, *, caption: str = "", kimg: float | None = None) -> None:
        """Append a row with the file and its time; the result keeps the latest files, those of one kimg."""
        file = self._relative(path)
        self._append({key: {"file": file, "caption": caption}}, kimg)
        shown = self.result["files"].get(key, []) if self._shown_at.get(key) == kimg else []
        self._shown_at[key] = kimg
        self._keep("files", key, [*(each for each in shown if each != file), file])

    def video(self, key: str, path: AnyPath, *, kimg: float | None = None) -> None:
        self.image(key, path, kimg=kimg)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write `tables/<key>.json` with `columns` and `rows`; picture cells become `{"file": path}`."""
        cells = [[{"file": self._relative(cell)} if isinstance(cell, Path) else cell for cell in row] for row in rows]
        path = self.folder / "tables" / f"{key.replace('/', '_')}.json"
        write_json(path, to_json({"columns": list(columns), "rows": cells}))
        self._keep("files", key, [self._relative(path)])

    def methods(self, key: str, values: Mapping[str, Plain]) -> None:
        self._keep("methods", key, values)

    def histogram(self, key: str, values: np.ndarray, *, kimg: float | None = None) -> None:
        """Append a row with 64 counts and their 65 edges; non-finite values are left out."""
        counts, edges = np.histogram(values[np.isfinite(values)], bins=64)
        self._append({key: {"counts": counts, "edges": edges}}, kimg)

    def log_message(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        """Append a row `message` with `text` and `level`."""
        self._append({MESSAGE: {"text": text, "level": level}}, kimg)

    def artifact(
        self, path: AnyPath | None, *, name: str, kind: str, aliases: Sequence[str] = (), metadata: Plain | None = None
    ) -> None:
        self._keep("artifacts", name, {**self._origin(path, kind, metadata), "aliases": list(aliases)})

    def use_artifact(self, path: AnyPath | None, *, name: str, kind: str, metadata: Plain | None = None) -> None:
        self._keep("inputs", name, self._origin(path, kind, metadata))

    def decided(self, values: Plain) -> None:
        self.result["config"] = with_decided(self.result["config"], to_json(values))
        self._save()

    def summary(self, values: Plain) -> None:
        self.result["values"].update(values)
        self._save()

    def rewind(self, kimg: float | None) -> None:
        """Delete rows after `kimg`, keeping those without an axis; None deletes all rows."""
        if not self.records.exists():
            return
        lines = [] if kimg is None else self.records.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if not _after(line, cast(float, kimg))]
        atomic_write(self.records, lambda file: file.writelines(kept))

    def finish(self, status: Status = "finished") -> None:
        self.result["status"] = status
        self._save()

    def _append(self, values: Plain, kimg: float | None) -> None:
        axis = {} if kimg is None else {KIMG: kimg}
        line = json.dumps(to_json({**axis, "time": round(time.time(), 3), **values}), allow_nan=False)
        try:
            with open(self.records, "ab", buffering=0) as file:  # one write a line: a kill cuts only the last
                file.write(line.encode() + b"\n")
        except OSError as error:
            raise UserError(f"Cannot write '{self.records}': {error.strerror or error}.") from error

    def _keep(self, section: str, key: str, entry: Any) -> None:
        self.result[section][key] = entry
        self._save()

    def _save(self) -> None:
        self.result["seconds"] = round(self._earlier_seconds + time.time() - self._started, 1)
        write_json(self.folder / RESULT, to_json(self.result))

    def _origin(self, path: AnyPath | None, kind: str, metadata: Plain | None) -> dict[str, Any]:
        """The provenance of a file: a hash of its content, valid wherever the file is moved."""
        origin: dict[str, Any] = {"kind": kind, "metadata": dict(metadata or {})}
        if path is not None:
            origin["file"] = self._relative(path)
            if Path(path).is_file():
                origin["sha256"] = sha256(path)
        return origin

    def _relative(self, path: AnyPath) -> str:
        """Make a path relative to the output folder if it is inside, so that the folder can be moved."""
        absolute = Path(path).resolve()
        return str(absolute.relative_to(self.folder) if absolute.is_relative_to(self.folder) else absolute)


def read_result(folder: AnyPath) -> dict[str, Any]:
    """The content of `folder`/result.json; empty if it is missing or unreadable.

    The status of a run whose process died without recording it is "killed".
    """
    content = read_json(Path(folder) / RESULT)
    return content | ({"status": true_status(Path(folder), content["status"])} if "status" in content else {})


def numbers_in(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of a result's values, and those of compared methods as KEY/METHOD/NUMBER."""
    groups = result.get("methods", {}).items()
    of_methods = {f"{key}/{method}/{name}": entry for key, methods in groups for method, entries in methods.items()
                  for name, entry in entries.items()}  # fmt: skip
    return {**result.get("values", {}), **of_methods}


def read_records(folder: AnyPath) -> Iterator[dict[str, Any]]:
    """Yield the rows of `folder`/records.jsonl in order; a partially written last line is skipped."""
    path = Path(folder) / RECORDS
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def to_json(value: Any) -> Any:
    """Convert nested mappings and sequences to values that JSON can represent; other objects become strings."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "tolist"):  # tensors and arrays of any shape, and their scalars
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)


def _check(path: Path) -> None:
    """Raise UserError for a damaged row; a partial last row, left by a kill, is ignored."""
    rows = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, row in enumerate(rows, start=1):
        try:
            is_row = isinstance(json.loads(row), dict)
        except ValueError:
            is_row = False
        if not is_row:
            raise UserError(f"Line {number} of '{path}' is damaged: delete it, or choose another run_dir.")


def _repair(path: Path) -> None:
    """Remove a partial last line left by a kill."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        atomic_write(path, lambda file: file.write(content[:whole]))


def _after(line: bytes, kimg: float) -> bool:
    return float(json.loads(line).get(KIMG, -math.inf)) > kimg
