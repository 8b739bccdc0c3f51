"""Draw samples of each class by each generator of the study, row by row.

    python -m experiments.studies.augmentation.samples runs/sweeps/augmentation

draws digits.png beside this file; `--output` names another picture, for another sweep.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

import wplus
from experiments.run_command import finished, run_script
from wplus.core.files import atomic_write
from wplus.core.images import captioned_rows
from wplus.latents.labels import labels_in_turn
from wplus.models.generator import GeneratorNetwork
from wplus.sweeps.labels import SEED

NUM_ROWS = 3


def main() -> None:
    """Read the sweep, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("digits.png"), help="beside this file")
    options = parser.parse_args()
    print(drawn(trained(options.folder), options.output))


def trained(folder: Path) -> dict[str, Path]:
    """What varies -> the model of seed 0."""
    return {
        " ".join(str(value) for key, value in job.point.items() if key != SEED): run / "model.safetensors"
        for job, run in finished(folder)
        if job.stage.verb == "train" and job.point.get(SEED, 0) == 0
    }


def drawn(models: Mapping[str, Path], path: Path) -> Path:
    """Draw rows with an image of each class, under the names of their generators."""
    rows, titles = [], []
    for name, file in models.items():
        generator = wplus.load(file, needs=["generator"]).generator
        every = [(image, str(number % generator.c_dim)) for number, image in enumerate(each_class(generator))]
        rows += [every[start : start + generator.c_dim] for start in range(0, len(every), generator.c_dim)]
        titles += [name, *[""] * (NUM_ROWS - 1)]
    picture = captioned_rows(rows, titles, min_px=64)
    return atomic_write(path, lambda file: picture.save(file, format="png"))


@torch.no_grad()
def each_class(generator: GeneratorNetwork) -> torch.Tensor:
    """Images (NUM_ROWS x classes, C, R, R) in [-1, 1] of the classes in turn, from fixed latents."""
    z = torch.randn(NUM_ROWS * generator.c_dim, generator.z_dim, generator=torch.Generator().manual_seed(0))
    return generator(z, labels_in_turn(generator, len(z), each_class=True))


if __name__ == "__main__":
    run_script(main)
