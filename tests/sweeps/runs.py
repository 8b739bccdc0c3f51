"""Folders of finished runs, as commands leave them."""

import json
from pathlib import Path
from typing import Any

PSNR, FD = "invert/psnr_db", "evaluate/fd"
INFO = {
    PSNR: {"meaning": "How close.", "unit": "dB", "direction": "higher"},
    FD: {"meaning": "How far from real images.", "unit": "", "direction": "lower"},
}


def write_run(
    folder: Path, values: dict[str, float], *, images: list[float] = (), status: str = "finished",
    command: str = "invert", **asked: Any,
) -> None:  # fmt: skip
    """Write a run with the configuration `asked`; `images` are the per-image values of the first number."""
    folder.mkdir(parents=True)
    question = {"checkpoint": "content abc", "inverter._target_": "wplus.inversion.x", **asked}
    (folder / "run.json").write_text(json.dumps({"kind": command, "digest": "0", "question": question}))
    entries = {name: {"value": value, **INFO.get(name, {})} for name, value in values.items()}
    entries |= {"derived/x": {"value": 3.0}, "probe/health": {"value": "fine"}}
    (folder / "result.json").write_text(json.dumps({"status": status, "values": entries, "seconds": 3.0}))
    if images:
        rows = {f"{index}": {next(iter(values)).rpartition("/")[2]: value} for index, value in enumerate(images)}
        (folder / "table.json").write_text(json.dumps({"rows": rows}))
