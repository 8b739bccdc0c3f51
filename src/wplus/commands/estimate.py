"""Estimate time, memory and disk space of a training, by measuring a few of its steps and one of its snapshots."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import program
from wplus.errors import Interrupted, OneLineParser, UserError

if TYPE_CHECKING:
    from wplus.core.runtime import Runtime
    from wplus.training.build import Training

MIB = 2**20
PERIOD = 16  # number of steps in which every lazy regulariser runs at least once
ABOUT = """\
The arguments are those of the command, as in

    wplus estimate train experiment=cats32 data=folder data.path=my/images

The complete training runs for --seconds in a temporary folder, from scratch; no run is recorded.
"""


@dataclass
class Measured:
    """Measurements of a few steps and snapshots of a training."""

    steps: list[tuple[int, float]] = field(default_factory=list)  # (images seen, seconds in steps) after each step
    snapshots: list[float] = field(default_factory=list)  # seconds each
    start: float = 0.0  # seconds to read and build everything
    memory_gib: float = 0.0
    checkpoint: int = 0  # bytes
    model: int = 0
    num_models: int = 2  # the last one, and the best if training selects one
    pictures: int = 0  # bytes of one snapshot's pictures
    what: str = ""

    @property
    def seconds_per_image(self) -> float:
        """Averaged over whole periods of the regularisers, without the first step, which includes warm-up."""
        num = (len(self.steps) - 1) // PERIOD * PERIOD or len(self.steps) - 1
        (first, began), (last, ended) = self.steps[-1 - num], self.steps[-1]
        return (ended - began) / (last - first)


@program
def estimate(arguments: Sequence[str]) -> int:
    """Estimate a training's time, memory and disk space from a few seconds of it: estimate train KEY=VALUE ..."""
    parser = OneLineParser(prog="wplus estimate", description=ABOUT,
                           formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("verb", choices=["train"], help="the command")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="its arguments")
    parser.add_argument("--seconds", type=float, default=20.0, help="of training to measure (default: %(default)g)")
    given = parser.parse_intermixed_args(arguments)
    try:
        if not 0 < given.seconds < 1e6:
            raise UserError(f"--seconds must be above 0, got {given.seconds:g}.")
        cfg = configuration(given.overrides)
        print("\n".join(report(measure(cfg, given.seconds), cfg["schedule"])))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def configuration(overrides: Sequence[str]) -> dict[str, Any]:
    """The training's configuration."""
    from wplus.commands.compose import Composer, choices_kept
    from wplus.commands.shapes import shaped
    from wplus.config import checked

    with choices_kept():
        return shaped(checked(Composer().config("train", overrides)), "train")


def measure(cfg: Mapping[str, Any], seconds: float) -> Measured:
    """Train for a few seconds in a temporary folder, with a snapshot before and after."""
    from wplus.commands.train import chosen_training, sizes
    from wplus.core.memory import peak_gib
    from wplus.core.runtime import Runtime

    found, began = Measured(), time.monotonic()
    runtime = Runtime.prepare(cfg["device"], **{**cfg["trainer"], "devices": 1, "num_nodes": 1})
    training = chosen_training(dict(cfg), runtime)
    training.module.prepare(runtime)
    found.start = time.monotonic() - began
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        received = run(cfg, training, runtime, found, folder=folder, seconds=seconds)
        if received is not None:
            raise Interrupted(received)
        found.checkpoint = max(file.stat().st_size for file in folder.glob("checkpoints/*.ckpt"))
        found.model = (folder / "model.safetensors").stat().st_size
        found.num_models = len(list(folder.glob("*.safetensors")))
        written = (file.stat().st_size for file in folder.glob("samples/*") if file.is_file())
        found.pictures = sum(written) // max(1, len(found.snapshots))
    found.memory_gib, found.what = peak_gib(runtime.device), sizes(training)
    return found


def run(
    cfg: Mapping[str, Any], training: Training, runtime: Runtime, found: Measured, *, folder: Path, seconds: float
) -> int | None:
    """Train for some seconds, timing steps and snapshots; returns the signal that interrupted it, if any."""
    from wplus.commands.train import image_place
    from wplus.tracking import Tracker
    from wplus.training.best import Best
    from wplus.training.loop import Schedule, fit
    from wplus.training.snapshot import Exporter

    module, data, tracker = training.module, training.data, Tracker()
    batches = training.batches(data, module.batch_size, seed=cfg["seed"], mirror=cfg["mirror"], world_size=1,
                               rank=0, start_nimg=lambda: module.images_seen, device=runtime.device,
                               place=image_place(training, runtime))  # fmt: skip
    write = Exporter(folder, tracker, training.view, data=data.describe(), seed=cfg["seed"],
                     best=Best(folder, cfg["objective"]))  # fmt: skip

    def export(*arguments: Any, **options: Any) -> None:
        since = time.monotonic()
        write(*arguments, **options)
        found.snapshots.append(time.monotonic() - since)

    def note() -> str:  # called by the progress bar after every step
        found.steps.append((module.images_seen, module.seconds))
        return ""

    schedule = Schedule(kimg=None, minutes=seconds / 60, log_kimg=1e6, snapshot_kimg=1e6)
    return fit(module, batches, schedule=schedule, runtime=runtime, output_dir=folder, tracker=tracker, export=export,
               note=note)  # fmt: skip


def report(found: Measured, asked: Mapping[str, Any]) -> list[str]:
    """The lines to print."""
    from wplus.core.progress import duration

    if len(found.steps) < 2:
        raise UserError("Fewer than two steps were done in that time: give more, as in --seconds 120.")
    rate = found.seconds_per_image
    limits = [asked["kimg"] or float("inf"), (asked["minutes"] or float("inf")) * 0.06 / rate]
    kimg = min(limits)
    num = int(kimg // asked["snapshot_kimg"]) + 2  # one before the first step, one at the end
    each = found.snapshots[-1]
    num_checkpoints = min(asked["keep_checkpoints"] + 1, num - 1)  # an old one is deleted once a new one is written
    training, looking = kimg * 1000 * rate, num * each
    bytes_in_all = found.checkpoint * num_checkpoints + found.num_models * found.model + num * found.pictures
    measured = f"measured over {len(found.steps) - 1} steps"
    few = f"; fewer than {PERIOD} miss regularisers, give more --seconds" if len(found.steps) <= PERIOD else ""
    return [
        f"training  {found.what}, {kimg:.4g} kimg",
        f"time      {duration(found.start + training + looking)}: {duration(training)} of steps at {1 / rate:.3g} "
        f"images/s ({measured}{few}), {num} snapshots of {each:.1f} s",
        f"memory    {found.memory_gib:.2f} GiB at the peak, with torch itself",
        f"disk      {bytes_in_all / MIB:.0f} MiB: {num_checkpoints} checkpoint(s) of {found.checkpoint / MIB:.0f} MiB, "
        f"{found.num_models} model(s) of {found.model / MIB:.0f} MiB, pictures of {num * found.pictures / MIB:.0f} MiB",
    ]
