"""Apply directions to latents: filmstrips of each direction, edited latents, an overview of a finder's directions."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.files import ensure_folder
from wplus.core.images import captioned_rows, save_png
from wplus.core.metric_result import MetricResult
from wplus.core.progress import track
from wplus.editing.directions import MODES, AnyDirection, Directions, Mode, edit_latent
from wplus.editing.svm import BALANCED_ACCURACY
from wplus.errors import UserError, check_choice
from wplus.latents.latent import Latent, save_latent, synthesize
from wplus.latents.weight_delta import WeightDelta
from wplus.tracking import Tracker

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)


def edit(
    models: Models, latents: Sequence[Latent], *, names: Sequence[str], directions: Sequence[AnyDirection],
    output_dir: str | Path, strengths: Sequence[float] = STRENGTHS, mode: Mode = "add",
    deltas: Sequence[WeightDelta | None] | None = None, tracker: Tracker | None = None,
) -> dict[str, Path]:  # fmt: skip
    """Edit every latent along every direction at every strength; returns the filmstrip of each direction.

    Writes filmstrips/DIRECTION.png, with a row per latent and a column per strength, and
    latents/NAME/DIRECTION_STRENGTH.safetensors to `output_dir`, and logs the filmstrips to `tracker`.

    Args:
        names: of the latents, for titles and files.
        mode: see `edit_ws`.
        deltas: the weight delta of pivotal tuning for each latent, or None.
    """
    folder, tracker = ensure_folder(output_dir), tracker or Tracker()
    rows: dict[str, list[Tensor]] = {direction.name: [] for direction in directions}
    files = unique_names(names)
    for edited in edits(models, latents, directions=directions, strengths=strengths, mode=mode, deltas=deltas):
        for strength, result in zip(strengths, edited.latents, strict=True):
            name = f"{file_name(edited.direction)}_{signed(strength)}.safetensors"
            save_latent(folder / "latents" / files[edited.row] / name, result)
        rows[edited.direction].append(edited.images.cpu())
    filmstrips = {}
    for direction in directions:
        path = folder / "filmstrips" / f"{file_name(direction.name)}.png"
        titles = [f"{name}: {direction.name} on {direction.where}, {mode}" for name in names]
        filmstrips[direction.name] = save_rows(path, rows[direction.name], strengths, titles)
        tracker.image("edit/filmstrip", path, caption=f"{', '.join(names)}; strengths {list(strengths)}")
    return filmstrips


class Edited(NamedTuple):
    """One latent along one direction, with an entry for each strength."""

    row: int  # index of the latent
    direction: str  # name of the direction
    latents: list[Latent]
    images: Tensor  # (strengths, C, H, W), about [-1, 1]


def edits(
    models: Models, latents: Sequence[Latent], *, directions: Sequence[AnyDirection], strengths: Sequence[float],
    mode: Mode = "add", deltas: Sequence[WeightDelta | None] | None = None,
) -> Iterator[Edited]:  # fmt: skip
    """Yield the edits of every latent along every direction; arguments as in `edit`."""
    check_choice("mode", mode, MODES)
    if not (latents and strengths and directions):
        raise UserError("An edit needs at least one latent, one direction and one strength.")
    given = zip(latents, deltas or [None] * len(latents), strict=True)
    known = models.fingerprint if deltas else None
    for row, (latent, delta) in enumerate(track(list(given), "Editing (latents)")):
        generator = models.generator if delta is None else delta.applied(models.generator, known=known)
        for direction in directions:
            edited = [edit_latent(latent, generator, direction, strength, mode=mode) for strength in strengths]
            yield Edited(row, direction.name, edited, synthesize(edited, generator))


def report(results: Iterable[MetricResult], tracker: Tracker) -> list[MetricResult]:
    """Log results as they arrive, and return them."""
    found = []
    for result in results:
        tracker.results([result])
        found.append(result)
    return found


def overview(
    models: Models, latent: Latent, directions: Sequence[AnyDirection], path: Path, *,
    strengths: Sequence[float] = STRENGTHS,
) -> Path:  # fmt: skip
    """One picture of the effects of all directions on one latent, a row each, to choose from."""
    rows = [
        synthesize([edit_latent(latent, models.generator, direction, value) for value in strengths], models.generator)
        for direction in directions
    ]
    titles = [f"{index}  {direction.name}, {direction.where}" for index, direction in enumerate(directions)]
    return save_rows(path, rows, strengths, titles)


def report_directions(directions: Directions, file: Path, picture: Path, tracker: Tracker) -> None:
    """Log directions: their file, the overview picture and their numbers; accuracies are logged as results."""
    notes = list(dict.fromkeys(key for item in directions for key in item.notes))
    columns = ["name", "where", "unit", "origin", *notes]
    rows = []
    for item in directions:
        found = [item.notes.get(name) for name in notes]
        cells = [note if note is None or isinstance(note, (int, float)) else str(note) for note in found]
        rows.append([item.name, item.where, item.unit, item.origin, *cells])
    tracker.table("directions/table", columns, rows)
    tracker.image("directions/overview", picture, caption=f"{len(directions)} directions of one latent, a row each")
    for item in directions:
        if "accuracy" in item.notes:
            name, protocol = f"balanced_accuracy_{item.name}", {**directions.found, **item.notes}
            value = item.notes["balanced_accuracy"]
            report([MetricResult.of(BALANCED_ACCURACY, name, value, protocol=protocol)], tracker)
    name = f"directions-{directions.found['finder']}"
    tracker.artifact(file, name=name, kind="directions", metadata=directions.found)


def save_rows(path: Path, rows: Sequence[Tensor], strengths: Sequence[float], titles: Sequence[str]) -> Path:
    """Write a PNG with rows of images (N, C, H, W), a title for each row and the strengths below it."""
    captions = list(map(signed, strengths))
    return save_png(path, captioned_rows([list(zip(row, captions, strict=True)) for row in rows], titles))


def signed(strength: float) -> str:
    """Format a strength with its sign: +1.5, -2, 0."""
    return f"{strength:+g}" if strength else "0"


def file_name(name: str) -> str:
    """Make a name safe for paths on all systems: seed:3 becomes seed3, accessory!=0 becomes accessory-not-0."""
    words = name.replace("!=", "-not-").replace(">", "-over-").replace("<", "-under-").replace("=", "-")
    return re.sub(r"[^\w.+-]", "", re.sub(r"-+", "-", words)).lstrip(".") or "unnamed"


def unique_names(names: Sequence[str]) -> list[str]:
    """File names for latents; repeated names are numbered."""
    result: list[str] = []
    for name in map(file_name, names):
        numbered = (f"{name}-{number}" if number > 1 else name for number in itertools.count(1))
        result.append(next(candidate for candidate in numbered if candidate not in result))
    return result
