"""Which way to invert is best for what? Held-out cats through every inverter, on the same images.

    python -m experiments.studies.inversion.study

inverts 100 held-out cats with every method in `METHODS`, applies the same edits to all results, inverts 30 of the
edited pictures again with the same method, and writes table.md, table.json and grid.png into the output folder
(README.md beside this file explains the columns). Every step is a command that works by itself and continues where
it was; so does this one.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from experiments.run_command import run_command

ROOT = Path(__file__).resolve().parents[3]
MODELS = ROOT / "experiments" / "models"
GENERATOR, E4E, REFINE = (MODELS / f"{name}.safetensors" for name in ("cats32", "cats32_e4e", "cats32_restyle"))

# Label -> checkpoint and what is chosen on invert.py's command line.
METHODS: dict[str, tuple[Path, list[str]]] = {
    "optimize, z": (GENERATOR, ["space=z"]),
    "optimize, w": (GENERATOR, ["space=w"]),
    "optimize, w+": (GENERATOR, ["space=w+"]),
    "encoder": (E4E, ["space=w+", "inverter=encoder"]),
    "restyle": (REFINE, ["space=w+", "inverter=restyle"]),
    "hybrid": (E4E, ["space=w+", "inverter=hybrid"]),
    "pti": (E4E, ["space=w", "inverter=pti", "inverter@inverter.pivot=encoder", "inverter.num_steps=200"]),
}
SHARED = [
    "input=held_out", "image_loss=[identity_effnet_lite0,ms_ssim]", "tracking=local", "group=study-inversion",
]  # fmt: skip


def main() -> None:
    """Run what is missing, then write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/study-inversion"), help="default: %(default)s")
    parser.add_argument("--num-images", type=int, default=100, help="held-out cats (default: %(default)s)")
    parser.add_argument("--num-edited", type=int, default=30, help="of these edited (default: %(default)s)")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--steps", type=int, default=1000, help="of optimize (default: %(default)s)")
    options = parser.parse_args()
    for command in commands(options.output, options.methods, options.num_images, options.steps):
        run_command(command)
    from experiments.studies.inversion.edits import edit_all, measure_edits
    from experiments.studies.inversion.tables import write_tables

    edit_all(options.output, options.methods, num=options.num_edited)
    for method in options.methods:
        run_command(again(options.output, method, options.steps))
    measure_edits(options.output, options.methods, num=options.num_edited)
    write_tables(options.output, options.methods)
    print(f"Tables and pictures: {options.output}")


def folder_name(method: str) -> str:
    """`optimize, w+` -> `optimize-w+`."""
    return method.replace(", ", "-")


def commands(output: Path, methods: list[str], num_images: int, steps: int) -> Iterator[list[str]]:
    """The inversions of all methods, and the directions that the edits take."""
    for method in methods:
        yield [*invert(method, steps), *SHARED, f"num_images={num_images}", f"run_dir={output}/{folder_name(method)}"]
    yield [
        "directions", f"checkpoint={GENERATOR}", "finder=pca", "tracking=local",
        f"run_dir={output}/directions",
    ]  # fmt: skip


def invert(method: str, steps: int) -> list[str]:
    """The command of a method without its input and its folder."""
    model, chosen = METHODS[method]
    extra = [f"inverter.num_steps={steps}"] if method.startswith("optimize") else []
    return ["invert", f"checkpoint={model}", *chosen, *extra]


def again(output: Path, method: str, steps: int) -> list[str]:
    """The same method on its own edited pictures."""
    shared = ["tracking=local", "group=study-inversion"]
    folders = [f"input={output}/edited/{folder_name(method)}", f"run_dir={output}/again/{folder_name(method)}"]
    return [*invert(method, steps), *shared, *folders]


if __name__ == "__main__":
    main()
