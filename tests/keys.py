"""The keys that a command has logged, and those that violate the naming scheme."""

import json
import re
from pathlib import Path

from wplus.tracking.local import read_records
from wplus.tracking.tracker import KEYS, KIMG


def logged_keys(folder: Path) -> set[str]:
    """Everything that a run has logged, by name."""
    found = json.loads((folder / "result.json").read_text())
    parts = (*(found.get(part, {}) for part in ("values", "files", "info", "methods")), *read_records(folder))
    return {key for part in parts for key in part} - {"time", "message", KIMG}


def strange_keys(folder: Path) -> set[str]:
    """Keys that are not AREA/NUMBER or AREA/PART/NUMBER, as `wplus.tracking.tracker.KEYS` requires.

    A number of an attribute may end with it, as in `balanced_accuracy_third=1`.
    """
    command = json.loads((folder / "result.json").read_text())["job_type"]
    areas = "|".join(KEYS.get(command, [command]))
    return {
        key for key in logged_keys(folder) if not re.fullmatch(rf"({areas})/[a-z0-9_]+(/[a-z0-9_]+)?([!=<>]+\w+)?", key)
    }
