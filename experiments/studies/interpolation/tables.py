"""Make the tables of the study: every path, its differences from the straight line in w, other ends, the geodesic.

    python -m experiments.studies.interpolation.tables runs/sweeps/interpolation_quality

prints them as Markdown. Intervals are 95 %, over pairs of cats; differences are paired. The folders of the
runs, whose names are printed, have all numbers, also separately for near, mid and far pairs.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.run_command import finished, run_script
from experiments.studies.spaces.tables import Numbers, cell, markdown, told
from wplus.core.paired import Paired, paired_tests
from wplus.tracking.run_folder import read_json

COLUMNS = {  # number -> heading, format
    "endpoints_pass": ("ends pass", ".2f"),
    "endpoint_psnr_db": ("ends, dB", ".1f"),
    "relative_ppl": ("relative PPL", ".1f"),
    "tortuosity": ("tortuosity", ".2f"),
    "step_cv": ("unevenness", ".2f"),
    "kd_mobilenet_v2_mid_dip": ("kd, middle minus ends", ".2f"),
    "logit_dip": ("logit dip", ".2f"),
    "third_person_identity_mobilenet_v2": ("third person", ".3f"),
    "distinctness": ("distinctness", ".2f"),
    "prior_mean": ("from the prior", ".3g"),
}
TESTED = ("relative_ppl", "tortuosity", "step_cv", "logit_dip", "third_person_identity_mobilenet_v2", "distinctness")
LINE, SEARCHED = "w+_lerp", "preconditioned"  # the ends that others are compared with


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    found: dict[str, dict[str, Path]] = {}
    for job, run in finished(parser.parse_args().folder):
        if job.stage.verb == "evaluate":
            found.setdefault(job.stage.name, {})[str(job.point.get("inverter", SEARCHED))] = run
    for title, text in tables(found):
        print(f"## {title}\n\n{text}\n")


def tables(found: Mapping[str, Mapping[str, Path]]) -> Iterator[tuple[str, str]]:
    """Title -> Markdown, from stage -> inverter of the ends -> run folder."""
    read = {stage: {inverter: read_json(folder / "interpolation" / "table.json") for inverter, folder in runs.items()}
            for stage, runs in found.items()}  # fmt: skip
    for stage in ("paths", "shortest"):
        for inverter, content in read.get(stage, {}).items():
            yield f"{stage}, {found[stage][inverter]}", means(content["means"], "path")
            yield f"{stage}, minus {content['baseline']}", differences(content)
    ends = read.get("paths", {}) | read.get("ends", {})
    if SEARCHED in ends and len(ends) > 1:
        yield f"{LINE} between other ends", means({name: each["means"][LINE] for name, each in ends.items()}, "ends")
        tests = paired_tests({name: each["rows"][LINE] for name, each in ends.items()}, SEARCHED, columns=TESTED)
        rows = {name: {COLUMNS[number][0]: told(each) for number, each in row.items()} for name, row in tests.items()}
        yield f"minus {SEARCHED}", markdown(rows, first="ends")


def means(rows: Mapping[str, Numbers], first: str) -> str:
    """Make a table with a row for each of them."""
    return markdown({
        name: {heading: cell(numbers, number, form) for number, (heading, form) in COLUMNS.items()}
        for name, numbers in rows.items()
    }, first=first)  # fmt: skip


def differences(content: Mapping[str, Any]) -> str:
    """Differences from the baseline of a comparison; numbers of sets of frames have an interval but no test."""
    rows: dict[str, dict[str, str]] = {}
    for name, row in content["paired"].items():
        rows[name] = {COLUMNS[number][0]: told(Paired(**{**row[number], "interval": tuple(row[number]["interval"])}))
                      for number in TESTED if number in row}  # fmt: skip
        of_sets = content["sets"].get(name, {})
        rows[name] |= {heading: cell(of_sets, number, form) for number, (heading, form) in COLUMNS.items()
                       if number.startswith("kd_")}  # fmt: skip
    return markdown(rows, first="path")


if __name__ == "__main__":
    run_script(main)
