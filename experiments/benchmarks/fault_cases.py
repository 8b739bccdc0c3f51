"""The commands that `faults.py` attacks, and the parts of their results that must be reproduced bit by bit."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from wplus.core.files import sha256
from wplus.tracking.local import read_records, read_result

MODEL = "checkpoint=experiments/models/cats32.safetensors"
DATA = ["data=cats", "data.num_images=400", "data.resolution=32"]
VARYING = ("progress/", "train/kimg")  # speed, memory


@dataclass(frozen=True)
class Case:
    """A command, and how to read its result from its files."""

    arguments: Sequence[str]
    results: Callable[[Path], dict[str, Any]]
    """Name -> what must be equal, from a folder of the finished command."""
    folders: Sequence[str] = (".",)
    """For a sweep, the folders of its jobs."""


def weights(folder: Path) -> dict[str, Any]:
    """Hash everything that a training has learned, its best snapshot, and every row of numbers in its log.

    Pictures are left out: an interrupted run shows where it was interrupted.
    """
    files = sorted(folder.glob("model*.safetensors"))
    found: dict[str, Any] = {f"{path.stem} {name}": _digest(tensor)
                             for path in files for name, tensor in load_file(path).items()}  # fmt: skip
    rows = [{key: value for key, value in row.items() if key != "time" and not key.startswith(VARYING)}
            for row in read_records(folder) if any(key.startswith("train/") for key in row)]  # fmt: skip
    return found | {f"row {index}": row for index, row in enumerate(rows)}


def uploaded(folder: Path) -> dict[str, Any]:
    """Like `weights`, plus every row of the training that a W&B sync would upload, from all offline parts.

    W&B's service may still be writing after the command has ended.
    """
    rows: list[dict[str, Any]] = []
    for _ in range(100):
        before, rows = rows, [row for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")) for row in _rows(path)]
        if rows and rows == before:
            break
        time.sleep(0.1)
    return weights(folder) | {f"uploaded {index}": row for index, row in enumerate(rows)}


def _rows(path: Path) -> list[dict[str, Any]]:
    spec = importlib.util.find_spec("wandb")
    assert spec is not None
    core = Path(str(spec.origin)).parent / "bin" / "wandb-core"
    command = [str(core), "leet", "inspect", "--json", "--no-observability", "--run-file", str(path)]
    lines = map(json.loads, subprocess.run(command, capture_output=True, text=True).stdout.splitlines())
    items = [line["history"]["item"] for line in lines if line["type"] == "history"]
    kept = [{key: value for key, value in item.items() if key == "_step" or key.startswith("train/")} for item in items]
    return [row for row in kept if len(row) > 1]


def latents(folder: Path) -> dict[str, Any]:
    """Latents and reconstructions of an inversion."""
    files = [*folder.glob("latents/**/*.safetensors"), *folder.glob("images/**/*.png")]
    return {path.relative_to(folder).as_posix(): _content(path) for path in sorted(files)} | values(folder)


def values(folder: Path) -> dict[str, Any]:
    """Every number of the result except times."""
    entries = read_result(folder).get("values", {})
    return {name: entry["value"] for name, entry in entries.items() if "seconds" not in name}


def pictures(folder: Path) -> dict[str, Any]:
    """Pictures and numbers of an interpolation."""
    return {path.name: sha256(path) for path in sorted(folder.glob("*.png"))} | values(folder)


def _digest(tensor: torch.Tensor) -> str:
    content = tensor.contiguous().numpy().tobytes()
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()[:16]}"


def _content(path: Path) -> str:
    if path.suffix != ".safetensors":
        return sha256(path)
    return " ".join(f"{name} {_digest(tensor)}" for name, tensor in sorted(load_file(path).items()))


QUICK = ["debug=quick", "data.num_images=200", "schedule.kimg=0.48", "schedule.log_kimg=0.048",
         "schedule.snapshot_kimg=0.096", "num_samples=8", "probes=[]"]  # fmt: skip
ENCODER = ["experiment=e4e_cats", "debug=quick_encoder", MODEL, "data.num_images=200", "schedule.kimg=0.128",
           "schedule.log_kimg=0.016", "schedule.snapshot_kimg=0.032", "num_samples=4"]  # fmt: skip
CASES = {
    "train": Case(["train", *QUICK], weights),
    "encoder": Case(["train", *ENCODER], weights),
    "tracked": Case(["train", *QUICK, "tracking=wandb"], uploaded),
    "invert": Case(["invert", MODEL, *DATA, "input=held_out", "num_images=6", "batch_size=1", "space=w",
                    "inverter.num_steps=10", "tracking=local"], latents),
    "interpolate": Case(["interpolate", MODEL, "inputs=[seed:1,seed:2,seed:3]", "path=[lerp,slerp]", "space=z",
                         "num_frames=12", "tracking=local"], pictures),
    "evaluate": Case(["evaluate", MODEL, *DATA, "metrics=[fd,ppl_wend]", "metrics.fd.num_generated=100",
                      "metrics.fd.num_real=100", "metrics.ppl_wend.num_samples=32", "tracking=local"], values),
    "sweep": Case(["train", "-m", *QUICK, "schedule.kimg=0.192", "seed=0,1", "retry=true"], weights, ("0", "1")),
}  # fmt: skip
