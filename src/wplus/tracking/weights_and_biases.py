"""Weights & Biases as a sink; the only file that knows it, and which is imported only when a run is opened.

Online with an account, offline without one or when the server cannot be reached: never an error. `WANDB_MODE`
(online, offline, disabled) decides where it is set. Offline runs lie in `<output_dir>/wandb/offline-run-*` and can
be uploaded later with `wandb sync`, or read in the terminal with `wandb leet`.
"""

import json
import logging
import netrc
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import numpy as np
import wandb

from wplus.core.files import ensure_folder
from wplus.tracking.local import LocalRecord, to_json
from wplus.tracking.tracker import KIMG, AnyPath, Level, Plain, Run, Sink, Status, Tracker

logger = logging.getLogger(__name__)

# Below the output folder, so that media which W&B only points at travel with the run; a user's own choice stays.
_FOLDERS = {
    "WANDB_DIR": ".",
    "WANDB_DATA_DIR": "wandb/data",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
}
_RESULTS = ("name", "value", "low", "high", "unit", "direction", "meaning", "protocol")
_MAX_TAG = 64  # characters; W&B refuses longer ones
_MAX_TITLE = 63  # of an alert


def open_tracker(*, project: str, entity: str | None = None, **run: Any) -> Tracker:
    """A tracker that writes the local record and W&B; `run` are the fields of `Run`."""
    described = Run(**run)
    return Tracker([LocalRecord(described), WeightsAndBiases(described, project=project, entity=entity)])


