"""Make the tables of the study: means over the trainings of each kind, with intervals.

    python -m experiments.studies.autoencoders.tables runs/sweeps/autoencoders runs/sweeps/autoencoders_sigma

writes tables.md and tables.json. Intervals are 95 %, Student's t over the trainings of a kind, which differ in their
seed (t assumes a normal distribution, which three seeds cannot verify). Italics mark a single model, with intervals
over its images or pairs.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from experiments.run_command import run_script
from wplus.core.files import atomic_write, ensure_folder, write_json
from wplus.pretrained.seen import SUFFIX
from wplus.sweeps.state import SweepFolder
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import read_json

WAY, CROSS_DISSOLVE, STYLEGAN2 = "w_lerp", "cross_dissolve", "stylegan2 (cats32)"
Entry = Mapping[str, Any]
Runs = dict[str, list[Mapping[str, Entry]]]
"""Kind of model -> for each of its trainings: name of a number -> value, interval, ..."""
# Stages of the sweep whose numbers share a table, and its columns: number -> heading and format.
CODES = {
    "reconstruction_psnr": ("PSNR, dB", ".2f"),
    "reconstruction_similarity_ms_ssim": ("MS-SSIM", ".3f"),
    "reconstruction_psnr_noise0.3": ("PSNR of noisy ones, dB", ".2f"),
}
PROBES = {
    "digits": {"linear_probe_digit": ("linear probe", ".3f"), "knn_digit": ("5 neighbours", ".3f")},
    "cats": {
        **{f"linear_probe_{factor}": (f"linear probe: {factor}", ".2f") for factor in ("body", "fur", "accessory")},
        "knn_body": ("5 neighbours: body", ".2f"),
        "dci_disentanglement_code_true": ("DCI disentanglement", ".3f"),
        "mig_code_true": ("MIG", ".3f"),
    },
}
WAYS = {
    "endpoints_pass": ("ends pass", ".2f"),
    "relative_ppl": ("relative PPL", ".2f"),
    "tortuosity": ("tortuosity", ".2f"),
    "step_cv": ("unevenness", ".2f"),
    "distinctness": ("distinctness", ".3f"),
    "detail_dip": ("detail dip", ".2f"),
    "kd_mobilenet_v2_ends": ("kd of ends", ".2f"),
    "kd_mobilenet_v2_mid_dip": ("kd half way beyond that", ".2f"),
    "ppl_wfull_effnet_lite0": ("ppl_wfull", ".1f"),
    "fd_mobilenet_v2": ("fd of samples", ".0f"),
    "factors_digit_digits": ("digits made", ".1f"),
}
ANOMALIES = {f"anomaly_{score}_auroc": (heading, ".2f") for score, heading in (
    ("pixels", "AUROC, pixels"), ("effnet_lite0", "AUROC, effnet_lite0"), ("nelbo", "AUROC, -ELBO"))}  # fmt: skip
PARTS = {
    "digits: codes": (("on_digits",), CODES | PROBES["digits"]),
    "digits: ways": (("on_digits", "of_the_gan"), WAYS),
    "digits: nines": (("nines",), ANOMALIES),
    "cats: codes": (("on_cats",), CODES | PROBES["cats"]),
    "cats: ways": (("on_cats", "of_the_cats_gan"), WAYS),
    "cats: hats": (("hats",), ANOMALIES),
}


def main() -> None:
    """Read the sweep, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of sweeps")
    parser.add_argument("--output", type=Path, default=Path("runs/study-autoencoders"), help="default: %(default)s")
    options = parser.parse_args()
    found = {part: runs_of(options.folders, stages) for part, (stages, _) in PARTS.items()}
    tables = {part: table(runs, PARTS[part][1]) for part, runs in found.items() if runs}
    output = ensure_folder(options.output)
    text = "\n\n".join(f"## {part}\n\n{markdown(rows, PARTS[part][1])}" for part, rows in tables.items())
    atomic_write(output / "tables.md", lambda file: file.write(f"{text}\n".encode()))
    write_json(output / "tables.json", tables)
    print(f"Tables: {output}")


def runs_of(folders: Sequence[Path], stages: Sequence[str]) -> Runs:
    """Records of the finished jobs of these stages; where paths were compared, the one in pixels comes last."""
    found, faded = Runs(), Runs()
    for folder in folders:
        sweep = SweepFolder(folder)
        states = sweep.states()
        for job in sweep.jobs():
            run = states[job.id].run_dir
            if job.stage.name not in stages or not run or not (read_result(Path(run)) or {}).get("values"):
                continue
            ways = read_json(Path(run) / "interpolation" / "table.json").get("means", {})
            found.setdefault(named(job.point), []).append({**values_of(Path(run)), **ways.get(WAY, {})})
            if CROSS_DISSOLVE in ways:
                faded["pixels, faded"] = [ways[CROSS_DISSOLVE]]
    return found | faded


def named(point: Mapping[str, Any]) -> str:
    """Name a kind: its model and its overrides."""
    changes = [f"{key.rpartition('.')[2]}={value}" for key, value in point.items() if key not in ("model", "seed")]
    return " ".join([str(point.get("model", STYLEGAN2)), *changes])


def values_of(run: Path) -> dict[str, Entry]:
    """Numbers of an evaluation by name, without the mark of networks that the generator was trained with."""
    values = (read_result(run) or {}).get("values", {})
    return {name.removeprefix("evaluate/").removesuffix(SUFFIX): entry for name, entry in values.items()}


def table(runs: Runs, columns: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Kind -> number -> mean, interval and number of trainings."""
    rows = {
        kind: {name: over_seeds([one[name] for one in each if name in one]) for name in columns
               if any(name in one for one in each)}
        for kind, each in runs.items()
    }  # fmt: skip
    return {kind: row for kind, row in rows.items() if row}


def over_seeds(entries: Sequence[Entry]) -> dict[str, Any]:
    """Mean over the trainings and Student's interval; for a single one, its own interval."""
    values = np.asarray([entry["value"] for entry in entries], dtype=np.float64)
    if len(values) == 1:
        return {"value": float(values[0]), "interval": entries[0]["interval"], "num": 1}
    reach = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return {"value": mean, "interval": [mean - reach, mean + reach], "num": len(values)}


def markdown(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], columns: Mapping[str, tuple[str, str]]) -> str:
    """Make a table of the columns that at least one row has."""
    used = {name: each for name, each in columns.items() if any(name in row for row in rows.values())}
    lines = [["kind", *(heading for heading, _ in used.values())], ["---"] * (len(used) + 1)]
    for kind, row in rows.items():
        lines.append([f"`{kind}`", *(cell(row.get(name), form) for name, (_, form) in used.items())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(entry: Mapping[str, Any] | None, form: str) -> str:
    """Format a mean with its interval; in italics for a single model, empty if there is none."""
    if entry is None:
        return ""
    value = f"{entry['value']:{form}}"
    if entry["interval"] is None:
        return value
    low, high = (f"{bound:{form}}" for bound in entry["interval"])
    return f"{value} ({low} to {high})" if entry["num"] > 1 else f"{value} *({low} to {high})*"


if __name__ == "__main__":
    run_script(main)
