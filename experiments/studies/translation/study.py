"""Compare translators on every bundled task with the ground truth.

    python -m experiments.studies.translation.study

trains pix2pix on the four paired tasks and CycleGAN on the three unpaired ones, translates held-out pictures in every
available direction, and writes table.md, table.json and a grid of each (README.md beside this file explains the
columns). Every step is a separate command that resumes where it stopped, and so does this script.
`wplus sweep run translation` runs only the trainings.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.run_command import run_command
from wplus.core.files import atomic_write, write_json

# Task -> the experiment, the data, and the directions.
TASKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "outline": ("pix2pix_outline", "cat_pairs", ("forward",)),
    "silhouette": ("pix2pix_outline", "cat_pairs", ("forward",)),
    "low_resolution": ("pix2pix_outline", "cat_pairs", ("forward",)),
    "scribble": ("pix2pix_outline", "cat_pairs", ("forward",)),
    "fur": ("cyclegan_fur", "cat_domains", ("forward", "backward")),
    "hat": ("cyclegan_fur", "cat_domains", ("forward", "backward")),
    "robots": ("cyclegan_fur", "cat_domains", ("forward", "backward")),
}
COLUMNS = ("l1", "psnr_db", "effnet_lite0", "change", "asked", "cycle", "cycle_noise", "cycle_jpeg")
KINDS = ("changed", "kept")


def main() -> None:
    """Run missing steps, then write the table and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/study-translation"), help="default: %(default)s")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--num-images", type=int, default=200, help="held-out pictures per task (default: %(default)s)")
    parser.add_argument("--given", nargs="*", default=[], help="KEY=VALUE for the trainings, such as schedule.kimg=4")
    options = parser.parse_args()
    for command in commands(options.output, options.tasks, options.num_images, options.given):
        run_command(command)
    write_tables(options.output, options.tasks)
    print(f"Table and pictures: {options.output}")


def commands(output: Path, tasks: Sequence[str], num_images: int, given: Sequence[str] = ()) -> Iterator[list[str]]:
    """Train each task, and translate in each of its directions."""
    shared = ["tracking=local", "group=study-translation"]
    for task in tasks:
        experiment, data, directions = TASKS[task]
        train = ["train", f"experiment={experiment}", f"data.task={task}", *given, *shared, f"run_dir={output / task}"]
        yield train
        for direction in directions:
            yield [
                "translate", f"checkpoint={output / task / 'model.safetensors'}", "input=held_out", f"data={data}",
                f"data.task={task}", f"direction={direction}", f"num_images={num_images}", *shared,
                f"run_dir={folder_of(output, task, direction)}",
            ]  # fmt: skip


def folder_of(output: Path, task: str, direction: str) -> Path:
    """Folder of the translations."""
    return output / f"{task}-{direction}"


def write_tables(output: Path, tasks: Sequence[str]) -> None:
    """Write table.json with every number as recorded, table.md to read, and the grids side by side."""
    found: dict[str, Mapping[str, Any]] = {}
    for task in tasks:
        for direction in TASKS[task][2]:
            folder = folder_of(output, task, direction)
            name = task if len(TASKS[task][2]) == 1 else f"{task}, {direction}"
            found[name] = json.loads((folder / "result.json").read_text())["values"]
            shutil.copyfile(folder / "grid.png", output / f"grid_{folder.name}.png")
    write_json(output / "table.json", found)
    text = f"{pixels_table(found)}\n\n{factors_table(found)}\n"
    atomic_write(output / "table.md", lambda file: file.write(text.encode()))


def pixels_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Make a table of means with intervals."""
    rows = [[name, *(cell(values.get(f"translate/{column}")) for column in COLUMNS)] for name, values in found.items()]
    return markdown(["task", *COLUMNS], rows)


def factors_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Make a table of the shares of pictures with the true factor; in brackets those of the ground-truth pictures."""
    factors = ("body", "fur", "eyes", "mouth", "accessory")
    rows = []
    for name, values in found.items():
        keys = [[(kind, f"translate/{kind}_{factor}") for kind in KINDS] for factor in factors]
        rows.append(
            [name, *("".join(share(values[key], kind) for kind, key in each if key in values) for each in keys)]
        )
    return markdown(["task", *factors], [row for row in rows if any(row[1:])])


def cell(entry: Mapping[str, Any] | None) -> str:
    """Format a value with its interval; empty if there is none."""
    if entry is None:
        return ""
    low, high = entry["interval"]
    return f"{entry['value']:.3g} ({low:.3g} to {high:.3g})"


def share(entry: Mapping[str, Any], kind: str) -> str:
    """Format a share with that of the ground truth; factors that should change are marked."""
    mark = "changed: " if kind == "changed" else ""
    return f"{mark}{entry['value']:.2f} ({entry['protocol']['on_the_truth']:.2f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