class WeightsAndBiases(Sink):
    """One W&B run. Its id is kept in the output folder: the same command again continues the same run."""

    def __init__(self, run: Run, *, project: str, entity: str | None = None) -> None:
        self._borrowed = _set_folders(run.output_dir)
        self._axis_defined = False
        self._measured: dict[str, Plain] = {}
        self._run = _start(run, project=project, entity=entity)

    def log(self, values: Plain, *, kimg: float | None = None) -> None:
        self._define_axis(kimg)
        self._run.log({**values, **({} if kimg is None else {KIMG: kimg})})

    def image(self, key: str, path: AnyPath, *, caption: str = "", kimg: float | None = None) -> None:
        self.log({key: wandb.Image(str(path), caption=caption or None)}, kimg=kimg)

    def video(self, key: str, path: AnyPath, *, kimg: float | None = None) -> None:
        form = cast(Literal["gif", "mp4"], Path(path).suffix.lstrip("."))
        self.log({key: wandb.Video(str(path), format=form)}, kimg=kimg)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        cells: list[Iterable[Any]] = [
            [wandb.Image(str(cell)) if isinstance(cell, Path) else cell for cell in row] for row in rows
        ]
        self._run.log({key: wandb.Table(columns=list(columns), data=cells)})

    def histogram(self, key: str, values: np.ndarray, *, kimg: float | None = None) -> None:
        self.log({key: wandb.Histogram(values[np.isfinite(values)])}, kimg=kimg)

    def log_message(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        """A warning is an alert, which W&B sends by mail or Slack where the user wants that; the rest is local."""
        if level == "warning":
            at = "" if kimg is None else f" at {kimg:g} kimg"
            self._run.alert(f"{self._run.name}{at}"[-_MAX_TITLE:], text, level="WARN")

    def artifact(
        self, path: AnyPath | None, *, name: str, kind: str, aliases: Sequence[str] = (), metadata: Plain | None = None
    ) -> None:
        self._run.log_artifact(_artifact(path, name=name, kind=kind, metadata=metadata), aliases=list(aliases))

    def use_artifact(self, path: AnyPath | None, *, name: str, kind: str, metadata: Plain | None = None) -> None:
        """The same content has the same digest: online this names the very version that another run logged.

        W&B cannot use artifacts offline; the config then says what was used.
        """
        self._run.config.update({"inputs": {name: {"kind": kind, **to_json(metadata or {})}}}, allow_val_change=True)
        if not self._run.offline and not self._run.disabled:
            self._run.use_artifact(_artifact(path, name=name, kind=kind, metadata=metadata))

    def summary(self, values: Plain) -> None:
        """W&B's summary has room for a number alone; what else is known of it goes into the table `results`."""
        self._run.summary.update({key: to_json(entry["value"]) for key, entry in values.items()})
        self._measured |= {key: entry for key, entry in values.items() if _is_measured(key, entry)}

    def finish(self, status: Status = "finished") -> None:
        if self._measured:
            self.table("results", _RESULTS, [_result_cells(*each) for each in self._measured.items()])
        where = self._run.dir if self._run.offline else self._run.url
        try:
            self._run.finish(exit_code=0 if status == "finished" else 1)
        finally:
            for variable in self._borrowed:
                os.environ.pop(variable, None)
        if where and self._run.offline:
            logger.info("W&B run (offline; upload it with `wandb sync`): %s", Path(where).parent)
        elif where:
            logger.info("W&B run: %s", where)

    def _define_axis(self, kimg: float | None) -> None:
        """Every curve is drawn over kimg; a run that never gives one keeps W&B's own step."""
        if kimg is None or self._axis_defined:
            return
        self._run.define_metric(KIMG, overwrite=True)
        self._run.define_metric("*", step_metric=KIMG, step_sync=True, overwrite=True)
        self._axis_defined = True


def _start(run: Run, *, project: str, entity: str | None) -> wandb.Run:
    """Start or continue the run; what the server refuses, or what cannot reach it, becomes an offline run.

    So do all later runs of this process: in a sweep, the wait for a server out of reach comes once.
    """
    arguments: dict[str, Any] = {
        "project": project,
        "entity": entity,
        "id": _run_id(run.output_dir),
        "resume": "allow",
        **{key: getattr(run, key) for key in ("name", "group", "job_type", "notes")},
        "tags": [tag[:_MAX_TAG] for tag in run.tags],
        "config": to_json(run.config),
        "allow_val_change": True,
        "dir": os.environ["WANDB_DIR"],
        "reinit": "create_new",  # several runs in one process: Hydra's basic launcher, the demo
        "settings": wandb.Settings(console="off", silent=True, init_timeout=20),
    }
    mode = os.environ.get("WANDB_MODE") or ("online" if has_account() else "offline")
    try:
        return wandb.init(**arguments, mode=cast(Literal["online", "offline"], mode))
    except wandb.Error as error:
        logger.warning("W&B cannot be used online (%s): this run is recorded offline.", str(error).splitlines()[0])
        os.environ["WANDB_MODE"] = "offline"
        wandb.teardown()  # the failed attempt still holds the run id
        return wandb.init(mode="offline", **arguments)


def has_account() -> bool:
    """Whether there are credentials for the server: WANDB_API_KEY, an identity token, or a line in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host in netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def _run_id(output_dir: Path) -> str:
    """A W&B sweep agent's id, else the one in the output folder, else a new one that is written there."""
    path = output_dir / "wandb" / "run-id.txt"
    run_id = os.environ.get("WANDB_RUN_ID") or (path.read_text().strip() if path.exists() else "")
    if not run_id:
        run_id = secrets.token_hex(4)
        ensure_folder(path.parent)
        path.write_text(run_id + "\n")
    return run_id


def _set_folders(output_dir: Path) -> list[str]:
    """Point W&B's folders below `output_dir` where the user has not set them; returns the variables that were set."""
    free = {variable: output_dir / folder for variable, folder in _FOLDERS.items() if variable not in os.environ}
    for variable, folder in free.items():
        os.environ[variable] = str(ensure_folder(folder))
    return list(free)


def _is_measured(key: str, entry: Plain) -> bool:
    """Numbers with a protocol; what a preset chose stands in the configuration."""
    value = entry["value"]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and bool(entry.get("protocol")) and not key.startswith("derived/")


def _result_cells(key: str, entry: Plain) -> list[Any]:
    low, high = entry.get("interval") or (None, None)
    low, high = (None, None) if low == high else (low, high)  # an interval without width says nothing
    info = [entry.get(name, "") for name in ("unit", "direction", "meaning")]
    return [key, float(entry["value"]), low, high, *info, json.dumps(to_json(entry["protocol"]))]


def _artifact(path: AnyPath | None, *, name: str, kind: str, metadata: Plain | None) -> wandb.Artifact:
    """The file or folder with its metadata. Of a data set only the metadata, with its fingerprint, is uploaded: one
    content, one version, wherever it lies, and the images stay where they are."""
    plain = to_json(metadata or {})
    origin = {} if path is None else {"path": str(path)}
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type=kind, metadata={**origin, **plain})
    if path is None or kind == "dataset":
        with artifact.new_file("metadata.json") as file:
            json.dump(plain, file, indent=2, sort_keys=True)
    elif Path(path).is_dir():
        artifact.add_dir(str(path))
    else:
        artifact.add_file(str(path))
    return artifact
