"""Folders of inversions of the same images side by side: one table, paired tests, images, convergence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wplus.core.files import ensure_folder
from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.core.progress import track
from wplus.core.tables import PAIRED_CELLS, Comparison, Table, paired_cells
from wplus.errors import UserError
from wplus.inversion.folder import MASK, TARGET, InversionFolder, read_settings
from wplus.inversion.report import compare_folders, image_scores, read_table, with_marks
from wplus.losses.image_pair import ImageDistance
from wplus.tracking import Tracker


@dataclass(frozen=True)
class Source:
    """The contents of one folder: scores by image, and how they were measured.

    `items` are digests of each image's pixels and of its mask (None without one); `store` has images and histories if
    the folder holds more than a table.
    """

    folder: Path
    table: Table
    items: Mapping[str, tuple[str, str | None]]
    protocol: Mapping[str, Any]
    store: InversionFolder | None = None


Folder = str | Path
_Sources = Mapping[str, Mapping[str, Source]]


def compare(
    folders: Mapping[str, Folder | Mapping[str, Folder]], *, output_dir: str | Path, baseline: str | None = None,
    tested: Sequence[str] | None = None, margins: Mapping[str, float] | None = None,
    terms: Mapping[str, ImageDistance] | None = None, device: torch.device | str = "cpu", batch_size: int = 64,
    tracker: Tracker | None = None,
) -> Comparison:  # fmt: skip
    """Compare several folders, label -> folder, on the images they have in common.

    A folder holds inversions, by any inverter into any space, or results of another run that wrote a table.json with
    the digests of its images, such as editing consistency. A label may stand for several folders, seed -> folder; then
    the unit of comparison is the seed rather than the image. Writes table.csv, table.json and table.md to `output_dir`,
    plus grid.png and convergence.png (of the first seeds) if all folders hold inversions, and tracks all of them.

    baseline  label of the folder that the others are tested against; None: the first
    tested    scores to test; None: all
    margins   score -> the largest negligible difference; differences are also tested for lying within it
    terms     image distances to measure now, from the stored pictures, in addition to the scores in the folders

    UserError if images of the same name differ in pixels or mask, if there are no common images, or if a score was
    measured with different nets.
    """
    methods = {label: _read(given) for label, given in folders.items()}
    sources = {f"{label}, seed {seed}" if len(each) > 1 else label: source
               for label, each in methods.items() for seed, source in each.items()}  # fmt: skip
    if len(sources) < 2:
        raise UserError("A comparison needs two folders or more: folders=[runs/a,runs/b].")
    baseline = next(iter(methods)) if baseline is None else baseline
    if baseline not in methods:
        raise UserError(f"baseline={baseline} is not one of the folders: choose one of {', '.join(methods)}.")
    names = common_names(sources)
    check_instruments(sources)
    output = ensure_folder(output_dir)
    info = {column: each for source in sources.values() for column, each in source.table.info.items()}
    items, measured = _scores(methods, names, terms or {}, device=device, batch_size=batch_size)
    compared = _comparison(items, baseline, tested=tested, info=info | measured, margins=margins or {})
    compared.write(output, protocol := _protocol(sources, names, terms or {}, compared))
    _report(compared, methods, output, protocol, tracker or Tracker())
    return compared


def _read(given: Folder | Mapping[str, Folder]) -> dict[str, Source]:
    """Seed -> source."""
    folders = given if isinstance(given, Mapping) else {"0": given}
    return {seed: read_source(Path(folder)) for seed, folder in folders.items()}


def _scores(
    methods: _Sources, names: Sequence[str], terms: Mapping[str, ImageDistance], *, device: torch.device | str,
    batch_size: int,
) -> tuple[dict[str, dict[str, dict[str, dict[str, float]]]], dict[str, MetricInfo]]:  # fmt: skip
    """Label -> seed -> image -> score -> value, and the meaning of the scores measured now."""
    info: dict[str, MetricInfo] = {}
    items = {label: {seed: {name: dict(source.table.rows[name]) for name in names} for seed, source in each.items()}
             for label, each in methods.items()}  # fmt: skip
    for label, each in methods.items() if terms else ():
        for seed, source in each.items():
            info |= _measure(items[label][seed], source, terms, device=device, batch_size=batch_size)
    return items, info


def _comparison(
    items: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]], baseline: str, **fields: Any
) -> Comparison:
    """A comparison over seeds if a method has several, otherwise over images."""
    if any(len(seeds) > 1 for seeds in items.values()):
        return Comparison.over_seeds(items, baseline, **fields)
    return Comparison({label: rows for label, seeds in items.items() for rows in seeds.values()}, baseline, **fields)


def read_source(folder: Path) -> Source:
    """Read a folder of inversions, or of another run with a table; UserError for any other folder."""
    if (folder / "latents").is_dir():
        store = InversionFolder(folder)
        notes = {name: store.metadata(name) for name in store.names()}
        items = {name: (note.get(TARGET, ""), note.get(MASK)) for name, note in notes.items()}
        return Source(folder, read_table(notes), items, read_settings(folder), store)
    try:
        content = json.loads((folder / "table.json").read_text())
        info = {column: MetricInfo(**each) for column, each in content["info"].items()}
        items = {name: (digest, None) for name, digest in content["targets"].items()}
        return Source(folder, Table(content["rows"], info=info), items, content["protocol"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"'{folder}' cannot be compared: it has neither latents/ of inversions nor a table.json with the digests "
            "of its images."
        ) from error


def common_names(sources: Mapping[str, Source]) -> list[str]:
    """The images common to all folders, sorted; UserError if there are none, or if images of one name differ."""
    names = sorted(set.intersection(*[set(source.table.rows) for source in sources.values()]))
    if not names:
        folders = ", ".join(str(source.folder) for source in sources.values())
        raise UserError(f"These folders have no image in common: {folders}.")
    (first, known), *others = sources.items()
    for label, source in others:
        differing = [name for name in names if source.items[name] != known.items[name]]
        if differing:
            raise UserError(
                f"'{first}' and '{label}' hold different pictures: {len(differing)} of {len(names)} images, such as "
                f"'{differing[0]}', do not have the same pixels under the same mask; only equal ones can be compared."
            )
    return names


def check_instruments(sources: Mapping[str, Source]) -> None:
    """UserError if a score was measured with different nets, or otherwise differently in a way its name hides."""
    seen: dict[str, tuple[str, Any]] = {}
    for label, source in sources.items():
        nets = [source.protocol.get("perceptual"), *(source.protocol.get("losses") or {}).values()]
        named = {net.get("name", ""): net for net in nets if net}
        for name, instrument in {**named, **source.protocol.get("instruments", {})}.items():
            first, known = seen.setdefault(name, (label, instrument))
            if known != instrument:
                raise UserError(
                    f"The score '{name}' of '{first}' and that of '{label}' were measured differently: {known} and "
                    f"{instrument}; rerun one of them with the settings of the other."
                )


def _measure(
    rows: dict[str, dict[str, float]], source: Source, terms: Mapping[str, ImageDistance], *,
    device: torch.device | str, batch_size: int,
) -> dict[str, MetricInfo]:  # fmt: skip
    """Measure the terms on the stored images, add them to the rows, and return their meanings."""
    if source.store is None:
        raise UserError(f"'{source.folder}' holds a table and no images: image_loss=[] compares its scores.")
    names, info = list(rows), {}
    batches = [names[first : first + batch_size] for first in range(0, len(names), batch_size)]
    for batch in track(batches, f"Measuring {source.folder.name} (batches)"):
        read = {kind: [source.store.image(kind, name) for name in batch] for kind in ("images", "targets")}
        images, targets = (to_float(torch.stack(pictures).to(device)) for pictures in read.values())
        masks = None
        if any(source.items[name][1] for name in batch):
            whole = torch.full_like(read["targets"][0][:1], 255)
            each = [source.store.image("masks", name) if source.items[name][1] else whole for name in batch]
            masks = torch.stack(each).to(device) / 255
        measured = image_scores(images, targets, terms, masks)
        for column, score in with_marks(measured, terms, source.protocol.get("saw", ())).items():
            info[column] = score.info
            for name, value in zip(batch, score.values.tolist(), strict=True):
                rows[name][column] = value
    return info


def _protocol(
    sources: Mapping[str, Source], names: Sequence[str], terms: Mapping[str, ImageDistance], compared: Comparison
) -> dict[str, Any]:
    return {
        "num_images": len(names),
        "left_out": {label: len(source.table.rows) - len(names) for label, source in sources.items()},
        "pixels": "8 bits, range [-1, 1]",
        "interval": compared.unit.interval,
        "test": f"{compared.unit.test}; p_holm: corrected by Holm for all of them, q: by Benjamini and Hochberg",
        "measured_now": {name: dict(term.provenance) for name, term in terms.items()},
        "folders": {label: str(source.folder) for label, source in sources.items()},
        "methods": {label: source.protocol for label, source in sources.items()},
    }


def _report(
    compared: Comparison, methods: _Sources, output: Path, protocol: Mapping[str, Any], tracker: Tracker
) -> None:
    """Draw pictures of the first seeds, if there are any, and send everything to the tracker."""
    first = {label: next(iter(seeds.values())) for label, seeds in methods.items()}
    if all(source.store is not None for source in first.values()):
        convergence, grid = compare_folders({label: source.folder for label, source in first.items()}, output)
        tracker.image("compare/grid", grid, caption=f"target, then {', '.join(first)}")
        tracker.image("compare/convergence", convergence)
    tracker.table("compare/methods_paired", PAIRED_CELLS, paired_cells(compared.paired))
    shared = {key: value for key, value in protocol.items() if key != "methods"}
    tracker.methods("compare/methods", {
        label: table.entries("", {**shared, "method": dict(first[label].protocol)})
        for label, table in compared.tables.items()
    })  # fmt: skip
