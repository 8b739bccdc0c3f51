"""The whole way in one command: `make demo`, or `python experiments/demo.py [--output runs/demo] [--model FILE]`.

Trains a small StyleGAN2 on the bundled cats, inverts held-out cats into z, w and w+, films the way between two of
them, measures the generator, and writes report.html. Ten minutes on two CPU cores are too short to train a cat worth
inverting, so the inversion half uses a generator that the same code trained for longer
(experiments/models/cats32.safetensors, see the README beside it); `--model` takes another. Interrupted, the same
command goes on where it was.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "experiments" / "models" / "cats32.safetensors"
SPACES = ("z", "w", "w+")
DATA = "data.num_images=10000"
# What a newcomer should know of each part of the page.
WORDS = {
    "train": "A generator learns to draw images from random codes, the latents, against a discriminator that tells its "
    "pictures from real ones. The samples always come from the same latents, drawn by the generator's moving average.",
    "invert": "Cats that the generator has not seen in training, and the closest it can draw. z is its input, one "
    "vector; w is z after the mapping network; w+ gives every layer a w of its own: more freedom, closer pictures, and "
    "a latent that is further from what the generator was trained on.",
    "interpolate": "From one inverted cat to another. A flat line of distances is an even path, a peak is a jump.",
    "evaluate": "A number means little without the way it was measured: open its protocol before comparing it.",
}


def main() -> None:
    """Run the steps one after the other; a step that fails ends the demo with its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="folder of everything (default: %(default)s)"
    )
    parser.add_argument(
        "--model", type=Path, default=BUNDLED, help="generator to invert with (default: the bundled one)"
    )
    parser.add_argument(
        "--kimg", type=float, default=16.384, help="thousands of images to train on (default: %(default)s)"
    )
    parser.add_argument(
        "--steps", type=int, default=300, help="optimisation steps of an inversion (default: %(default)s)"
    )
    options = parser.parse_args()
    start = time.monotonic()
    write_about(options.output, options.model)
    for title, command in steps(options.output, options.model, options.kimg, options.steps):
        print(f"\n--- {title} ({time.monotonic() - start:.0f} s)\n{shlex.join(['wplus', *command])}", flush=True)
        status = subprocess.run([sys.executable, "-m", "wplus", *command], cwd=ROOT, env=environment()).returncode
        if status:
            sys.exit(status)
    page = (ROOT / options.output / "report.html").resolve()
    print(f"\nDone in {time.monotonic() - start:.0f} s. Open this page in a browser:\n{page}")


def steps(output: Path, model: Path, kimg: float, num_steps: int) -> Iterator[tuple[str, list[str]]]:
    """(title, command) of every step, in order; each command works by itself, too."""
    common = [f"checkpoint={model}", "group=demo"]
    yield "Train a small StyleGAN2", training(output, kimg)
    for space in SPACES:
        yield f"Invert held-out cats into {space}", [
            "invert", *common, DATA, "input=held_out", "num_images=8", f"space={space}",
            f"inverter.num_steps={num_steps}", f"run_dir={output}/invert/{space}",
        ]  # fmt: skip
    first, second = sorted((ROOT / output / "invert" / "w" / "latents").glob("*.safetensors"))[:2]
    yield "Film the way between two of them", [
        "interpolate", *common, f"inputs=[{first},{second}]", "path=lerp", f"run_dir={output}/interpolate",
    ]  # fmt: skip
    yield "Measure the generator", measuring(output, common)
    yield "Write the report", ["report", f"folder={output}"]


def training(output: Path, kimg: float) -> list[str]:
    """The generator's training, with looks that take little time."""
    return [
        "train", "experiment=cats32", "group=demo", DATA, f"schedule.kimg={kimg}",
        "probes=[style_mixing,truncation,noise_map,logits]", f"run_dir={output}/train",
    ]  # fmt: skip


def measuring(output: Path, common: list[str]) -> list[str]:
    """Fréchet distance, by a net that has not taught the bundled generator, and path lengths, on few images."""
    kinds = ("wend", "wfull", "zend", "zfull")
    return [
        "evaluate", *common, DATA, f"metrics=[fd,{','.join(f'ppl_{kind}' for kind in kinds)}]",
        "extractor=mobilenet_v2", "metrics.fd.num_generated=2500", "metrics.fd.num_real=2500",
        *(f"metrics.ppl_{kind}.num_samples=500" for kind in kinds), f"run_dir={output}/evaluate",
    ]  # fmt: skip


def write_about(output: Path, model: Path) -> None:
    """What the report says first: where the two generators come from."""
    bundled = (
        "Ten minutes on two CPU cores are too short to train a cat worth inverting: the inversions, the film and the "
        "numbers below are those of a generator that the same code trained for longer and that comes with the project: "
        "experiments/models/README.md has the command."
    )
    text = ["Painted cats at 32 px, on a CPU. A small StyleGAN2 is trained from nothing, in a few minutes."]
    text.append(
        bundled if model == BUNDLED else f"The inversions, the film and the numbers below are those of {model}."
    )
    folder = ROOT / output
    folder.mkdir(parents=True, exist_ok=True)
    about = {"title": "The whole way, on cats", "text": text, "command": "make demo", "parts": WORDS}
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def environment() -> dict[str, str]:
    """The environment of the steps: this project's own, whatever else is on the path."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


if __name__ == "__main__":
    main()
