"""Does the monitor see a collapse, and stay silent where there is none? Three trainings from the same cats.

    python -m experiments.studies.collapse.study

continues training the bundled generator and discriminator three times, briefly: as they were trained (`healthy`),
with a generator that learns fast against a discriminator that hardly learns and sees images one by one (`collapse`),
and with few images and a discriminator without a penalty (`overfit`). It prints the monitor's messages and writes a
plot of its numbers beside the runs, in the output folder. Every run is a separate command that resumes where it
stopped, and so does this script.
"""

import argparse
import json
import math
from pathlib import Path

from experiments.run_command import run_command
from wplus.core.files import atomic_write
from wplus.inversion.report import COLOURS
from wplus.tracking.local import read_records, read_result

ROOT = Path(__file__).resolve().parents[3]
MODELS = [ROOT / "experiments" / "models" / f"{name}.safetensors" for name in ("cats32", "cats32_discriminator")]
RUNS = {
    "healthy": [],
    "collapse": [
        "training.hparams.lr_generator=0.01",
        "training.hparams.lr_discriminator=1.0e-5",
        "model.discriminator.mbstd_group_size=1",
    ],
    "overfit": [
        "data.num_images=200",
        "data.held_out_fraction=0.85",
        "training.hparams.gamma=0",
        "training.hparams.lr_discriminator=0.006",
    ],
}
KIMG = {"healthy": 1.024, "collapse": 1.28, "overfit": 1.088}  # long enough for each effect to show
PANELS = {
    "diversity of features": "diversity",
    "diversity of pixels": "pixels",
    "recall": "recall",
    "overfitting (r_v)": "r_v",
}


def main() -> None:
    """Run the missing trainings, print the messages and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/study-collapse"), help="default: %(default)s")
    parser.add_argument("--num-images", type=int, default=256, help="images of the monitor (default: %(default)s)")
    options = parser.parse_args()
    for name in RUNS:
        run_command(command(options.output, name, num_images=options.num_images))
    for name in RUNS:
        print(told(options.output / name))
    print(f"Numbers: {draw(options.output)}")


def command(output: Path, name: str, *, num_images: int) -> list[str]:
    """Command of one of the trainings."""
    return [
        "train",
        "experiment=cats32",
        f"transfer.checkpoint=[{','.join(map(str, MODELS))}]",
        "training.hparams.ema_kimg=0.1",  # short, so that failures show early
        *RUNS[name],
        "extractor=mobilenet_v2",  # not used to train the networks
        "probes=[monitor]",
        f"probes.monitor.num_images={num_images}",
        f"schedule.kimg={KIMG[name]}",
        "schedule.snapshot_kimg=0.256",
        "num_samples=32",
        "device=cpu",
        "trainer.threads=1",
        "tracking=local",
        "group=study-collapse",
        f"run_dir={output}/{name}",
    ]


def told(folder: Path) -> str:
    """Messages of the monitor about a run, and its health at the end."""
    health = read_result(folder)["values"]["probe/health"]["value"]
    said = [
        f"  at {row['progress/kimg']:g} kimg: {row['message']['text']}"
        for row in read_records(folder)
        if "message" in row
    ]
    return "\n".join([f"{folder.name}, at the end: {health}", *(said or ["  nothing was said"])])


def draw(output: Path) -> Path:
    """Plot the monitor's numbers over the runs, one panel each, with the bounds that it uses."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6 * len(PANELS), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, measure) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for colour, name in zip(COLOURS, RUNS, strict=False):
            kimg, values, errors = series(output / name, measure)
            axes.errorbar(kimg, values, bars(measure, values, errors), color=colour, label=name, capsize=2)
        axes.set(title=title, xlabel="kimg", ylim=(min(0.0, axes.get_ylim()[0]), None))
        axes.grid(alpha=0.25)
    figure.axes[0].legend()
    return atomic_write(output / "series.png", lambda file: figure.savefig(file, format="png", dpi=100))


def bars(measure: str, values: list[float], errors: list[float]) -> list[list[float]]:
    """Lower and upper lengths of error bars of three standard errors; shares are clipped to 0 and 1."""
    low, high = (0.0, 1.0) if measure == "recall" else (-math.inf, math.inf)
    below = [min(3 * error, value - low) for value, error in zip(values, errors, strict=True)]
    above = [min(3 * error, high - value) for value, error in zip(values, errors, strict=True)]
    return [below, above]


def series(folder: Path, measure: str) -> tuple[list[float], list[float], list[float]]:
    """kimg, values and standard errors of one of the monitor's measures, where it is available."""
    readings = json.loads((folder / "health.json").read_text())["readings"]
    rows = [(one["kimg"], one["measures"][measure]) for one in readings if measure in one["measures"]]
    return [kimg for kimg, _ in rows], [one["value"] for _, one in rows], [one["error"] for _, one in rows]


if __name__ == "__main__":
    main()
