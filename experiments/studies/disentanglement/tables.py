"""The tables of the study: every generator's numbers in z, w and s, over its seeds.

    python -m experiments.studies.disentanglement.tables runs/sweeps/disentanglement

prints them as Markdown: a table for each number, a row for each generator, a column for each space. A cell has the mean
over the seeds, then the least and the greatest of them.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.run_command import finished, run_script
from experiments.studies.encoder_losses.tables import cell
from experiments.studies.spaces.tables import markdown, values
from wplus.sweeps.labels import Point

NUMBERS = {  # what a number's name begins with, before the space -> title, number format
    "dci_disentanglement": ("Disentanglement", ".3f"),
    "dci_completeness": ("Completeness", ".3f"),
    "dci_informativeness": ("Informativeness", ".3f"),
    "mig": ("Mutual information gap", ".4f"),
    "ls": ("Linear separability", ".0f"),
    "ppl": ("Path length", ".1f"),
}
SPACES = ("z", "w", "s")
WORDS = {
    "style_mixing_prob": {0.0: "no style mixing"}, "num_mapping_layers": {8: "mapping of 8 layers"},
    "use_noise": {False: "no noise"},
}  # fmt: skip
BASELINE = "as it is"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    found: dict[str, list[Path]] = defaultdict(list)
    for job, run in finished(parser.parse_args().folder):
        if job.stage.verb == "evaluate":
            found[name_of(job.point)].append(run)
    for title, text in tables(found):
        print(f"## {title}\n\n{text}\n")


def name_of(point: Point) -> str:
    """What differs from the baseline: "no noise"."""
    last = {key.rpartition(".")[2]: value for key, value in point.items()}
    return ", ".join(WORDS[key][value] for key, value in last.items() if value in WORDS.get(key, {})) or BASELINE


def tables(found: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, str]]:
    """Title and Markdown of each number; generator -> the folders of its seeds."""
    read = {name: [values(folder) for folder in folders] for name, folders in found.items()}
    for start, (title, form) in NUMBERS.items():
        rows: dict[str, dict[str, str]] = {}
        for name, of_seeds in read.items():
            columns = {space: [entry["value"] for each in of_seeds for number, entry in each.items()
                               if number.startswith((f"evaluate/{start}_{space}_", f"evaluate/{start}_{space}full"))]
                       for space in SPACES}  # fmt: skip
            rows[name] = {space: cell(each, form) for space, each in columns.items() if each}
        yield title, markdown(rows, first="generator")
    judged = {name: [each["evaluate/fd_mobilenet_v2"]["value"] for each in of_seeds] for name, of_seeds in read.items()}
    distances = {name: {"fd_mobilenet_v2": cell(each, ".0f")} for name, each in judged.items()}
    yield "Fréchet distance", markdown(distances, first="generator")


if __name__ == "__main__":
    run_script(main)
