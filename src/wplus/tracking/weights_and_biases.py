"""Weights & Biases as a sink, imported only when a run is opened.

The local record is authoritative: a resumed run logs its rows again from there, unless the server has them, and
replaces its earlier offline parts. Steps are images seen, so every row has a unique position.
"""

import itertools
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import wandb

from wplus.core.metric_result import Direction, MetricInfo
from wplus.errors import UserError
from wplus.tracking.local import MESSAGE, LocalRecord, read_records, to_json
from wplus.tracking.tracker import DERIVED, KIMG, AnyPath, Level, Plain, Run, Sink, Status, Tracker, with_decided
from wplus.tracking.wandb_keys import extreme_key, is_curve, swept_key
from wplus.tracking.wandb_parts import Parts
from wplus.tracking.wandb_start import set_folders, start

logger = logging.getLogger(__name__)

_RESULTS = ("name", "value", "low", "high", "unit", "direction", "meaning", "protocol")
_MAX_TITLE = 63  # of an alert's title
ARTIFACTS = ("none", "last", "all")
EXIT_CODES = {"finished": 0, "failed": 1, "interrupted": 130}


def open_tracker(*, project: str, entity: str | None = None, artifacts: str = "last", **run: Any) -> Tracker:
    """A tracker that writes the local record and to W&B; `run` are the fields of `Run`.

    Args:
        project: W&B project.
        entity: user or team; None: the account's default.
        artifacts: versions of the run's models, latents and directions to store in W&B: `none`, `last`, or `all`.
    """
    if artifacts not in ARTIFACTS:
        raise UserError(f"tracking.artifacts must be one of {', '.join(ARTIFACTS)}, got '{artifacts}'.")
    described = Run(**run)
    local = LocalRecord(described)
    wandb_sink = WeightsAndBiases(described, project=project, entity=entity, artifacts=artifacts)
    return Tracker([local, wandb_sink], job_type=described.job_type)


