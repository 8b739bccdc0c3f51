"""Make the tables of the study: each inversion with the edits and paths based on it, and consistency of edits.

    python -m experiments.studies.spaces.tables runs/sweeps/spaces

prints them as Markdown. Intervals are 95 %, over images, for paths over pairs of images; differences are paired.
"""

import argparse
import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.run_command import finished, run_script
from experiments.studies.spaces.figure import short
from wplus.core.paired import Paired, paired_tests
from wplus.sweeps.members import names_of, read_member, varying
from wplus.sweeps.spec import Job
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import read_json

Numbers = Mapping[str, Mapping[str, Any]]
"""Name -> value, interval, ..."""
COLUMNS = {  # heading -> stage, end of the number's name, format
    "PSNR, dB": ("invert", "psnr_db", ".1f"),
    "MS-SSIM": ("invert", "similarity_ms_ssim", ".3f"),
    "another net": ("invert", "/mobilenet_v2", ".3f"),
    "identity-like": ("invert", "similarity_identity_mobilenet_v2", ".3f"),
    "factors": ("invert", "similarity_factors_cats32_attributes", ".3f"),
    "distance from the prior": ("invert", "prior_distance", ".3g"),
    "style distance": ("invert", "style_distance", ".2f"),
    "s/image": ("invert", "seconds", ".2f"),
    "editable": ("edit", "edit/editable", ".3f"),
    "by a channel of s": ("channel_edits", "edit/editable", ".3f"),
}
PATHS = {
    "endpoints_pass": ("ends pass", ".2f"),
    "relative_ppl": ("relative PPL", ".2f"),
    "tortuosity": ("tortuosity", ".2f"),
    "step_cv": ("unevenness", ".2f"),
    "kd_mobilenet_v2_mid_dip": ("kd half way beyond the ends", ".2f"),
    "prior_max": ("farthest from the prior", ".3g"),
}
TESTED = {  # numbers compared with the baseline, by table
    "invert": {"psnr_db": "PSNR, dB", "mobilenet_v2": "another net"},
    "edit": {"editable": "editable"},
    "channel_edits": {"editable": "by a channel of s"},
    "paths": {"relative_ppl": "relative PPL", "tortuosity": "tortuosity", "step_cv": "unevenness"},
}
BACK = {
    "lec_accessory=5_image_seen": ("picture, edited and back", ".3f"),
    "lec_no_edit_image_seen": ("the same without an edit", ".3f"),
    "lec_accessory=5_per_edit": ("code, in edits", ".2f"),
}
BASELINE = "w+"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    runs = list(finished(parser.parse_args().folder))
    jobs, folders = [job for job, _ in runs], {job.id: run for job, run in runs}
    for title, text in tables(jobs, folders).items():
        if len(text.splitlines()) > 2:  # size=order has neither paths nor edits there and back
            print(f"## {title}\n\n{text}\n")


def tables(jobs: Sequence[Job], folders: Mapping[str, Path]) -> dict[str, str]:
    """Title -> Markdown, from the finished jobs and their folders by id."""
    names = names_by_inversion(jobs, folders)
    of: dict[str, dict[str, Path]] = {name: {} for name in names.values()}
    for job in jobs:
        inversion = job.id if job.stage.name == "invert" else job.parents.get("invert")
        if inversion in names:
            of[names[inversion]][job.stage.name] = folders[job.id]
    back = {str(job.point["space"]): folders[job.id] for job in jobs if job.stage.name == "consistency"}
    ways = {name: stages["paths"] for name, stages in of.items() if "paths" in stages}
    return {
        "Inversions and edits": markdown({
            name: {heading: cell(values(stages.get(stage)), end, form)
                   for heading, (stage, end, form) in COLUMNS.items()}
            for name, stages in of.items()
        }),
        "Paths": markdown({
            name: {heading: cell(along(folder), number, form) for number, (heading, form) in PATHS.items()}
            for name, folder in ways.items()
        }),
        f"Against {BASELINE}": markdown(against(of)),
        "Edits there and back": markdown({
            space: {heading: cell(values(folder), number, form) for number, (heading, form) in BACK.items()}
            for space, folder in back.items()
        }),
    }  # fmt: skip


