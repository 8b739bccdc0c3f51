"""Make the table with intervals and a grid of each model from the folders of the study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

import wplus
from experiments.studies.generators.study import MODELS
from wplus.checkpoint import WEIGHTS
from wplus.core.files import atomic_write, write_json
from wplus.tracking.local import read_result

EXTRACTOR = "effnet_lite0"
# Name of a value -> heading and number format.
COLUMNS = {
    f"fd_{EXTRACTOR}": (f"fd_{EXTRACTOR}", ".0f"),
    f"kd_{EXTRACTOR}": (f"kd_{EXTRACTOR}", ".2f"),
    f"precision_{EXTRACTOR}": ("precision", ".3f"),
    f"recall_{EXTRACTOR}": ("recall", ".3f"),
    "ppl_zfull": ("path length in z", ".1f"),
}
GRID_ROWS = 4  # taken from the run's last grid


def write_tables(output: Path, speed: Mapping[str, float]) -> None:
    """Write table.md, table.json and grid_MODEL.png into `output`; `speed` is in images per second."""
    rows = {name: row(output / name) | {"images_per_s": speed[name]} for name in MODELS}
    text = markdown(rows)
    atomic_write(output / "table.md", lambda file: file.write(text.encode()))
    write_json(output / "table.json", rows)
    for name in MODELS:
        picture(output / name).save(output / f"grid_{name}.png")
    print(text)


def row(folder: Path) -> dict[str, Any]:
    """Measurements of a run, and the sizes of its networks."""
    measured = read_result(folder / "measured")["values"]
    measured = {name.removeprefix("evaluate/"): entry for name, entry in measured.items()}
    found = {column: entry_of(measured, column) for column in COLUMNS}
    models = wplus.load(folder / WEIGHTS)
    count = {
        role: sum(p.numel() for p in getattr(models, role).parameters()) for role in ("generator", "discriminator")
    }
    return {**found, "parameters": count, "kimg": read_result(folder)["values"]["train/kimg"]["value"]}


def entry_of(measured: Mapping[str, Any], column: str) -> dict[str, Any]:
    """The entry whose name is or begins with `column` (names append differences from the papers' protocol)."""
    name = next((name for name in measured if name == column), None)
    name = name or next(name for name in measured if name.startswith(f"{column}_"))
    return {"name": name, "value": measured[name]["value"], "interval": measured[name].get("interval")}


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Make a table with one line per model, every value with its interval."""
    headings = ["model", *(heading for heading, _ in COLUMNS.values()), "images/s", "parameters of G, D"]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for name, found in rows.items():
        cells = [shown(found[column], style) for column, (_, style) in COLUMNS.items()]
        size = ", ".join(f"{number / 1e6:.2f} M" for number in found["parameters"].values())
        lines.append("| " + " | ".join([name, *cells, format(found["images_per_s"], ".0f"), size]) + " |")
    return "\n".join([*lines, ""])


def shown(entry: Mapping[str, Any], style: str) -> str:
    """`12.3 (11.0 to 14.1)`."""
    interval = entry["interval"]
    bounds = "" if interval is None else f" ({interval[0]:{style}} to {interval[1]:{style}})"
    return f"{entry['value']:{style}}{bounds}"


def picture(folder: Path) -> Image.Image:
    """Write the first rows of the run's last grid."""
    last = max((folder / "samples").glob("kimg-*.png"))
    grid = Image.open(last)
    return grid.crop((0, 0, grid.width, grid.height * GRID_ROWS // 8))
