"""Measure the cost of opening a page in a freshly started headless Chromium, and of scrolling to its end.

    python -m experiments.benchmarks.page runs/sweeps/sweep/report.html
    python -m experiments.benchmarks.page                # a made-up sweep of a hundred runs with pictures and videos

Prints processor and wall seconds of the browser until the page's script has finished and everything in view is drawn,
and then until the rest has been scrolled through and drawn. Limits are 25 MB and 3 seconds to open.
"""

import argparse
import runpy
import struct
import sys
import tempfile
import time
from pathlib import Path

from experiments.browser import Browser, browser
from experiments.run_command import ROOT
from wplus.report.page import write_report

MAX_MB, MAX_SECONDS = 25.0, 3.0
_STEP = 700  # pixels
_TOLD = {"ScriptDuration": "script", "LayoutDuration": "layout", "RecalcStyleDuration": "style"}
_IN_SIGHT = """[...document.querySelectorAll("[data-chart]")].filter((chart) => {
  const box = chart.getBoundingClientRect();
  return box.height > 0 && box.bottom > 0 && box.top < innerHeight;
}).every((chart) => chart.querySelector(".main-svg"))"""
_SHOWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def hundred(folder: Path) -> Path:
    """Write a page of 100 runs: two spaces, ten weights, five seeds; four pictures and a video each."""
    made = runpy.run_path(str(ROOT / "tests/report/fake_runs.py"))  # by its path: other packages are called tests, too
    moving = made["film"](folder / "film.mp4", side=64, frames=30, noise=True).read_bytes()
    spec = made["invert_spec"](weights=[0.01 * 2**power for power in range(10)], seeds=5)
    sweep = made["write_sweep"](folder / "sweep", spec, images=4, size=64, film=moving, noise=True)
    for number, path in enumerate(sorted(folder.glob("runs/*/inversion.mp4"))):
        path.write_bytes(moving + struct.pack(">I4sI", 12, b"free", number))  # an unused box makes each video different
    return write_report(sweep)


def opened(page: Path) -> dict[str, float]:
    """Processor and wall seconds of a fresh browser opening a page, its main thread's work, and scrolling down."""
    with browser() as tab:
        before, began = tab.processor_seconds(), time.perf_counter()
        tab.open(page)
        tab.wait(_IN_SIGHT)
        tab.run(_SHOWN)
        found = {"clock": time.perf_counter() - began, "processor": tab.processor_seconds() - before}
        metrics = {each["name"]: each["value"] for each in tab.send("Performance.getMetrics")["metrics"]}
        found |= {word: metrics[name] for name, word in _TOLD.items()}
        before, began = tab.processor_seconds(), time.perf_counter()
        _read(tab)
        found |= {"read clock": time.perf_counter() - began, "read processor": tab.processor_seconds() - before}
        if tab.errors or tab.requests:
            raise SystemExit(f"The page complains: {[*tab.errors, *tab.requests]}")
    return found


def _read(tab: Browser) -> None:
    """Scroll to the end, with collapsible parts collapsed."""
    place = 0
    while place < tab.run("document.documentElement.scrollHeight"):
        tab.run(f"window.scrollTo(0, {place})")
        tab.run(_SHOWN)
        tab.wait(_IN_SIGHT)
        place += _STEP


def main(arguments: list[str] | None = None) -> int:
    """Print the figures; return 1 if one is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, nargs="?", help="page of `wplus report` or `wplus sweep report`")
    parser.add_argument("--times", type=int, default=3, help="fresh browsers (default: %(default)s)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        page = options.page or hundred(Path(folder))
        size = page.stat().st_size / 1e6
        print(f"{page.name}, {size:.1f} MB")
        rows = [opened(page) for _ in range(options.times)]
    for name in rows[0]:
        print(f"  {name:<15} {', '.join(f'{row[name]:.2f}' for row in rows)} s")
    return int(size > MAX_MB or min(row["processor"] for row in rows) > MAX_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
