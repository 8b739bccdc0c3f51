"""The whole of editing: latents and directions in; a strip for each direction, edited latents and numbers out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from wplus.core.files import atomic_write, ensure_folder
from wplus.core.images import captioned_rows
from wplus.core.metric_result import MetricResult
from wplus.core.progress import track
from wplus.editing.apply import check_mode, edit_latent
from wplus.editing.directions import Direction, Directions
from wplus.errors import UserError
from wplus.latents.latent import Latent, save_latent, synthesize
from wplus.tracking import Tracker

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)


def edit(
    models: Any,
    latents: Sequence[Latent],
    *,
    names: Sequence[str],
    directions: Sequence[Direction],
    output_dir: str | Path,
    strengths: Sequence[float] = STRENGTHS,
    mode: str = "add",
    deltas: Sequence[Any] | None = None,
    tracker: Tracker | None = None,
) -> dict[str, Path]:
    """Edit every latent along every direction at every strength; returns the strip of each direction.

    Writes strips/DIRECTION.png, whose rows are latents and whose columns are strengths, and
    latents/NAME/DIRECTION_STRENGTH.safetensors into `output_dir`, and logs the strips to `tracker`, by default to none.

    mode    see `apply.edit_ws`
    deltas  for each latent what pivotal tuning added to the generator (`wplus.latents.weight_delta`), or None
    """
    check_mode(mode)
    if not (latents and strengths and directions):
        raise UserError("An edit needs at least one latent, one direction and one strength.")
    folder, tracker = ensure_folder(output_dir), tracker or Tracker()
    rows: dict[str, list[Tensor]] = {direction.name: [] for direction in directions}
    given = zip(latents, unique_names(names), deltas or [None] * len(latents), strict=True)
    for latent, file, delta in track(list(given), "Editing (latents)"):
        generator = models.generator if delta is None else delta.applied(models.generator)
        for direction in directions:
            edited = [edit_latent(latent, models.generator, direction, strength, mode=mode) for strength in strengths]
            for strength, result in zip(strengths, edited, strict=True):
                name = f"{file_name(direction.name)}_{signed(strength)}.safetensors"
                save_latent(folder / "latents" / file / name, result)
            rows[direction.name].append(synthesize(edited, generator).cpu())
    strips = {}
    for direction in directions:
        path = folder / "strips" / f"{file_name(direction.name)}.png"
        titles = [f"{name}: {direction.name} on {_where(direction)}, {mode}" for name in names]
        strips[direction.name] = save_rows(path, rows[direction.name], titles=titles, captions=map(signed, strengths))
        tracker.image(f"editing/{direction.name}", path, caption=f"{', '.join(names)}; strengths {list(strengths)}")
    return strips


def report(measurements: Iterable[MetricResult], tracker: Tracker) -> list[MetricResult]:
    """Log measurements as they come, and return them."""
    seen = []
    for m in measurements:
        tracker.summary({f"editing/{m.name}": m.entry()})
        seen.append(m)
    return seen


def overview(
    models: Any, latent: Latent, directions: Sequence[Direction], path: Path, *, strengths: Sequence[float] = STRENGTHS
) -> Path:
    """One picture of all directions, a row each, for one latent: to see what they do, and choose."""
    rows = [
        synthesize([edit_latent(latent, models.generator, direction, value) for value in strengths], models.generator)
        for direction in directions
    ]
    titles = [f"{index}  {direction.name}, {_where(direction)}" for index, direction in enumerate(directions)]
    return save_rows(path, rows, captions=map(signed, strengths), titles=titles)


def report_directions(directions: Directions, file: Path, picture: Path, tracker: Tracker) -> None:
    """Log directions: their file, the picture of what they do, their numbers; accuracies count as results."""
    names = list(dict.fromkeys(key for item in directions for key in item.notes))
    columns = ["name", "layers", "unit", "origin", *names]
    rows = [
        [item.name, _where(item), item.unit, item.origin, *(_cell(item.notes.get(name)) for name in names)]
        for item in directions
    ]
    tracker.table("editing/directions", columns, rows)
    tracker.image("editing/overview", picture, caption=f"{len(directions)} directions of one latent, a row each")
    for item in directions:
        if "accuracy" in item.notes:
            entry = {"value": item.notes["balanced_accuracy"], "protocol": {**directions.found, **item.notes}}
            tracker.summary({f"editing/balanced_accuracy_{item.name}": entry})
    finder = directions.found["finder"]
    tracker.artifact(file, name=f"directions-{finder}", kind="directions", metadata=directions.found)


def save_rows(path: Path, rows: Sequence[Tensor], *, captions: Iterable[str], titles: Sequence[str]) -> Path:
    """Write rows of pictures (N, C, H, W), one title each, and the same captions under each row, as a PNG."""
    columns = list(captions)
    canvas = captioned_rows([list(zip(row, columns, strict=True)) for row in rows], titles)
    return atomic_write(path, lambda file: canvas.save(file, format="PNG"))


def signed(strength: float) -> str:
    """+1.5, -2, 0."""
    return f"{strength:+g}" if strength else "0"


def file_name(name: str) -> str:
    """A name as part of a path on every system: seed:3 becomes seed3, accessory!=0 becomes accessory-not-0."""
    words = name.replace("!=", "-not-").replace(">", "-over-").replace("<", "-under-").replace("=", "-")
    return re.sub(r"[^\w.+-]", "", re.sub(r"-+", "-", words)).lstrip(".") or "unnamed"


def unique_names(names: Sequence[str]) -> list[str]:
    """File names for latents; those that come twice are numbered."""
    result: list[str] = []
    for name in map(file_name, names):
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        result.append(next(candidate for candidate in numbered if candidate not in result))
    return result


def _cell(note: Any) -> Any:
    return note if note is None or isinstance(note, (int, float)) else str(note)


def _where(direction: Direction) -> str:
    first, last = direction.layers[0], direction.layers[-1]
    whole = len(direction.layers) == last - first + 1
    listed = f"{first} to {last}" if whole else ", ".join(map(str, direction.layers))
    return f"layers {listed}"
