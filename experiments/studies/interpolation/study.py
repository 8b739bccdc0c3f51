"""Which way from one picture to another is best? 200 pairs of held-out cats, every method on every pair.

    python -m experiments.studies.interpolation.study

inverts both images of every pair into z, w and w+, makes every path in `METHODS` between them, measures them all
(README.md beside this file explains the numbers), and leaves tables, plots and a picture of every pair in the output
folder. `--ends encoder` or `--ends hybrid` take the end points of w+ from the encoder instead. Every step is a command
that works by itself and continues where it was; so does this one.
"""

import argparse
from pathlib import Path

from experiments.run_command import run_command

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "experiments" / "models"
GENERATOR, E4E, DISCRIMINATOR = (MODELS / f"{name}.safetensors" for name in
                                 ("cats32", "cats32_e4e", "cats32_discriminator"))  # fmt: skip
PAIRS = ROOT / "experiments" / "pairs" / "cats32_held_out.json"

METHODS = {
    "z": ("slerp", "slerp+arc_length"),
    "w": ("lerp", "lerp+arc_length", "slerp_centered", "pn", "geodesic"),
    "w+": ("lerp", "lerp+arc_length", "pn", "coarse_first", "fine_first", "geodesic", "geodesic+arc_length"),
}
GEODESIC_STEPS = 50  # half of the default, which takes twice as long and shortens the way by 7 to 14 % more
ENDS = ("quick", "encoder", "hybrid")


def main() -> None:
    """Run the command, or say which it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/study-interpolation"), help="default: %(default)s")
    parser.add_argument("--ends", choices=ENDS, default="quick", help="inverter of the end points (default: quick)")
    parser.add_argument("--num-pairs", type=int, help="draw so few pairs instead of the fixed list, for a look")
    options = parser.parse_args()
    run_command(command(options.output, ends=options.ends, num_pairs=options.num_pairs))
    print(f"Tables and pictures: {options.output / options.ends / 'interpolation'}")


def methods(ends: str) -> list[str]:
    """SPACE_PATH of all methods; the encoder and what starts from it find codes of w+ only."""
    spaces = METHODS if ends == "quick" else {"w+": METHODS["w+"]}
    return [f"{space}_{path}" for space, paths in spaces.items() for path in paths]


def command(output: Path, *, ends: str, num_pairs: int | None) -> list[str]:
    """The comparison with end points from one inverter."""
    metric = "metrics.interpolation"
    used = list(dict.fromkeys(name.partition("_")[2].removesuffix("+arc_length") for name in methods(ends)))
    return [
        "evaluate",
        f"checkpoint={GENERATOR if ends == 'quick' else E4E}",
        "metrics=[interpolation]",
        f"path@{metric}.paths=[{','.join(used)}]",
        f"retime@{metric}.retime=[none,arc_length]",
        f"{metric}.paths.geodesic.num_steps={GEODESIC_STEPS}",
        f"inverter@{metric}.inverter={ends}",
        f"{metric}.methods=[{','.join(methods(ends))}]",
        f"{metric}.baseline={'w' if ends == 'quick' else 'w+'}_lerp",
        f"{metric}.path_metrics.symmetry.share=0.1",
        *([f"{metric}.discriminator={DISCRIMINATOR}"] if DISCRIMINATOR.is_file() else []),
        *([f"{metric}.pairs={PAIRS}"] if num_pairs is None else [f"{metric}.num_pairs={num_pairs}"]),
        "tracking=local",
        "group=study-interpolation",
        f"run_dir={output}/{ends}",
    ]


if __name__ == "__main__":
    main()
