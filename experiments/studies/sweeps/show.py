"""Reproduce the README beside this file: sweeps that are killed, launched again, confirmed and searched.

    python -m experiments.studies.sweeps.show perceptual_weight short_trainings searches

Runs in the working directory and prints each command and its output, without that of single runs.
"""

import argparse
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Lines printed by a sweep, not by its jobs.
_OF_SWEEPS = re.compile(
    r"\[\d+/\d+\] |  (best|failed|missing|and up)|    \S+, |runs/sweeps/|Interrupted|Cannot|\d+ queued|  \w+-\d{3}"
)
SMALL = {
    "perceptual_weight": ["num_images=4", "inverter.num_steps=25", "tracking=local"],
    "short_trainings": ["schedule.kimg=0.256", "schedule.log_kimg=0.064", "schedule.snapshot_kimg=0.128",
                        "data.num_images=2000", "num_samples=16", "tracking=local"],
}  # fmt: skip
_TINY = ["experiment=cats32", "debug=quick", "data.num_images=600", "schedule.snapshot_kimg=0.064", "probes=[fd]",
         "num_samples=4"]  # fmt: skip
_CATS = ["checkpoint=${bundled_model:cats32.safetensors}", "input=held_out", "data.num_images=600", "num_images=4"]


def wplus(*arguments: str, all_words: bool = False, until: str | None = None, end: int = signal.SIGKILL) -> int:
    """Run a command and print its output; with `until`, send the signal `end` a second after a line that begins so."""
    print(f"\n$ {shlex.join(['wplus', *arguments])}", flush=True)
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "wplus", *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True,
                               preexec_fn=heed_ctrl_c)  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if all_words or _OF_SWEEPS.match(line):
            print(line.rstrip(), flush=True)
        if until is not None and line.startswith(until):
            time.sleep(1)
            process.send_signal(end)
            until = None
    status = process.wait()
    print(f"-> exit status {status}, {time.monotonic() - began:.1f} s", flush=True)
    return status


def heed_ctrl_c() -> None:
    """Restore the default SIGINT handler: a shell's background jobs ignore it, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def file_in_the_way(sweep: str, job: str, *overrides: str) -> Iterator[None]:
    """Place a file where the run folder of a job would be, so that it fails."""
    plan = subprocess.run([sys.executable, "-m", "wplus", "sweep", "run", sweep, *overrides, "--dry"],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    (row,) = [line for line in plan.splitlines() if line.strip().startswith(job)]
    path = Path(row.split()[-1])
    path.parent.mkdir(exist_ok=True)
    path.touch()
    yield
    path.unlink()


def perceptual_weight() -> None:
    """Run 24 inversions, killed, killed, interrupted, with a job that fails; then the winner on fresh seeds."""
    name, folder = "perceptual_weight", "runs/sweeps/perceptual_weight"
    run = ("sweep", "run", name, *SMALL[name])
    wplus(*run, "--dry")
    with file_in_the_way(name, "invert-017", *SMALL[name]):
        wplus(*run, until="[4/24]")
        wplus(*run, until="[17/24] invert-017")
        wplus(*run, until="[18/24]", end=signal.SIGINT)
        wplus(*run)
    wplus("sweep", "retry", folder)
    wplus(*run)
    wplus("sweep", "table", folder, "--output", "table.csv", "table.md", "table.json", "table.parquet", all_words=True)
    wplus("sweep", "table", folder, "--confirm", "1", all_words=True)
    wplus("sweep", "report", folder, all_words=True)


def short_trainings() -> None:
    """Run six trainings, killed and interrupted, with a job that fails."""
    name, folder = "short_trainings", "runs/sweeps/short_trainings"
    run = ("sweep", "run", name, *SMALL[name])
    with file_in_the_way(name, "train-005", *SMALL[name]):
        wplus(*run, until="[1/6]")
        wplus(*run, until="[3/6]", end=signal.SIGINT)
        wplus(*run)
    wplus("sweep", "retry", folder)
    wplus("sweep", "table", folder, all_words=True)


def searches() -> None:
    """Run two searches: one over tiny trainings that stops bad trials early, one with two objectives."""
    rate = ("train", "-m", *_TINY, "schedule.kimg=0.512", "training.hparams.lr_generator=tag(log,interval(0.0001,0.1))",
            "objective=val/fd_effnet_lite0", "search.trials=10", "search.pruner=median", "sweep=rate",
            "tracking=local")  # fmt: skip
    wplus(*rate, until="[4/10]", end=signal.SIGINT)
    wplus(*rate)
    both = ("invert", "-m", *_CATS, "space=w,w+", "inverter.num_steps=range(5,30,5)",
            "inverter.loss_weights.perceptual=tag(log,interval(0.01,10))",
            "objective=[invert/psnr_db,invert/prior_distance]", "search.trials=12", "search.sampler=nsgaii",
            "sweep=trade", "tracking=local")  # fmt: skip
    wplus(*both)
    wplus("sweep", "table", "runs/sweeps/trade", "--sort", "invert/psnr_db", all_words=True)


PARTS = {"perceptual_weight": perceptual_weight, "short_trainings": short_trainings, "searches": searches}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    for part in parser.parse_args().parts:
        PARTS[part]()
