"""Compare six generators, from the first GAN to today's, on the same images.

    python -m experiments.studies.generators.study

trains every model of `MODELS` with its preset for the bundled cats on the same number of images, measures them in the
same way, and writes table.md, table.json and a grid of each into the output folder (README.md beside this file
explains the columns). Every step is a separate command that resumes where it stopped, and so does this script.
`--models` runs some of them, for several machines or cores; a last run without `--models` writes the table of all.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.run_command import run_command

ROOT = Path(__file__).resolve().parents[3]

# Name -> the preset, and the settings that depend on the length of the run, {kimg}.
MODELS: dict[str, tuple[str, list[str]]] = {
    "mlp_gan": ("mlp_gan_cats", []),
    "dcgan": ("dcgan_cats", []),
    "progan": ("progan_cats", []),
    "stylegan1": ("stylegan1_cats", []),
    "stylegan2": ("cats32_long", []),
    "r3gan": ("r3gan_cats", ["training.hparams.decay_kimg={kimg}"]),
}
METRICS = ("fd", "kd", "pr", "ppl_zfull")
KIMG = 40


def main() -> None:
    """Run missing steps, then write the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/study-generators"), help="default: %(default)s")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS), help="default: all, and the table")
    parser.add_argument("--kimg", type=float, default=KIMG, help="training images, in thousands (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=5000, help="generated images (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads of a training (default: torch's choice)")
    options = parser.parse_args()
    for command in commands(options.output, options.models, options.kimg, options.num_images, options.threads):
        run_command(command)
    if set(options.models) == set(MODELS):
        from experiments.studies.generators.speed import training_speed
        from experiments.studies.generators.tables import write_tables

        write_tables(options.output, training_speed({name: overrides(name, options.kimg) for name in MODELS}))
        print(f"Table and pictures: {options.output}")


def commands(
    output: Path, models: Sequence[str], kimg: float, num_images: int, threads: int | None = None
) -> Iterator[list[str]]:
    """Train and measure each model."""
    shared = ["tracking=local", "group=study-generators"]
    for name in models:
        folder = output / name
        limit = [] if threads is None else [f"trainer.threads={threads}"]
        yield ["train", *overrides(name, kimg), *limit, *shared, f"run_dir={folder}"]
        numbers = [f"metrics.{metric}.num_generated={num_images}" for metric in METRICS if metric != "ppl_zfull"]
        numbers += [f"metrics.pr.num_real={num_images}", f"metrics.ppl_zfull.num_samples={num_images}"]
        yield [
            "evaluate", f"checkpoint={folder}/model.safetensors", f"metrics=[{','.join(METRICS)}]",
            *numbers, *shared, f"run_dir={folder}/measured",
        ]  # fmt: skip


def overrides(name: str, kimg: float) -> list[str]:
    """Overrides of train.py's configuration: the model's preset for this many images."""
    preset, extra = MODELS[name]
    return [f"experiment={preset}", f"schedule.kimg={kimg:g}", *(item.format(kimg=f"{kimg:g}") for item in extra)]


if __name__ == "__main__":
    main()
