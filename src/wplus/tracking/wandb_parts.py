"""Maps parts of a run to its W&B folders: a resumed run has one folder per process.

Kept in `<output_dir>/wandb/parts.json`. Rows that the server has, or that were uploaded from a folder marked by
`wandb sync`, are not logged again; offline folders that were never uploaded are replaced by the newest one, which
contains the whole history.
"""

import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from wplus.core.files import atomic_write, ensure_folder, write_json


class Parts:
    """The folders of a run, by name; `own` is this process's, or None if W&B is disabled.

    Attributes:
        first_step: the first step that the server does not have.
    """

    def __init__(self, output_dir: Path, own: Path | None, *, online: bool, next_step: int) -> None:
        self.file = output_dir / "wandb" / "parts.json"
        self.root = None if own is None else own.parent
        self.name = "" if own is None else own.name
        its_id = run_id(output_dir)
        every = {**_unnoted(self.root, its_id), **_read(self.file)}
        # A W&B agent starts a new run for a finished folder, whose parts have its id in their names.
        self.known = {name: part for name, part in every.items() if not _is_of_another(name, its_id)}
        self._of_others = {name: part for name, part in every.items() if name not in self.known}
        uploaded = [1 + part["last_step"] for name, part in self.known.items() if self._is_uploaded(name)]
        self.first_step = max([next_step, *uploaded])
        self._own = {"online": online, "last_step": self.first_step - 1, "artifacts": []}
        if self.root is not None:
            self.known[self.name] = self._own
            self._write()

    def note_step(self, step: int) -> None:
        """Note that a row of this step has been logged."""
        if self._own["last_step"] != step:
            self._own["last_step"] = step
            self._write()

    def note_artifact(self, **entry: Any) -> None:
        """Note a logged artifact with everything needed to log it again; `files` are its copies by name."""
        self._own["artifacts"].append(entry)
        self._write()

    def replaced(self) -> list[str]:
        """The names of offline folders that were never uploaded, except this process's."""
        return [name for name in self.known if name != self.name and not self._is_uploaded(name)]

    def artifacts(self) -> list[dict[str, Any]]:
        """The artifacts of the `replaced` folders, in order, if their notes and copies are intact."""
        return [entry for name in self.replaced() for entry in self.known[name]["artifacts"] if _is_whole(entry)]

    def drop_replaced(self) -> None:
        """Delete the `replaced` folders: this process's folder contains everything in them."""
        if self.root is not None:
            for name in self.replaced():
                shutil.rmtree(self.root / name, ignore_errors=True)
                del self.known[name]
            self._write()

    def _is_uploaded(self, name: str) -> bool:
        """Whether a part was logged online, or was marked by `wandb sync`."""
        return self.known[name]["online"] or (self.root is not None and any((self.root / name).glob("*.wandb.synced")))

    def _write(self) -> None:
        if self.root is not None:
            write_json(self.file, {**self._of_others, **self.known})


def _is_of_another(name: str, its_id: str) -> bool:
    """Whether a folder has another run's id in its name, which may be followed by a number to make it unique."""
    time = re.match(r"(offline-)?run-\d+_\d+-", name)
    return time is not None and re.fullmatch(rf"{re.escape(its_id)}(-\d+)?", name[time.end() :]) is None


def run_id(output_dir: Path) -> str:
    """The run id: a W&B sweep agent's, else the one in the output folder, else a new one, which is written there.

    A damaged id file is repaired from the folder name of an earlier part.
    """
    path = output_dir / "wandb" / "run-id.txt"
    noted = path.read_text(errors="replace").strip() if path.exists() else ""
    names = os.listdir(path.parent) if path.parent.is_dir() else ()
    earlier = [match[1] for name in sorted(names) if (match := re.fullmatch(r"(?:offline-)?run-\d+_\d+-(.+)", name))]
    is_known = noted in earlier if earlier else noted != ""
    own = noted if is_known else next(iter(earlier), secrets.token_hex(4))
    found = os.environ.get("WANDB_RUN_ID") or own
    if found != noted:
        ensure_folder(path.parent)
        atomic_write(path, lambda file: file.write(f"{found}\n".encode()))
    return found


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The notes in the file, empty if it is damaged."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    shape = {"online": bool, "last_step": int, "artifacts": list}
    return {
        name: part for name, part in (found.items() if isinstance(found, dict) else ())
        if isinstance(part, dict) and all(isinstance(part.get(key), kind) for key, kind in shape.items())
    }  # fmt: skip


def _is_whole(entry: object) -> bool:
    """Whether the note of an artifact has everything needed to log it again."""
    shape = {"step": int, "files": dict, "aliases": list, "name": str, "kind": str}
    if not isinstance(entry, dict) or entry.keys() != {*shape, "metadata"}:
        return False
    typed = all(isinstance(entry[key], kind) for key, kind in shape.items())
    return typed and all(isinstance(file, str) and Path(file).is_file() for file in entry["files"].values())


def _unnoted(root: Path | None, its_id: str) -> dict[str, dict[str, Any]]:
    """Offline folders of the run that exist without a note: none may be uploaded in addition to ours."""
    found = () if root is None else root.glob(f"offline-run-*-{its_id}")
    return {folder.name: {"online": False, "last_step": -1, "artifacts": []} for folder in sorted(found)}
