"""From the folders of a study to its answer: a table with intervals, paired tests, and pictures side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from experiments.studies.inversion.study import folder_name
from wplus.files import atomic_write, write_json
from wplus.intervals import Mean, bootstrap_mean

NUM_SHOWN = 8
Rows = dict[str, dict[str, float]]  # image -> column -> value
# Column -> heading and the number format of its values.
COLUMNS = {
    "l2": ("L2", ".4f"),
    "psnr_db": ("PSNR, dB", ".1f"),
    "effnet_lite0": ("effnet_lite0", ".3f"),
    "identity": ("identity-like similarity", ".3f"),
    "ms_ssim": ("MS-SSIM", ".3f"),
    "prior_distance": ("distance from the prior", ".2f"),
    "lec": ("LEC", ".2f"),
    "edit_novelty": ("unlike any cat, edited", ".2f"),
    "seconds": ("s/image", ".3f"),
}
BASELINE = "optimize, w+"
SEARCHES = ("optimize, z", "optimize, w", "optimize, w+", "encoder", "hybrid")  # of one kind of evaluation
TESTED = ("psnr_db", "effnet_lite0")


def write_tables(output: Path, methods: Sequence[str]) -> None:
    """table.md, table.json, grid.png and convergence.png in `output`."""
    rows = {method: scores(output, method) for method in methods}
    means = {method: summarise(table) for method, table in rows.items()}
    tests = {m: compared(rows[m], rows[BASELINE]) for m in methods if BASELINE in rows and m != BASELINE}
    text = markdown(means) + ("\n" + markdown_tests(tests) if tests else "")
    atomic_write(output / "table.md", lambda file: file.write(text.encode()))
    plain = {m: {c: {"value": v.value, "interval": v.interval} for c, v in each.items()} for m, each in means.items()}
    write_json(output / "table.json", {"means": plain, "paired": tests, "protocol": protocol(output, methods)})
    draw(output, methods)
    draw_convergence(output, [method for method in methods if method in SEARCHES])
    print(text)


def scores(output: Path, method: str) -> Rows:
    """Scores of every image; those of edits where the image was edited."""
    table = json.loads((output / folder_name(method) / "table.json").read_text())["rows"]
    rows = {name: similarities(row) for name, row in table.items()}
    edited = output / "edited" / f"{folder_name(method)}.json"
    for name, values in (json.loads(edited.read_text()) if edited.is_file() else {}).items():
        rows[name] |= values
    return rows


def similarities(row: Mapping[str, float]) -> dict[str, float]:
    """Distances 1 - s as the similarities s that people know."""
    found = dict(row)
    for name in row:
        for column in ("identity", "ms_ssim"):
            if name.startswith(column):
                found[column] = 1 - found.pop(name)
    return found


def summarise(rows: Rows) -> dict[str, Mean]:
    """Mean and interval of every column over the images that have it."""
    return {
        column: bootstrap_mean(values)
        for column in COLUMNS
        if (values := [row[column] for row in rows.values() if column in row])
    }


def compared(rows: Rows, baseline: Rows) -> dict[str, dict[str, Any]]:
    """Paired differences from the baseline on the same images: mean, interval, and Wilcoxon's signed-rank p."""
    names = sorted(rows.keys() & baseline.keys())
    found = {}
    for column in TESTED:
        difference = np.array([rows[name][column] - baseline[name][column] for name in names])
        mean = bootstrap_mean(difference.tolist())
        p = float(wilcoxon(difference).pvalue) if np.any(difference) else 1.0
        found[column] = {"difference": mean.value, "interval": mean.interval, "p": p, "num_images": len(names)}
    return found


def markdown(means: Mapping[str, Mapping[str, Mean]]) -> str:
    """A row per method, a column per score, the interval under each value."""
    columns = [column for column in COLUMNS if any(column in each for each in means.values())]
    lines = [
        "| method | " + " | ".join(COLUMNS[column][0] for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for method, each in means.items():
        lines.append(
            f"| {method} | " + " | ".join(cell(each.get(column), COLUMNS[column][1]) for column in columns) + " |"
        )
    return "\n".join(lines) + "\n"


def cell(mean: Mean | None, form: str) -> str:
    """`0.123 (0.110 to 0.135)`; a dash where there is nothing."""
    if mean is None:
        return "–"
    bounds = "" if mean.interval is None else f" ({mean.interval[0]:{form}} to {mean.interval[1]:{form}})"
    return f"{mean.value:{form}}{bounds}"


def markdown_tests(tests: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Differences from the baseline on the same images."""
    lines = [f"| minus '{BASELINE}', paired | " + " | ".join(COLUMNS[column][0] for column in TESTED) + " |"]
    lines.append("|---" * (len(TESTED) + 1) + "|")
    for method, columns in tests.items():
        cells = []
        for column, found in columns.items():
            (low, high), form = found["interval"], COLUMNS[column][1]
            cells.append(f"{found['difference']:+{form}} ({low:+{form}} to {high:+{form}}), p = {found['p']:.1g}")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def protocol(output: Path, methods: Sequence[str]) -> dict[str, Any]:
    """How each method's numbers were made."""
    tables = {method: json.loads((output / folder_name(method) / "table.json").read_text()) for method in methods}
    return {method: table["protocol"] for method, table in tables.items()}


def draw(output: Path, methods: Sequence[str]) -> None:
    """grid.png: a row per held-out cat, the target first, then what each method makes of it."""
    from wplus.captions import captioned_rows
    from wplus.data import read_image

    folders = {method: output / folder_name(method) for method in methods}
    first = next(iter(folders.values()))
    names = sorted(path.stem for path in (first / "targets").glob("*.png"))[:NUM_SHOWN]
    rows = [
        [(read_image(first / "targets" / f"{name}.png"), "target")]
        + [(read_image(folder / "images" / f"{name}.png"), method) for method, folder in folders.items()]
        for name in names
    ]
    picture = captioned_rows(rows, names)
    atomic_write(output / "grid.png", lambda file: picture.save(file, format="PNG"))


def draw_convergence(output: Path, methods: Sequence[str]) -> None:
    """convergence.png: how the perceptual distance fell, evaluation by evaluation."""
    from wplus.inversion.plots import plot_convergence
    from wplus.inversion.report import read_history
    from wplus.inversion.store import Store

    stores = {method: Store(output / folder_name(method), fingerprint="", settings_digest="") for method in methods}
    histories = {method: read_history(store, store.names()) for method, store in stores.items()}
    if histories:
        plot_convergence(histories, output / "convergence.png", terms=["l2", "perceptual"])
