"""Draw the curves of the study over minutes of training, and print what each method has reached at some of them.

    python -m experiments.studies.convergence.curves runs/sweeps/convergence

Measurements of a run are connected linearly. A method's row has the mean over its seeds, then their minimum and
maximum: three seeds are too few for an interval.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from experiments.run_command import finished, run_script
from experiments.studies.spaces.tables import markdown
from wplus.core.files import atomic_write
from wplus.sweeps.labels import Point
from wplus.tracking.local import read_records

NUMBERS = {  # name -> title, number format
    "val/fd_mobilenet_v2": ("Fréchet distance", ".0f"),
    "val/precision_mobilenet_v2": ("precision", ".3f"),
    "val/recall_mobilenet_v2": ("recall", ".3f"),
}
MINUTES, KIMG = "progress/minutes", "progress/kimg"
MOMENTS = (1.0, 2.0, 5.0, 10.0)
Curve = tuple[np.ndarray, np.ndarray]
"""Minutes (n,) and values (n,) of one run."""


def main() -> None:
    """Read the sweep, write curves.png, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("curves.png"), help="beside this file")
    options = parser.parse_args()
    runs: dict[str, list[Path]] = {}
    for job, run in finished(options.folder):
        if job.stage.verb == "train":
            runs.setdefault(name_of(job.point), []).append(run)
    for number, (title, form) in NUMBERS.items():
        found = {name: [curve(folder, number) for folder in folders] for name, folders in runs.items()}
        print(f"## {title}\n\n{table(found, form)}\n")
    print(drawn(runs, options.output))


def name_of(point: Point) -> str:
    """Name a method by its overrides: "aided, anchor pairs"."""
    chosen = [str(point[key]) for key in ("model", "discriminator") if key in point]
    heads = {key.rpartition(".")[2]: value for key, value in point.items() if key.startswith("discriminator.heads.")}
    anchor = [f"anchor {point['anchor']}"] if "anchor" in point else []
    return ", ".join([*chosen, *(f"{key} {value}" for key, value in heads.items()), *anchor])


def curve(folder: Path, number: str) -> Curve:
    """Curves of one run; a measurement takes its time from the row of its number of images, or the last before."""
    clock, minutes, values = 0.0, [], []
    for row in read_records(folder):
        clock = row.get(MINUTES, clock)
        if number in row:
            minutes.append(clock if row[KIMG] else 0.0)
            values.append(float(row[number]))
    return np.array(minutes), np.array(values)


def table(found: Mapping[str, Sequence[Curve]], form: str) -> str:
    """Markdown table of each method's values after some minutes."""
    return markdown({name: {f"{moment:g} min": cell(curves, moment, form) for moment in MOMENTS}
                     for name, curves in found.items()}, first="method")  # fmt: skip


def cell(curves: Sequence[Curve], moment: float, form: str) -> str:
    """Mean and range over the seeds that got this far; a run ends some seconds into its last minute."""
    reached = [np.interp(moment, *each) for each in curves if len(each[0]) and each[0][-1] >= 0.95 * moment]
    if not reached:
        return ""
    return f"{np.mean(reached):{form}} ({min(reached):{form}} to {max(reached):{form}})"


def drawn(runs: Mapping[str, Sequence[Path]], path: Path) -> Path:
    """Draw a panel for each number, with a thin line for each run and a colour for each method."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for axes, (number, (title, _)) in zip(figure.subplots(1, len(NUMBERS)), NUMBERS.items(), strict=True):
        for index, (name, folders) in enumerate(runs.items()):
            for turn, folder in enumerate(folders):
                axes.plot(*curve(folder, number), color=colours[index % 10], lw=1.2, label=name if not turn else None)
        axes.set(title=title, xlabel="minutes of one thread")
        axes.grid(alpha=0.3)
        if number.startswith("val/fd"):
            axes.set_yscale("log")
            axes.legend(fontsize=8)
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110))


if __name__ == "__main__":
    run_script(main)
