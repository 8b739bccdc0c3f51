"""The whole pipeline in one command, on painted cats: train, invert, interpolate, evaluate, and write a report."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from wplus.commands.entry import program
from wplus.config import bundled_model
from wplus.errors import OneLineParser

ABOUT = """\
Trains a small StyleGAN2 on painted cats from scratch, inverts held-out cats into its z, w and w+, interpolates between
two of them, evaluates it, and writes report.html. --model uses another generator for all steps but the training.
If interrupted, the same command continues where it stopped.
"""
SPACES = ("z", "w", "w+")
DATA = "data.num_images=10000"
# What a newcomer should know about each part of the page.
WORDS = {
    "train": "A generator learns to draw images from random codes, the latents. At first it reconstructs images from "
    "an encoder's codes; then it is trained against a discriminator, and against heads on the features of a network "
    "trained on photographs. The samples always use the same latents and the moving average of the generator's "
    "weights.",
    "invert": "Cats that the generator has not seen in training, and the closest it can draw. z is its input, one "
    "vector; w is z after the mapping network; w+ gives every layer a w of its own: more freedom, closer pictures, and "
    "a latent that is further from what the generator was trained on.",
    "interpolate": "From one inverted cat to another. A flat line of distances is an even path, a peak is a jump.",
    "evaluate": "A number means little unless you know how it was measured: open its protocol before comparing it.",
}


@program
def demo(arguments: Sequence[str]) -> int:
    """Run the pipeline on painted cats: train, invert, interpolate, evaluate, report; at most ten minutes on a CPU."""
    parser = OneLineParser(prog="wplus demo", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="runs/demo", help="folder for all results (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=7.0, help="training time; cats appear after about three (default: %(default)s)"
    )
    parser.add_argument("--model", help="generator to invert with, such as cats32 (default: the one just trained)")
    parser.add_argument("--steps", type=int, default=300, help="steps per inversion (default: %(default)s)")
    options = parser.parse_args(arguments)
    start, output = time.monotonic(), Path(options.output)
    write_about(output, options.model)
    for title, command in steps(output, options.model, options.minutes, options.steps):
        print(f"\n--- {title} ({time.monotonic() - start:.0f} s)\n{shlex.join(['wplus', *command])}", flush=True)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        status = subprocess.run([sys.executable, "-m", "wplus", *command], env=environment).returncode
        if status:
            return status
    page = (output / "report.html").resolve()
    print(f"\nDone in {time.monotonic() - start:.0f} s. Open this page in a browser:\n{page}")
    return 0


def steps(output: Path, model: str | None, minutes: float, num_steps: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (title, command) of every step, in order; each command also works on its own."""
    common = [f"checkpoint={chosen(output, model)}", "group=demo"]
    yield "Train a small StyleGAN2", training(output, minutes)
    for space in SPACES:
        yield f"Invert held-out cats into {space}", [
            "invert", *common, DATA, "input=held_out", "num_images=8", f"space={space}",
            f"inverter.num_steps={num_steps}", f"run_dir={output}/invert/{space}",
        ]  # fmt: skip
    first, second = sorted((output / "invert" / "w" / "latents").glob("*.safetensors"))[:2]
    yield "Interpolate between two of them", [
        "interpolate", *common, f"inputs=[{first},{second}]", "path=lerp", f"run_dir={output}/interpolate",
    ]  # fmt: skip
    yield "Evaluate the generator", measuring(output, common)
    yield "Write the report", ["report", f"folder={output}"]


def chosen(output: Path, model: str | None) -> Path | str:
    """The checkpoint that is inverted and evaluated."""
    if model is None:
        return output / "train" / "model.safetensors"
    return bundled_model(model) if "/" not in model and "." not in model else model


def training(output: Path, minutes: float) -> list[str]:
    """The training command, with cheap snapshots."""
    return [
        "train", "experiment=cats32_minutes", "group=demo", DATA, f"schedule.minutes={minutes:g}",
        "probes=[style_mixing,truncation,noise_map,logits]", f"run_dir={output}/train",
    ]  # fmt: skip


def measuring(output: Path, common: list[str]) -> list[str]:
    """The evaluation command: path lengths and Fréchet distance on few images, with a net not used in training if one
    is available."""
    kinds = ("wend", "wfull", "zend", "zfull")
    return [
        "evaluate", *common, DATA, f"metrics=[fd,{','.join(f'ppl_{kind}' for kind in kinds)}]",
        f"extractor={judge()}", "metrics.fd.num_generated=2500", "metrics.fd.num_real=2500",
        *(f"metrics.ppl_{kind}.num_samples=500" for kind in kinds), f"run_dir={output}/evaluate",
    ]  # fmt: skip


def judge() -> str:
    """MobileNetV2 if its weights package is installed, as by `make`; else the bundled net."""
    from wplus.errors import UserError
    from wplus.pretrained.mobilenet_v2 import MobileNetV2Features

    try:
        MobileNetV2Features()
    except UserError:
        return "effnet_lite0"
    return "mobilenet_v2"


def write_about(output: Path, model: str | None) -> None:
    """Write the report's introduction: what was trained, and which generator the inversions belong to."""
    from wplus.core.files import write_json

    text = ["Painted cats at 32 px, on a CPU. A small StyleGAN2 is trained from scratch, in a few minutes."]
    owner = "this generator" if model is None else f"{model}, which was trained before"
    text.append(f"The inversions, the video and the metrics below are those of {owner}.")
    about = {"title": "The whole pipeline, on cats", "text": text, "command": "wplus demo", "parts": WORDS}
    write_json(output / "about.json", about)
