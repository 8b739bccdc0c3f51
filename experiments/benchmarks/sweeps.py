"""Measure a sweep's overhead: launching, skipping and collecting finished jobs, and each job in one process.

    python experiments/benchmarks/sweeps.py
    python experiments/benchmarks/sweeps.py --jobs 200

The finished jobs are inversions with a made-up record; the jobs in one process are reports of runs without numbers.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from wplus.commands.compose import Composer
from wplus.core.claim import question
from wplus.core.sweep import sweep
from wplus.sweeps.spec import Spec

SPEC = {
    "verb": "invert",
    "overrides": ["checkpoint=model.safetensors", "input=held_out", "tracking=local"],
    "axes": {"space": ["w", "w+"], "inverter.loss_weights.perceptual": [0.1, 0.3, 1.0, 3.0, 10.0]},
}
LIMITS = {"first": 20.0, "again": 5.0, "table": 20.0, "gib": 1.0, "job": 0.3}


def write_runs(spec: Spec) -> None:
    """Write a made-up finished run for every job."""
    composer = Composer()
    with sweep(Path("runs/sweeps") / spec.name, list(spec.jobs()[0].point)):
        for number, job in enumerate(spec.jobs()):
            overrides = job.overrides({})
            _, run_dir, claim = composer.asked(job.stage.verb, overrides)
            config = composer.config(job.stage.verb, overrides) | {"run_dir": run_dir}
            folder = Path(run_dir)
            folder.mkdir(parents=True)
            asked = {"kind": "invert", "digest": claim, "question": question(config)}
            (folder / "run.json").write_text(json.dumps(asked))
            value = {"value": 20 + number % 7, "unit": "dB", "direction": "higher", "meaning": "Made up.",
                     "interval": [19.0, 28.0], "protocol": {"num_images": 16}}  # fmt: skip
            values = {f"invert/{name}": value for name in ("psnr_db", "l2", "ssim", "effnet_lite0", "seconds")}
            result = {"job_type": "invert", "status": "finished", "seconds": 12.5, "values": values, "config": config}
            (folder / "result.json").write_text(json.dumps(result))


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds and GiB of a command in its own process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "wplus", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"'{' '.join(arguments)}' failed.")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def seconds_per_job(number: int = 20) -> float:
    """Overhead of a job in one process: reports of small runs, minus the same reports without a sweep."""
    from wplus.__main__ import main
    from wplus.report.page import write_report

    folders = [f"run{index}" for index in range(number)]
    for folder in folders:
        Path(folder).mkdir()
        Path(folder, "result.json").write_text(json.dumps({"status": "finished", "config": {"seed": 0}, "values": {}}))
    with contextlib.redirect_stdout(io.StringIO()):
        write_report(folders[0], None)
        started = time.perf_counter()
        for folder in folders:
            write_report(folder, None)
        alone = time.perf_counter() - started
        main(["report", "-m", "folder=run0"])  # pays for imports
        started = time.perf_counter()
        main(["report", "-m", f"folder={','.join(folders)}", "sweep=reports"])
        return (time.perf_counter() - started - alone) / number


def main(arguments: list[str] | None = None) -> int:
    """Print the figures beside their limits; return 1 if one is above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    options = parser.parse_args(arguments)
    seeds = max(1, options.jobs // 10)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("thousand.yaml").write_text(json.dumps(SPEC | {"seeds": seeds}))
            write_runs(Spec.of(SPEC | {"seeds": seeds}, name="thousand"))
            first, gib = measured("sweep", "run", "thousand.yaml")
            again, more = measured("sweep", "run", "thousand.yaml")
            table, most = measured("sweep", "table", "runs/sweeps/thousand")
            found = {"first": first, "again": again, "table": table, "gib": max(gib, more, most)}
            found["job"] = seconds_per_job()
        finally:
            os.chdir(before)
    words = {
        "first": "s to launch and skip finished jobs", "again": "s to launch again with nothing to do",
        "table": "s to collect them into a table", "gib": "GiB at most", "job": "s a job in one process",
    }  # fmt: skip
    print(f"{10 * seeds} finished jobs:")
    for name, value in found.items():
        print(f"  {value:6.2f} {words[name]} (limit {LIMITS[name]:g})")
    is_within = first + table < LIMITS["first"] and all(value < LIMITS[name] for name, value in found.items())
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
