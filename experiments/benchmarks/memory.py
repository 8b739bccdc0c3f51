"""Measure memory growth: the slope of resident memory over a long training and over many inversions.

    python experiments/benchmarks/memory.py [--steps 2000] [--inversions 500]

Prints the resident memory (MiB) during the run, and its least-squares slope over the last three quarters with the
standard error: a leak of one float32 image of 32 px (12 KiB) a step would be 12 MiB per 1000 steps.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import linregress

from wplus.__main__ import main as wplus_main
from wplus.inversion.folder import InversionFolder
from wplus.training.gan import GanModule

ROOT = Path(__file__).resolve().parents[2]
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    """Current resident memory of this process; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


class Gauge:
    """Records the resident memory whenever a method is called."""

    def __init__(self, owner: type, method: str) -> None:
        self.seen: list[float] = []
        inner = getattr(owner, method)

        def watched(instance: Any, *values: Any, **options: Any) -> Any:
            self.seen.append(resident_mib())
            return inner(instance, *values, **options)

        setattr(owner, method, watched)

    def report(self, what: str) -> float:
        """Print some readings and the slope per thousand calls, and return the slope."""
        seen = np.array(self.seen)
        start = len(seen) // 4
        line = linregress(np.arange(start, len(seen)), seen[start:])
        shown = ", ".join(f"{seen[index]:.0f}" for index in np.linspace(0, len(seen) - 1, 9).astype(int))
        print(f"{what}: {len(seen)} calls, MiB {shown}")
        print(f"  slope {1000 * line.slope:+.2f} ± {1000 * line.stderr:.2f} MiB per 1000", flush=True)
        return 1000 * line.slope


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure training and inversion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of a training (default: %(default)d)")
    parser.add_argument("--inversions", type=int, default=500, help="images (default: %(default)d)")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    torch.set_num_threads(1)
    steps, images = Gauge(GanModule, "update"), Gauge(InversionFolder, "save")
    with tempfile.TemporaryDirectory() as folder:
        kimg = options.steps * 16 / 1000
        wplus_main(["train", "debug=quick", f"schedule.kimg={kimg}", "schedule.snapshot_kimg=1.6", "probes=[]",
                    "num_samples=8", f"run_dir={folder}/train"])  # fmt: skip
        wplus_main(["invert", "checkpoint=experiments/models/cats32.safetensors", "data=cats",
                    f"data.num_images={12 * options.inversions}", "input=held_out", f"num_images={options.inversions}",
                    "inverter.num_steps=5", "batch_size=4", "tracking=local", f"run_dir={folder}/invert"])  # fmt: skip
    steps.report("Training, a step a call")
    images.report("Inversion, an image a call")


if __name__ == "__main__":
    main()
