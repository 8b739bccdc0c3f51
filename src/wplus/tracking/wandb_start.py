"""Starts a Weights & Biases run: location of its files, its name, online or offline mode.

Runs are online with an account, and offline without one or if the server cannot be reached, which is never an error.
`WANDB_MODE` (online, offline, disabled) takes precedence if set, and so do WANDB_PROJECT, _ENTITY, _NAME, _RUN_GROUP,
_JOB_TYPE, _NOTES, _TAGS and _RUN_ID, which W&B's agents and users set. Offline runs are in
`<output_dir>/wandb/offline-run-*`: upload them later with `wandb sync`, or view them in the terminal with `wandb leet`.
"""

import logging
import netrc
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import wandb

from wplus.core.files import ensure_folder
from wplus.errors import UserError
from wplus.tracking.local import to_json
from wplus.tracking.tracker import Run
from wplus.tracking.wandb_keys import swept_key
from wplus.tracking.wandb_parts import run_id

logger = logging.getLogger(__name__)

# Inside the output folder, so that media that W&B references move with the run; the user's settings are kept.
_FOLDERS = {
    "WANDB_DIR": ".",
    "WANDB_DATA_DIR": "wandb/data",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
}
_SAID = {
    "project": "WANDB_PROJECT", "entity": "WANDB_ENTITY", "name": "WANDB_NAME", "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE", "notes": "WANDB_NOTES", "tags": "WANDB_TAGS",
}  # fmt: skip
_MAX_TAG = 64  # characters; W&B refuses longer ones
_RECENT_S = 3600


def start(run: Run, *, project: str, entity: str | None) -> wandb.Run:
    """Start or resume the run; it becomes an offline run if the server rejects it or cannot be reached.

    So do other runs of the same sweep that start within an hour of such a run, to wait for the server only once.
    """
    arguments: dict[str, Any] = {
        "resume": "allow",
        **_identity(run, project=project, entity=entity),
        "config": to_json({**run.config, **{swept_key(key): value for key, value in run.swept.items()}}),
        "allow_val_change": True,
        "dir": os.environ["WANDB_DIR"],
        "reinit": "create_new",  # several runs in one process: a sweep's jobs, the demo
        "settings": wandb.Settings(console="wrap", silent=True, init_timeout=20),
    }
    mode = os.environ.get("WANDB_MODE") or ("online" if has_account() else "offline")
    unreachable = None if run.sweep_dir is None or "WANDB_MODE" in os.environ else run.sweep_dir / ".wandb-unreachable"
    if unreachable is not None and _is_recent(unreachable):
        unreachable.touch()
        mode = "offline"
    try:
        return _init(arguments, mode)
    except wandb.Error as error:
        logger.warning("W&B cannot be used online (%s): this run is recorded offline.", str(error).splitlines()[0])
        if unreachable is not None:
            ensure_folder(unreachable.parent)
            unreachable.touch()
        wandb.teardown()  # the failed attempt still holds the run id
        return _init(arguments, "offline")


def _init(arguments: Mapping[str, Any], mode: str) -> wandb.Run:
    """Start the run; UserError for settings that W&B accepts neither online nor offline: a mode, a URL, a name."""
    try:
        return wandb.init(**arguments, mode=cast(Literal["online", "offline"], mode))
    except ValueError as error:
        raise UserError(_refused(error)) from error
    except wandb.Error as error:
        if mode != "offline":
            raise
        raise UserError(_refused(error)) from error


def _refused(error: Exception) -> str:
    details = error.errors()[0] if hasattr(error, "errors") else {}
    setting = "".join(f" {part}={details.get('input')!r}:" for part in details.get("loc", ())[:1])
    reason = str(details.get("msg") or error).splitlines()[0].rstrip(".")
    return f"W&B refuses a setting of this run, see the variables WANDB_... and tracking:{setting} {reason}."


def _identity(run: Run, *, project: str, entity: str | None) -> dict[str, Any]:
    """The run's name and location in W&B; environment variables take precedence over the configuration.

    They are passed explicitly, since W&B reads the environment only once per process.
    """
    found = {
        "project": project, "entity": entity, "id": run_id(run.output_dir), "name": run.name, "group": run.group,
        "job_type": run.job_type, "notes": run.notes, "tags": [tag[:_MAX_TAG] for tag in run.tags],
    }  # fmt: skip
    said = {key: os.environ[variable] for key, variable in _SAID.items() if os.environ.get(variable)}
    found |= said | ({"tags": said["tags"].split(",")} if "tags" in said else {})
    # Under a sweep agent W&B takes these three from the environment, and warns about explicit ones.
    agents = ("project", "entity", "id") if os.environ.get("WANDB_SWEEP_ID") else ()
    return {key: value for key, value in found.items() if key not in agents}


def _is_recent(marker: Path) -> bool:
    return marker.is_file() and time.time() - marker.stat().st_mtime < _RECENT_S


def has_account() -> bool:
    """Whether there are credentials for the server: WANDB_API_KEY, an identity token, or a line in the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return host in netrc.netrc(os.environ.get("NETRC")).hosts
    except (OSError, netrc.NetrcParseError):
        return False


def set_folders(output_dir: Path) -> list[str]:
    """Set W&B's folders to be inside `output_dir` unless the user has set them; returns the variables that were set."""
    free = {variable: output_dir / folder for variable, folder in _FOLDERS.items() if variable not in os.environ}
    for variable, folder in free.items():
        os.environ[variable] = str(ensure_folder(folder))
    return list(free)
