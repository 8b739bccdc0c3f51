"""The tables and the picture of the study: each generator after equal seconds and after equal images.

    python -m experiments.studies.generators.tables runs/sweeps/generators

prints Markdown and writes samples.png beside this file. A cell has the mean over the seeds, then the least and the
greatest of them. Differences from StyleGAN2 are paired: an image's number is its mean over the seeds.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

import wplus
from experiments.run_command import finished, run_script
from experiments.studies.encoder_losses.tables import cell, over_seeds
from experiments.studies.spaces.tables import by_image, markdown, told, values
from wplus.core.files import atomic_write
from wplus.core.images import captioned_rows
from wplus.core.paired import paired_tests
from wplus.data import read_image
from wplus.errors import UserError
from wplus.sweeps.labels import SEED, Point

COLUMNS = {  # full name -> heading, number format
    "train/kimg": ("thousand images", ".0f"),
    "train/minutes": ("minutes", ".1f"),
    "evaluate/fd_mobilenet_v2": ("fd_mobilenet_v2", ".0f"),
    "evaluate/precision_mobilenet_v2": ("precision", ".3f"),
    "evaluate/recall_mobilenet_v2": ("recall", ".3f"),
    "invert/psnr_db": ("inverted: PSNR, dB", ".2f"),
    "invert/mobilenet_v2": ("another net", ".3f"),
    "invert/similarity_factors_cats32_attributes": ("factors", ".3f"),
}
TESTED = {"psnr_db": "PSNR, dB", "mobilenet_v2": "another net", "similarity_factors_cats32_attributes": "factors"}
NAMES = {
    "mlp_gan_cats": "the first GAN", "dcgan_cats": "DCGAN", "vae_cats": "VAE", "stylegan1_cats": "StyleGAN",
    "cats32": "StyleGAN2", "r3gan_cats": "R3GAN",
}  # fmt: skip
BASELINE = "StyleGAN2"
NUM_SHOWN = 6  # samples, and held-out cats, of each generator
Runs = Mapping[str, Mapping[str, Sequence[Path]]]
"""Generator -> stage -> the folders of its seeds."""


def main() -> None:
    """Print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the sweep")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("samples.png"), help="beside this file")
    options = parser.parse_args()
    found = by_budget(options.folder)
    for budget, runs in found.items():
        for title, text in tables(runs):
            print(f"## {budget}: {title}\n\n{text}\n")
    print(drawn(next(iter(found.values())), options.output))


def by_budget(folder: Path) -> dict[str, Runs]:
    """A budget, "3 minutes" or "10 thousand images" -> the finished runs under it; UserError if there are none."""
    found: dict[str, dict[str, dict[str, list[Path]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for job, run in sorted(finished(folder), key=lambda pair: pair[0].point[SEED]):
        budget, name = name_of(job.point)
        found[budget][name][job.stage.verb].append(run)
    if not found:
        raise UserError(f"{folder} has no finished runs yet.")
    return {budget: dict(sorted(runs.items(), key=lambda item: [*NAMES.values()].index(item[0])))
            for budget, runs in sorted(found.items(), key=lambda item: "images" in item[0])}  # fmt: skip


def name_of(point: Point) -> tuple[str, str]:
    """Budget and generator: ("3 minutes", "DCGAN")."""
    minutes, kimg = point["schedule.minutes"], point["schedule.kimg"]
    budget = f"{kimg} thousand images" if minutes is None else f"{minutes} minutes"
    return budget, NAMES[point["experiment"]]


def tables(runs: Runs) -> Iterator[tuple[str, str]]:
    """Title and Markdown of the means, and of the differences."""
    rows: dict[str, dict[str, str]] = {}
    for name, stages in runs.items():
        of_seeds = [values(folder) for folders in stages.values() for folder in folders]
        numbers = {number: [each[number]["value"] for each in of_seeds if number in each] for number in COLUMNS}
        rows[name] = {COLUMNS[number][0]: cell(each, COLUMNS[number][1]) for number, each in numbers.items() if each}
    yield "means over the seeds", markdown(rows, first="generator")
    scores = {name: over_seeds([by_image(folder, TESTED) for folder in stages["invert"]])
              for name, stages in runs.items() if "invert" in stages}  # fmt: skip
    tests = paired_tests(scores, BASELINE, columns=[*TESTED]) if BASELINE in scores else {}
    differences = {name: {TESTED[number]: told(each) for number, each in row.items()} for name, row in tests.items()}
    yield f"inversions minus those into {BASELINE}", markdown(differences, first="generator")


def drawn(runs: Runs, path: Path) -> Path:
    """Draw held-out cats; below them a row for each generator's first seed: its inversions of them, then samples."""
    shown = {name: stages for name, stages in runs.items() if {"train", "invert"} <= set(stages)}
    if not shown:
        raise UserError("No generator of the sweep has been inverted yet.")
    target = next(iter(shown.values()))["invert"][0] / "targets"
    names = sorted(image.stem for image in target.glob("*.png"))[:NUM_SHOWN]
    rows, titles = [[(read_image(target / f"{name}.png"), "") for name in names]], ["held-out cats"]
    for name, stages in shown.items():
        answers = [read_image(stages["invert"][0] / "images" / f"{each}.png") for each in names]
        rows.append([(image, "") for image in [*answers, *samples(stages["train"][0] / "model.safetensors")]])
        titles.append(f"{name}: inversions, then samples")
    picture = captioned_rows(rows, titles, min_px=64)
    return atomic_write(path, lambda file: picture.save(file, format="PNG"))


@torch.no_grad()
def samples(checkpoint: Path) -> Tensor:
    """Images (NUM_SHOWN, C, R, R) in [-1, 1] from fixed latents."""
    generator = wplus.load(checkpoint, needs=["generator"]).generator
    z = torch.randn(NUM_SHOWN, generator.z_dim, generator=torch.Generator().manual_seed(0))
    return generator(z, None)


if __name__ == "__main__":
    run_script(main)
