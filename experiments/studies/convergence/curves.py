"""Draw the curves of the study over minutes of training, and print what each method has reached at some of them.

    python -m experiments.studies.convergence.curves runs/sweeps/convergence runs/sweeps/r3gan runs/sweeps/finals

Machines differ threefold, so the tables are also in multiples of the time in which StyleGAN2 alone sees 10,000 images
in the same sweep, and in thousands of images. Measurements of a run are connected linearly. A method's row has the mean
over its seeds, then their minimum and maximum: three seeds are too few for an interval.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from experiments.run_command import finished, run_script
from experiments.studies.generators.tables import samples
from experiments.studies.spaces.tables import markdown
from wplus.core.files import atomic_write
from wplus.core.images import captioned_rows, save_png
from wplus.sweeps.labels import Point
from wplus.tracking.local import read_records

NUMBERS = {  # name -> title, number format
    "val/fd_mobilenet_v2": ("Fréchet distance", ".0f"),
    "val/precision_mobilenet_v2": ("precision", ".3f"),
    "val/recall_mobilenet_v2": ("recall", ".3f"),
}
MINUTES, KIMG = "progress/minutes", "progress/kimg"
MOMENTS = {  # axis -> where the tables read the curves
    "min": (1.0, 2.0, 4.0, 8.0, 12.0),
    "times StyleGAN2's 10,000 images": (0.5, 1.0, 2.0, 4.0),
    "thousand images": (5.0, 10.0, 20.0, 30.0),
}
UNIT_KIMG = 10.0
BASELINE = "StyleGAN2 alone"
TITLES = {  # of the sweep's methods
    "own": BASELINE,
    "aided": "heads beside pixels",
    "aided, anchor pairs": "reconstructions, then heads",
    "aided, weight 0.5, hold_kimg 10, fade_kimg 20, floor 0.05": "heads that fade",
    "projected": "features alone",
    "san": "SAN",
    "r3gan_cats": "R3GAN",
}
Curve = tuple[np.ndarray, np.ndarray]
"""Moments (n,) on one of the axes, and values (n,), of one run."""


def main() -> None:
    """Read the sweeps, write curves.png and samples.png, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="of a sweep")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("curves.png"), help="beside this file")
    options = parser.parse_args()
    runs = trained(options.folders)
    unit = minutes_of_unit(runs.get(BASELINE, ()))
    is_known = not np.isnan(unit)
    print(f"{BASELINE} sees {UNIT_KIMG:g},000 images in {unit:.2f} minutes.\n" if is_known else "")
    axes = {axis: moments for axis, moments in MOMENTS.items() if is_known or not axis.startswith("times")}
    for number, (title, form) in NUMBERS.items():
        for axis, moments in axes.items():
            found = {name: [on_axis(folder, number, axis, unit) for folder in each] for name, each in runs.items()}
            print(f"## {title}, after {axis}\n\n{table(found, moments, form)}\n")
    print(drawn(runs, options.output))
    print(sampled(runs, options.output.with_name("samples.png")))


def trained(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Folders of each method's runs; a run that several sweeps share counts once."""
    runs: dict[str, list[Path]] = {}
    for job, run in (pair for folder in folders for pair in finished(folder)):
        known = runs.setdefault(name_of(job.point), [])
        if job.stage.verb == "train" and run not in known:
            known.append(run)
    return runs


def name_of(point: Point) -> str:
    """The title of a method; of one without a title, its overrides: "aided, weight 0.5"."""
    chosen = [str(point[key]) for key in ("experiment", "discriminator") if key in point]
    heads = {key.rpartition(".")[2]: value for key, value in point.items() if key.startswith("discriminator.heads.")}
    anchor = [f"anchor {point['anchor']}"] if "anchor" in point else []
    name = ", ".join([*chosen, *(f"{key} {value}" for key, value in heads.items()), *anchor])
    return TITLES.get(name, name)


def minutes_of_unit(folders: Sequence[Path]) -> float:
    """Minutes until `UNIT_KIMG`, the mean over the baseline's runs; NaN without one that got so far."""
    clocks = [[(row[KIMG], row[MINUTES]) for row in read_records(folder) if MINUTES in row] for folder in folders]
    reached = [np.interp(UNIT_KIMG, *zip(*clock, strict=True)) for clock in clocks if clock[-1][0] >= UNIT_KIMG]
    return float(np.mean(reached)) if reached else float("nan")


def curve(folder: Path, number: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minutes, thousands of images and values of one run, (n,) each.

    A measurement takes its time from the row of its number of images, or the last before.
    """
    clock, points = 0.0, []
    for row in read_records(folder):
        clock = row.get(MINUTES, clock)
        if number in row:
            points.append((clock if row[KIMG] else 0.0, row[KIMG], float(row[number])))
    minutes, kimg, values = np.array(points, dtype=float).reshape(-1, 3).T
    return minutes, kimg, values


def on_axis(folder: Path, number: str, axis: str, unit: float) -> Curve:
    """Curve of one run over one of the axes of `MOMENTS`, where `unit` is in minutes."""
    minutes, kimg, values = curve(folder, number)
    first, second, _ = MOMENTS
    return {first: minutes, second: minutes / unit}.get(axis, kimg), values


def table(found: Mapping[str, Sequence[Curve]], moments: Sequence[float], form: str) -> str:
    """Markdown table of each method's values at some moments."""
    return markdown({name: {f"{moment:g}": cell(curves, moment, form) for moment in moments}
                     for name, curves in found.items()}, first="method")  # fmt: skip


def cell(curves: Sequence[Curve], moment: float, form: str) -> str:
    """Mean and range over the seeds that got this far; a run ends some seconds into its last minute."""
    reached = [np.interp(moment, *each) for each in curves if len(each[0]) and each[0][-1] >= 0.95 * moment]
    if not reached:
        return ""
    values = f"{np.mean(reached):{form}}"
    return values if len(reached) == 1 else f"{values} ({min(reached):{form}} to {max(reached):{form}})"


def drawn(runs: Mapping[str, Sequence[Path]], path: Path) -> Path:
    """Draw a panel for each number, with a thin line for each run and a colour for each method."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for axes, (number, (title, _)) in zip(figure.subplots(1, len(NUMBERS)), NUMBERS.items(), strict=True):
        for index, (name, folders) in enumerate(runs.items()):
            for turn, folder in enumerate(folders):
                minutes, _, values = curve(folder, number)
                axes.plot(minutes, values, color=colours[index % 10], lw=1.2, label=name if not turn else None)
        axes.set(title=title, xlabel="minutes of one thread")
        axes.grid(alpha=0.3)
        if number.startswith("val/fd"):
            axes.set_yscale("log")
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110))


def sampled(runs: Mapping[str, Sequence[Path]], path: Path) -> Path:
    """Draw a row of samples for the first run of each method, from the same latents where they have equally many."""
    rows = [[(image, "") for image in samples(folders[0] / "model.safetensors")] for folders in runs.values()]
    return save_png(path, captioned_rows(rows, list(runs), min_px=64))


if __name__ == "__main__":
    run_script(main)
