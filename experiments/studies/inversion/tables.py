"""From the folders of a study to its answer: a table with intervals, paired tests, and pictures side by side."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.studies.inversion.study import folder_name
from wplus.core.files import atomic_write, write_json
from wplus.core.tables import Comparison
from wplus.pretrained.seen import SUFFIX

NUM_SHOWN = 8
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
SHORT = {"similarity_identity_effnet_lite0": "identity", "similarity_ms_ssim": "ms_ssim"}


def write_tables(output: Path, methods: Sequence[str]) -> None:
    """table.md, table.json, grid.png and convergence.png in `output`."""
    rows = {method: scores(output, method) for method in methods}
    table = Comparison(rows, BASELINE if BASELINE in rows else methods[0], tested=TESTED)
    text = table.markdown(COLUMNS)
    atomic_write(output / "table.md", lambda file: file.write(text.encode()))
    numbers = {key: value for key, value in table.as_dict().items() if key != "rows"}  # those are in the folders
    write_json(output / "table.json", {**numbers, "protocol": protocol(output, methods)})
    draw(output, methods)
    draw_convergence(output, [method for method in methods if method in SEARCHES])
    print(text)


def scores(output: Path, method: str) -> dict[str, dict[str, float]]:
    """Scores of every image; those of edits where the image was edited."""
    table = json.loads((output / folder_name(method) / "table.json").read_text())["rows"]
    rows = {name: named(row) for name, row in table.items()}
    edited = output / "edited" / f"{folder_name(method)}.json"
    for name, values in (json.loads(edited.read_text()) if edited.is_file() else {}).items():
        rows[name] |= values
    return rows


def named(row: Mapping[str, float]) -> dict[str, float]:
    """A row with the study's short names: `identity`, whatever net it is of, and `ms_ssim`, both similarities.

    Marks of nets that have taught the generator are left out: all methods have the same generator.
    """
    plain = {name.removesuffix(SUFFIX): value for name, value in row.items()}
    return {SHORT.get(name, name): value for name, value in plain.items()}


def protocol(output: Path, methods: Sequence[str]) -> dict[str, Any]:
    """How each method's numbers were made."""
    tables = {method: json.loads((output / folder_name(method) / "table.json").read_text()) for method in methods}
    return {method: table["protocol"] for method, table in tables.items()}


def draw(output: Path, methods: Sequence[str]) -> None:
    """grid.png: a row per held-out cat, the target first, then what each method makes of it."""
    from wplus.core.images import captioned_rows
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
    from wplus.inversion.folder import InversionFolder
    from wplus.inversion.report import plot_convergence, read_history

    stores = {method: InversionFolder(output / folder_name(method)) for method in methods}
    histories = {method: read_history(store, store.names()) for method, store in stores.items()}
    if histories:
        plot_convergence(histories, output / "convergence.png", terms=["l2", "perceptual"])
