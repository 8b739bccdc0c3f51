"""Which stretch of a run lies in which of its W&B folders: a run that was continued has one for every process.

Kept in `<output_dir>/wandb/parts.json`. What the server has, or will be sent from a folder that `wandb sync` has
marked, is not logged again; offline folders that nobody has uploaded are replaced by the newest one, which holds the
whole history.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from wplus.core.files import write_json


class Parts:
    """The folders of a run, by name; `own` is that of this process, None where W&B is disabled.

    Attributes:
        first_step: the first step that the server does not have.
    """

    def __init__(self, output_dir: Path, own: Path | None, *, online: bool, next_step: int) -> None:
        self.file = output_dir / "wandb" / "parts.json"
        self.root = None if own is None else own.parent
        self.name = "" if own is None else own.name
        self.known: dict[str, dict[str, Any]] = _read(self.file)
        uploaded = [1 + part["last_step"] for name, part in self.known.items() if self._is_uploaded(name)]
        self.first_step = max([next_step, *uploaded])
        self._own = {"online": online, "last_step": self.first_step - 1, "artifacts": []}
        if self.root is not None:
            self.known[self.name] = self._own
            self._write()

    def note_step(self, step: int) -> None:
        """A row of this step has been logged."""
        if self._own["last_step"] != step:
            self._own["last_step"] = step
            self._write()

    def note_artifact(self, **entry: Any) -> None:
        """An artifact has been logged: what is needed to log it again, `files` are its copies by name."""
        self._own["artifacts"].append(entry)
        self._write()

    def replaced(self) -> list[str]:
        """The names of offline folders that nobody has uploaded, but for that of this process."""
        return [name for name in self.known if name != self.name and not self._is_uploaded(name)]

    def artifacts(self) -> list[dict[str, Any]]:
        """Those of `replaced`, in order."""
        return [entry for name in self.replaced() for entry in self.known[name]["artifacts"]]

    def drop_replaced(self) -> None:
        """Delete them: the folder of this process has all that they had."""
        if self.root is not None:
            for name in self.replaced():
                shutil.rmtree(self.root / name, ignore_errors=True)
                del self.known[name]
            self._write()

    def _is_uploaded(self, name: str) -> bool:
        """Online, or marked by `wandb sync`."""
        return self.known[name]["online"] or (self.root is not None and any((self.root / name).glob("*.wandb.synced")))

    def _write(self) -> None:
        if self.root is not None:
            write_json(self.file, self.known)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