class WeightsAndBiases(Sink):
    """One W&B run. Its id is kept in the output folder, so that repeating the command resumes the same run."""

    def __init__(self, run: Run, *, project: str, entity: str | None = None, artifacts: str = "last") -> None:
        self.folder, self.artifacts = run.output_dir, artifacts
        self._earlier = _num_rows(self.folder)  # rows of the local record to log again before the next row
        self._borrowed = set_folders(self.folder)
        self._axis_defined, self._config = False, dict(run.config)
        self._measured: dict[str, Plain] = {}
        self._made: dict[str, tuple[AnyPath | None, dict[str, Any]]] = {}
        self._run = start(run, project=project, entity=entity)
        if run.swept:
            self._run.pin_config_keys([swept_key(key) for key in run.swept])
        self._directions: dict[str, Direction] = {}
        self._extremes: dict[str, float] = {}
        own = None if self._run.disabled else Path(self._run.dir).parent
        about: dict[str, Any] = {"online": not self._run.offline, "next_step": self._run.step}
        self._parts = Parts(self.folder, own, **about)
        self._step, self._keys = 0, set[str]()

    def describe(self, info: Mapping[str, MetricInfo]) -> None:
        """Note the curves whose best value is summarized besides the last one."""
        self._directions |= {name: each.direction for name, each in info.items() if each.direction != "neither"}

    def log(self, values: Plain, *, kimg: float | None = None) -> None:
        if self._earlier:
            self._replay(self._earlier)
        self._log(values, kimg)

    def _log(self, values: Plain, kimg: float | None, time: float | None = None) -> None:
        """Log one row, at the current time or at `time` in seconds since 1970."""
        self._define_axis(kimg)
        if kimg is not None:
            self._note_extremes(values)
        step = self._step if kimg is None else max(self._step, round(1000 * kimg))
        if step == self._step and self._keys & values.keys():  # a step holds one value per key
            step += 1
        self._keys = {*values, *(self._keys if step == self._step else ())}
        self._step = step
        if step >= self._parts.first_step:
            axes = {KIMG: kimg, "_timestamp": time}
            self._run.log({**values, **{key: each for key, each in axes.items() if each is not None}}, step=step)
            self._parts.note_step(step)

    def _note_extremes(self, values: Plain) -> None:
        for name, value in values.items():
            if isinstance(value, float) and is_curve(name):
                for key, better in ((extreme_key(name, "lower"), min), (extreme_key(name, "higher"), max)):
                    self._extremes[key] = better(value, self._extremes.get(key, value))

    def rewind(self, kimg: float | None) -> None:
        """Set the run's history to the local record, which has already been truncated."""
        self._replay(_num_rows(self.folder))

    def image(self, key: str, path: AnyPath, *, caption: str = "", kimg: float | None = None) -> None:
        self.log({key: _media(path, caption or None)}, kimg=kimg)

    def video(self, key: str, path: AnyPath, *, kimg: float | None = None) -> None:
        self.image(key, path, kimg=kimg)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        cells: list[Iterable[Any]] = [
            [wandb.Image(str(cell)) if isinstance(cell, Path) else cell for cell in row] for row in rows
        ]
        self.log({key: wandb.Table(columns=list(columns), data=cells)})

    def methods(self, key: str, values: Mapping[str, Plain]) -> None:
        rows = [[method, *_result_cells(*each)] for method, numbers in values.items() for each in numbers.items()]
        self.table(key, ["method", *_RESULTS], rows)

    def histogram(self, key: str, values: np.ndarray, *, kimg: float | None = None) -> None:
        self.log({key: wandb.Histogram(values[np.isfinite(values)])}, kimg=kimg)

    def log_message(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        """Send warnings as W&B alerts, by mail or Slack if the user has set that up; other messages are local."""
        if level == "warning":
            at = "" if kimg is None else f" at {kimg:g} kimg"
            self._run.alert(f"{self._run.name}{at}"[-_MAX_TITLE:], text, level="WARN")

    def artifact(
        self, path: AnyPath | None, *, name: str, kind: str, aliases: Sequence[str] = (), metadata: Plain | None = None
    ) -> None:
        self._made[name] = (path, {"name": name, "kind": kind, "aliases": list(aliases), "metadata": metadata})
        if self.artifacts == "all":
            self._store_artifacts()

    def use_artifact(self, path: AnyPath | None, *, name: str, kind: str, metadata: Plain | None = None) -> None:
        """Mark an input as used. Digests identify content: online this refers to the version logged by another run.

        W&B cannot use artifacts offline; they are then recorded in the config.
        """
        self._run.config.update({"inputs": {name: {"kind": kind, **to_json(metadata or {})}}}, allow_val_change=True)
        if not self._run.offline and not self._run.disabled:
            self._run.use_artifact(_artifact(_files(path, kind), name=name, kind=kind, metadata=metadata))

    def decided(self, values: Plain) -> None:
        self._config = with_decided(self._config, to_json(values))
        tops = {key.partition(".")[0] for key in values}
        self._run.config.update({top: to_json(self._config[top]) for top in tops}, allow_val_change=True)

    def summary(self, values: Plain) -> None:
        """Write values to W&B's summary, which only holds numbers; their other fields go into the table `results`.

        Settings derived from others are written to the configuration.
        """
        plain = {key: to_json(entry["value"]) for key, entry in values.items()}
        derived = {key.removeprefix(DERIVED): value for key, value in plain.items() if key.startswith(DERIVED)}
        if derived:
            self._run.config.update({"derived": derived}, allow_val_change=True)
        self._run.summary.update({key: value for key, value in plain.items() if not key.startswith(DERIVED)})
        self._measured |= {key: entry for key, entry in values.items() if _is_measured(key, entry)}

    def finish(self, status: Status = "finished") -> None:
        if self._measured:
            self.table("results", _RESULTS, [_result_cells(*each) for each in self._measured.items()])
        if self._earlier:
            self._replay(self._earlier)
        if self.artifacts == "last":
            self._store_artifacts()
        self._run.summary.update({"status": status, **self._best_values()})
        where = self._run.dir if self._run.offline else self._run.url
        try:
            self._run.finish(exit_code=EXIT_CODES[status])
        finally:
            for variable in self._borrowed:
                os.environ.pop(variable, None)
        if where and self._run.offline:
            logger.info("W&B run (offline; upload it with `wandb sync`): %s", Path(where).parent)
        elif where:
            logger.info("W&B run: %s", where)

    def _best_values(self) -> dict[str, float]:
        """The minimum or maximum of every curve with a direction, under its `extreme_key`.

        W&B's parallel coordinates only show summary values, and W&B's own minimum would replace the last value there.
        """
        keys = [extreme_key(name, direction) for name, direction in self._directions.items()]
        return {key: self._extremes[key] for key in keys if key in self._extremes}

    def _replay(self, num_rows: int) -> None:
        """Log the first `num_rows` of the local record again, except those the server has, with their artifacts."""
        self._earlier = 0
        for row in itertools.islice(read_records(self.folder), num_rows):
            kimg, time = row.pop(KIMG, None), row.pop("time", None)
            if MESSAGE in row:
                self.log_message(**row.pop(MESSAGE), kimg=kimg)
            if values := dict(_logged(self.folder, row)):
                self._log(values, kimg, time)
        for entry in self._parts.artifacts():
            if entry.pop("step") <= self._step:
                self._store(dict(entry.pop("files")), **entry)
        self._parts.drop_replaced()

    def _store_artifacts(self) -> None:
        """Store the artifacts made since the last call."""
        for path, entry in self._made.values():
            self._store(_files(path, entry["kind"]), **entry)
        self._made = {}

    def _store(self, files: Mapping[str, str], *, aliases: Sequence[str], **entry: Any) -> None:
        """Log an artifact of `files` (name -> path), and note the paths of W&B's copies."""
        artifact = _artifact(files, **entry)
        self._run.log_artifact(artifact, aliases=list(aliases))
        copies = {name: each.local_path for name, each in artifact.manifest.entries.items() if each.local_path}
        self._parts.note_artifact(step=self._step, files=copies, aliases=list(aliases), **to_json(entry))

    def _define_axis(self, kimg: float | None) -> None:
        """Use kimg as the axis of every curve; a run that never logs it keeps W&B's step."""
        if kimg is None or self._axis_defined:
            return
        self._run.define_metric(KIMG, overwrite=True)
        self._run.define_metric("*", step_metric=KIMG, step_sync=True, overwrite=True)
        self._axis_defined = True


def _is_measured(key: str, entry: Plain) -> bool:
    """Whether a value is a metric with a protocol; values chosen by presets are in the configuration."""
    value = entry["value"]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and bool(entry.get("protocol")) and not key.startswith(DERIVED)


def _result_cells(key: str, entry: Plain) -> list[Any]:
    low, high = entry.get("interval") or (None, None)
    low, high = (None, None) if low == high else (low, high)  # an interval without width carries no information
    info = [entry.get(name, "") for name in ("unit", "direction", "meaning")]
    return [key, float(entry["value"]), low, high, *info, json.dumps(to_json(entry["protocol"]))]


def _files(path: AnyPath | None, kind: str) -> dict[str, str]:
    """Name in the artifact -> file. The images of a data set are not uploaded."""
    if path is None or kind == "dataset":
        return {}
    root = Path(path)
    if not root.is_dir():
        return {root.name: str(root)}
    return {file.relative_to(root).as_posix(): str(file) for file in sorted(root.rglob("*")) if file.is_file()}


def _artifact(files: Mapping[str, str], *, name: str, kind: str, metadata: Plain | None) -> wandb.Artifact:
    """An artifact of the files with their metadata, which are written to a file if there is no other, so that equal
    content is one version."""
    plain = to_json(metadata or {})
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type=kind, metadata=plain)
    for inside, file in files.items():
        artifact.add_file(file, name=inside)
    if not files:
        with artifact.new_file("metadata.json") as content:
            json.dump(plain, content, indent=2, sort_keys=True)
    return artifact


def _num_rows(folder: Path) -> int:
    return sum(1 for _ in read_records(folder))


def _logged(folder: Path, row: Plain) -> Iterator[tuple[str, Any]]:
    """The values of a row of the local record in the form logged to W&B; missing files are left out."""
    for key, value in row.items():
        if not isinstance(value, Mapping):
            yield key, float(value)
        elif "counts" in value:
            yield key, wandb.Histogram(np_histogram=(np.array(value["counts"]), np.array(value["edges"])))
        elif "file" in value and (folder / value["file"]).is_file():
            yield key, _media(folder / value["file"], value.get("caption") or None)


def _media(path: AnyPath, caption: str | None = None) -> wandb.Image | wandb.Video:
    form = Path(path).suffix.lstrip(".")
    if form in ("gif", "mp4"):
        return wandb.Video(str(path), format=cast(Literal["gif", "mp4"], form), caption=caption)
    return wandb.Image(str(path), caption=caption)
