"""The summary of a folder of inversions, made from its files: table, convergence plot, pictures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.core.images import captioned_rows
from wplus.core.tables import Table
from wplus.errors import UserError
from wplus.inversion.plots import MAX_ROWS, plot_convergence, save_comparison
from wplus.inversion.store import TARGET, InversionFolder
from wplus.tracking import Tracker

SCORE = "score "  # begins the names of scores in a latent's metadata
_TERMS = ("loss", "l2", "perceptual")
_MAX_CURVES = 64


def report(store: InversionFolder, names: Sequence[str], *, settings: Mapping[str, Any], tracker: Tracker) -> Table:
    """Write table.csv, table.json, convergence.png and grid.png for the images that are done, and track them."""
    table = read_table({name: store.metadata(name) for name in names})
    if not names:
        return table
    space = settings["space"]
    protocol = {**settings, "num_images": len(names), "pixels": "8 bits, range [-1, 1]", "interval": "95 % bootstrap"}
    table.write(store.folder, protocol)
    history = read_history(store, names)
    terms = [term for term in _TERMS if term in history]
    convergence = plot_convergence({space: history}, store.folder / "convergence.png", terms=terms)
    pictures = [store.pictures(name) for name in names[:MAX_ROWS]]
    grid = save_comparison(list(zip(*pictures, strict=True)), store.folder / "grid.png")
    tracker.image(f"inversion/{space}/convergence", convergence)
    tracker.image(f"inversion/{space}/grid", grid, caption="target, inversion")
    if store.film.is_file():
        tracker.video(f"inversion/{space}/film", store.film)
    _track_numbers(store, table, space, protocol, tracker)
    name = f"latents-{store.settings_digest}"
    tracker.artifact(store.folder / "latents", name=name, kind="latents", metadata=settings)
    return table


def read_table(notes: Mapping[str, Mapping[str, str]]) -> Table:
    """The scores in the metadata of latents, by name."""
    return Table(
        {
            name: {key.removeprefix(SCORE): float(value) for key, value in note.items() if key.startswith(SCORE)}
            for name, note in notes.items()
        },
        {name: note[TARGET] for name, note in notes.items() if TARGET in note},
    )


def read_history(store: InversionFolder, names: Sequence[str]) -> dict[str, Tensor]:
    """Term -> (steps, N) of the first images; one that ended sooner repeats its last value."""
    histories = [store.history(name) for name in names[:_MAX_CURVES]]
    terms = [term for term in histories[0] if all(term in history for history in histories)]
    return {term: _side_by_side([history[term] for history in histories]) for term in terms}


def _side_by_side(columns: Sequence[Tensor]) -> Tensor:
    """Values (steps,) of several images -> (steps, N)."""
    longest = max(map(len, columns))
    return torch.stack([torch.cat([values, values[-1:].expand(longest - len(values))]) for values in columns], dim=1)


def _track_numbers(
    store: InversionFolder, table: Table, space: str, protocol: Mapping[str, Any], tracker: Tracker
) -> None:
    cells = [[name, store.target(name), store.image(name), *row.values()] for name, row in table.rows.items()]
    tracker.table(f"inversion/{space}/table", ["name", "target", "inversion", *table.columns], cells)
    means = table.means().items()
    tracker.summary(
        {
            f"inversion/{space}/{column}": {"value": mean.value, "protocol": protocol, "interval": mean.interval}
            for column, mean in means
        }
    )


def compare_folders(folders: Mapping[str, Path], output_dir: Path) -> tuple[Path, Path]:
    """convergence.png and grid.png over several folders of inversions of the same images: label -> folder.

    The folders may be of several spaces or of several inverters, whose histories may have any length. Curves are drawn
    of the terms that at least one of them has. The grid has a row for each image: the target, and the inversion of each
    folder under its label; images that a folder lacks are left out, and UserError is raised when they have none in
    common.
    """
    stores = {
        label: InversionFolder(Path(folder), fingerprint="", settings_digest="") for label, folder in folders.items()
    }
    common = sorted(set.intersection(*[set(store.names()) for store in stores.values()]))
    if not common:
        raise UserError(f"These folders have no inverted image in common: {', '.join(map(str, folders.values()))}.")
    histories = {label: read_history(store, common) for label, store in stores.items()}
    terms = [term for term in _TERMS if any(term in history for history in histories.values())]
    convergence = plot_convergence(histories, output_dir / "convergence.png", terms=terms)
    shown = common[:MAX_ROWS]
    first = next(iter(stores.values()))
    rows = [
        [(first.pictures(name)[0], "target"), *((store.pictures(name)[1], label) for label, store in stores.items())]
        for name in shown
    ]
    picture = captioned_rows(rows, shown)
    return convergence, atomic_write(output_dir / "grid.png", lambda file: picture.save(file, format="PNG"))