def names_by_inversion(jobs: Iterable[Job], folders: Mapping[str, Path]) -> dict[str, str]:
    """Id of an inversion -> the options in which it differs from the others."""
    found = [(job, read_member(folders[job.id], job)) for job in jobs if job.stage.name == "invert"]
    pairs = [(job, member) for job, member in found if member is not None]
    members = [member for _, member in pairs]
    return {job.id: short(name) for (job, _), name in zip(pairs, names_of(members, varying(members)), strict=True)}


def values(folder: Path | None) -> Numbers:
    """Recorded values of a run."""
    return {} if folder is None else (read_result(folder) or {}).get("values", {})


def along(folder: Path) -> Numbers:
    """Numbers of the only path in a run's comparison."""
    means = read_json(folder / "interpolation" / "table.json").get("means", {})
    return {name.removesuffix("_seen"): entry for name, entry in next(iter(means.values()), {}).items()}


def against(of: Mapping[str, Mapping[str, Path]]) -> dict[str, dict[str, str]]:
    """Compute each inversion's numbers minus those of w+ on the same images or pairs.

    With interval and p of Wilcoxon's test, corrected within each stage (Holm 1979).
    """
    found: dict[str, dict[str, str]] = {name: {} for name in of if name != BASELINE}
    for stage, columns in TESTED.items():
        folders = {name: stages[stage] for name, stages in of.items() if stage in stages}
        if BASELINE not in folders:
            continue
        read = by_pair if stage == "paths" else by_image
        rows = {name: read(each, columns) for name, each in folders.items()}
        tests = paired_tests(rows, {name: baseline_of(name, folders) for name in folders}, columns=[*columns])
        for name, row in tests.items():
            found[name] |= {columns[number]: told(each) for number, each in row.items()}
    return found


def baseline_of(name: str, names: Collection[str]) -> str:
    """Baseline of an inversion: w+ with as many steps, "w+ steps=600" for "f16/w+ steps=600", else w+."""
    alike = f"{BASELINE} {name.partition(' ')[2]}"
    return alike if alike in names and alike != name else BASELINE


def by_image(folder: Path, columns: Iterable[str]) -> dict[str, dict[str, float]]:
    """Image -> number -> value, where there is one."""
    rows = read_json(folder / "table.json").get("rows", {})
    return {image: {name: row[name] for name in columns if row.get(name) is not None} for image, row in rows.items()}


def by_pair(folder: Path, columns: Iterable[str]) -> dict[str, dict[str, float]]:
    """Pair -> number -> value of the path (the cross-dissolve comes after it)."""
    with (folder / "interpolation" / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["pair"]: {number: float(row[number]) for number in columns}
            for row in rows if row["method"] == rows[0]["method"]}  # fmt: skip


def told(difference: Paired) -> str:
    """+0.12 (0.05 to 0.19), p = 0.003."""
    low, high = difference.interval
    p = "no test" if difference.p_holm is None else f"p = {difference.p_holm:.1g}"
    return f"{difference.difference:+.3g} ({low:.3g} to {high:.3g}), {p}"


def cell(numbers: Numbers, end: str, form: str) -> str:
    """Format the number whose name has this ending, with its interval; empty if there is none."""
    entry = next((entry for name, entry in numbers.items() if f"/{name}".endswith(end)), None)
    if entry is None:
        return ""
    value, interval = f"{entry['value']:{form}}", entry.get("interval")
    return value if not interval else f"{value} ({interval[0]:{form}} to {interval[1]:{form}})"


def markdown(rows: Mapping[str, Mapping[str, str]], first: str = "space") -> str:
    """Make a table of the columns that at least one row has; `first` is the heading of the row names."""
    used = list(dict.fromkeys(heading for row in rows.values() for heading, text in row.items() if text))
    lines = [[first, *used], ["---"] * (len(used) + 1)]
    lines += [[name, *(row.get(heading, "") for heading in used)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    run_script(main)
