"""The tables and pictures of the study: every way to invert, what edits make of its answers, edits there and back.

    python -m experiments.studies.inversion.tables runs/sweeps/inverters

prints the tables as Markdown and writes grid.png and convergence.png beside this file. Intervals are 95 %, over
images; differences are paired.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.run_command import finished, run_script
from experiments.studies.spaces import tables as spaces
from experiments.studies.spaces.tables import by_image, cell, markdown, told, values
from wplus.core.files import atomic_write
from wplus.core.images import captioned_rows
from wplus.core.paired import paired_tests
from wplus.data import read_image
from wplus.inversion.folder import InversionFolder
from wplus.inversion.report import plot_convergence, read_history
from wplus.sweeps.labels import Point
from wplus.sweeps.spec import Job

COLUMNS = {heading: column for heading, column in spaces.COLUMNS.items() if column[0] != "channel_edits"}
COLUMNS["s/image"] = ("invert", "seconds", ".3f")  # of an encoder, too
TESTED = {stage: numbers for stage, numbers in spaces.TESTED.items() if stage in ("invert", "edit")}
BACK = {
    "lec_accessory=5_image_seen": ("picture, edited and back", ".3f"),
    "lec_no_edit_image_seen": ("the same without an edit", ".3f"),
    "lec_accessory=5_per_edit": ("code, in edits", ".2f"),
}
USUAL, BASELINE = 150, "preconditioned, w+"  # steps of a search, and what the others are compared with
NUM_SHOWN = 8
CURVES = tuple(f"{way}, w+" for way in ("optimize", "quick", "preconditioned", "lbfgs", "hybrid"))


def main() -> None:
    """Print the tables, write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the sweep")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="of the pictures: beside this file")
    options = parser.parse_args()
    runs = list(finished(options.folder))
    jobs, folders = [job for job, _ in runs], {job.id: run for job, run in runs}
    of = by_stage(jobs, folders)
    for title, text in tables(of).items():
        print(f"## {title}\n\n{text}\n")
    draw({name: folders["invert"] for name, folders in of.items() if "invert" in folders}, options.output)


def name_of(point: Point) -> str:
    """`hybrid, w+`, with the start and the steps where they are not the usual ones."""
    steps, start = point.get("inverter.num_steps", USUAL), point.get("inverter.init")
    way = f"{point['inverter']} from {start}" if start else point["inverter"]
    return f"{way}, {point['space']}" + ("" if steps == USUAL else f", {steps} steps")


def by_stage(jobs: Sequence[Job], folders: Mapping[str, Path]) -> dict[str, dict[str, Path]]:
    """A way to invert -> stage -> run folder, of the jobs that have ended and their folders by id."""
    found: dict[str, dict[str, Path]] = {}
    for job in jobs:
        if "inverter" in job.point:
            found.setdefault(name_of(job.point), {})[job.stage.name] = folders[job.id]
    return found


def tables(of: Mapping[str, Mapping[str, Path]]) -> dict[str, str]:
    """Title -> Markdown."""
    return {
        "Inversions and edits": markdown({
            name: {heading: cell(values(folders.get(stage)), end, form)
                   for heading, (stage, end, form) in COLUMNS.items()}
            for name, folders in of.items()
        }, first="way"),
        f"Against {BASELINE}": markdown(against(of), first="way"),
        "Edits there and back": markdown({
            name: {heading: cell(values(folders["consistency"]), number, form)
                   for number, (heading, form) in BACK.items()}
            for name, folders in of.items() if "consistency" in folders
        }, first="way"),
    }  # fmt: skip


def against(of: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, str]]:
    """Each way's numbers minus the baseline's, image by image, with the p of Wilcoxon's test after Holm (1979)."""
    found: dict[str, dict[str, str]] = {name: {} for name in of if name != BASELINE}
    for stage, columns in TESTED.items():
        rows = {name: by_image(folders[stage], columns) for name, folders in of.items() if stage in folders}
        tests = paired_tests(rows, BASELINE, columns=[*columns]) if BASELINE in rows else {}
        for name, row in tests.items():
            found[name] |= {columns[number]: told(each) for number, each in row.items()}
    return found


def draw(folders: Mapping[str, Path], output: Path) -> None:
    """grid.png: a row per cat, the target first, then what each way makes of it; convergence.png of some searches."""
    first = next(iter(folders.values()))
    names = sorted(path.stem for path in (first / "targets").glob("*.png"))[:NUM_SHOWN]
    rows = [
        [(read_image(first / "targets" / f"{name}.png"), "target")]
        + [(read_image(folder / "images" / f"{name}.png"), way) for way, folder in folders.items()]
        for name in names
    ]
    picture = captioned_rows(rows, names, min_px=160)  # long captions stay apart
    atomic_write(output / "grid.png", lambda file: picture.save(file, format="PNG"))
    stores = {way: InversionFolder(folders[way]) for way in CURVES if way in folders}
    if histories := {way: read_history(store, store.names()) for way, store in stores.items() if store.names()}:
        plot_convergence(histories, output / "convergence.png", terms=["l2", "perceptual"])


if __name__ == "__main__":
    run_script(main)
