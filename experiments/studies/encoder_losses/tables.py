"""The tables of the study: each set of losses over its seeds, and its differences from all of e4e's, image by image.

    python -m experiments.studies.encoder_losses.tables runs/sweeps/encoder_losses

prints them as Markdown. A cell has the mean over the seeds, then the least and the greatest of them. For the paired
differences an image's number is its mean over the seeds; intervals are 95 %, over images.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.run_command import finished, run_script
from experiments.studies.spaces.tables import by_image, markdown, told, values
from wplus.core.paired import paired_tests
from wplus.sweeps.labels import SEED, Point

COLUMNS = {  # full name -> heading, number format
    "invert/psnr_db": ("PSNR, dB", ".2f"),
    "invert/mobilenet_v2": ("another net", ".3f"),
    "invert/similarity_factors_cats32_attributes": ("factors", ".3f"),
    "invert/prior_distance": ("distance from the prior", ".0f"),
    "edit/editable": ("editable", ".3f"),
}
TESTED = {"invert": ("psnr_db", "mobilenet_v2"), "edit": ("editable",)}
LOSSES = {"adversarial": "discriminator", "delta": "deltas", "identity": "identity"}
BASELINE = "discriminator, deltas"
Runs = Mapping[str, Mapping[str, Sequence[Path]]]
"""Losses -> stage -> the folders of its seeds."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for job, run in finished(parser.parse_args().folder):
        if SEED in job.point:
            found[name_of(job.point)][job.stage.verb].append(run)
    print(f"{means(found)}\n\nMinus {BASELINE}\n\n{against(found)}")


def name_of(point: Point) -> str:
    """The losses of latents that have a weight: "discriminator, deltas"."""
    weights = {key.rpartition(".")[2]: value for key, value in point.items()}
    return ", ".join(word for name, word in LOSSES.items() if weights.get(name)) or "none"


def means(found: Runs) -> str:
    """Markdown, a row for each set of losses."""
    rows: dict[str, dict[str, str]] = {}
    for name, stages in found.items():
        of_seeds = [values(folder) for stage in TESTED for folder in stages[stage]]
        numbers = {number: [each[number]["value"] for each in of_seeds if number in each] for number in COLUMNS}
        rows[name] = {COLUMNS[number][0]: cell(each, COLUMNS[number][1]) for number, each in numbers.items() if each}
    return markdown(rows, first="losses of latents")


def cell(numbers: Sequence[float], form: str) -> str:
    """0.206 (0.199 to 0.210)."""
    return f"{np.mean(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def against(found: Runs) -> str:
    """Markdown of the paired differences, with the p of Wilcoxon's test after Holm (1979), stage by stage."""
    rows: dict[str, dict[str, str]] = {name: {} for name in found if name != BASELINE}
    headings = {number.rpartition("/")[2]: heading for number, (heading, _) in COLUMNS.items()}
    for stage, numbers in TESTED.items():
        scores = {name: over_seeds([by_image(folder, numbers) for folder in stages[stage]])
                  for name, stages in found.items()}  # fmt: skip
        for name, row in paired_tests(scores, BASELINE, columns=numbers).items():
            rows[name] |= {headings[number]: told(each) for number, each in row.items()}
    return markdown(rows, first="losses of latents")


def over_seeds(tables: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Image -> number -> mean over the seeds, of the images that have it with all of them."""
    shared = set.intersection(*(set(table) for table in tables))
    return {
        image: {
            number: float(np.mean([table[image][number] for table in tables]))
            for number in tables[0][image]
            if all(number in table[image] for table in tables)
        }
        for image in sorted(shared)
    }


if __name__ == "__main__":
    run_script(main)
