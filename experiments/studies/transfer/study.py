"""Train on 400 cats of another domain: from scratch, from trained networks, with frozen discriminator layers.

    python -m experiments.studies.transfer.study

trains the cats32 preset in each way on the same few images and for the same number of images, measures the kernel
distance to 3,389 other cats of that domain, and writes table.md into the output folder (README.md beside this file has
the answer). Every step is a separate command that resumes where it stopped, and so does this script.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from experiments.run_command import run_command
from wplus.pretrained.seen import SUFFIX

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "experiments" / "models"
SOURCE, CRITIC = MODELS / "cats32.safetensors", MODELS / "cats32_discriminator.safetensors"

# Loud backgrounds, cats of varying position and size, none mirrored; the networks were trained on calm, centred ones.
DOMAIN = ["data.background=1.0", "data.shift=0.1", "data.scale=0.3", "data.flip=0"]
FEW, MANY = ["data.num_images=400", "data.seed=1"], ["data.num_images=4000", "data.seed=2"]
START = [f"transfer.checkpoint=[{SOURCE},{CRITIC}]"]
ARMS: dict[str, list[str]] = {  # name -> its initialisation
    "scratch": [],
    "generator": [f"transfer.checkpoint={SOURCE}"],
    "both": START,
    "frozen": [*START, "transfer.freeze_discriminator=4"],  # the block at 32 px
}
KIMG = 2.0
EMA_KIMG = 0.5  # half-life of the average in all of them; the preset's 10 kimg exceed the length of the run


def main() -> None:
    """Run missing steps, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/study-transfer"), help="default: %(default)s")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS), help="default: all")
    parser.add_argument("--kimg", type=float, default=KIMG, help="training images, in thousands (default: %(default)s)")
    options = parser.parse_args()
    for name in options.arms:
        run_command(train(name, options.output, options.kimg))
    measured = {
        "as it was": SOURCE,
        **{name: options.output / name / "model.safetensors" for name in options.arms},
    }
    for name, model in measured.items():
        run_command(measure(model, folder(options.output, name)))
    table = write_table(options.output, list(measured))
    print(f"\n{table.read_text()}\nTable: {table}")


def train(name: str, output: Path, kimg: float) -> list[str]:
    """Command of a training on the few images, with one initialisation."""
    return [
        "train", "experiment=cats32", *DOMAIN, *FEW, *ARMS[name], f"training.hparams.ema_kimg={EMA_KIMG}",
        f"schedule.kimg={kimg:g}", f"schedule.snapshot_kimg={kimg / 2:g}", "probes=[]", "tracking=local",
        "group=study-transfer", f"run_dir={output}/{name}",
    ]  # fmt: skip


def measure(model: Path, output: Path) -> list[str]:
    """Command of the evaluation against many cats of the domain that no run has seen."""
    return [
        "evaluate", f"checkpoint={model}", "metrics=[kd]", "metrics.kd.num_generated=2000", *DOMAIN, *MANY,
        "tracking=local", "group=study-transfer", f"run_dir={output}",
    ]  # fmt: skip


def folder(output: Path, name: str) -> Path:
    """Folder with the numbers of a row."""
    return output / "measured" / name.replace(" ", "_")


def write_table(output: Path, names: Sequence[str]) -> Path:
    """Make a table of kernel distances, times 1000 as in papers, with intervals; marked if training used the net."""
    lines = ["| start | kernel distance x 1000 (effnet_lite0) | 95 % interval |", "|---|---|---|"]
    for name in names:
        values = json.loads((folder(output, name) / "result.json").read_text())["values"]
        key = next(key for key in values if key.removesuffix(SUFFIX) == "evaluate/kd_effnet_lite0")
        value, mark = values[key], " (seen)" if key.endswith(SUFFIX) else ""
        low, high = value["interval"]
        lines.append(f"| {name}{mark} | {1000 * value['value']:.1f} | {1000 * low:.1f} to {1000 * high:.1f} |")
    path = output / "table.md"
    path.write_text("\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    main()
