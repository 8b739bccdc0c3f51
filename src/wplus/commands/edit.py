"""Directions in latent space: finding them, editing with them, and the edit consistency of inverters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import entry_point
from wplus.config import build
from wplus.errors import UserError, check_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from wplus.checkpoint import Models
    from wplus.core.metric_result import MetricResult
    from wplus.core.tables import Table
    from wplus.data import ImageSet
    from wplus.editing.consistency import Errors
    from wplus.editing.directions import AnyDirection, Directions
    from wplus.editing.factor_edits import Outcome
    from wplus.editing.samples import LabelledLatents
    from wplus.latents.latent import Latent
    from wplus.latents.space import LatentSpace
    from wplus.latents.weight_delta import WeightDelta
    from wplus.losses.image_pair import ImageDistance
    from wplus.pretrained.attribute_classifier import AttributeClassifier
    from wplus.tracking import Tracker


@entry_point
def edit(cfg: dict[str, Any]) -> float:
    """Edit images or latents along directions. Returns the images' distance per unit of strength, for sweeps."""
    from wplus.commands.common import listed, opened, read_latents, tracking
    from wplus.editing.consistency import editability
    from wplus.editing.directions import check_edits, load_directions
    from wplus.editing.edit import edit, report

    models, device, folder = opened(cfg)
    strengths = listed(cfg["strengths"])
    check_numbers("strengths", strengths)
    directions = load_directions(cfg["directions"], fingerprint=models.fingerprint).choose(cfg["direction"])
    layers = [cfg["layers"]] if isinstance(cfg["layers"], int) else cfg["layers"]
    directions = directions if layers is None else [direction.on(layers) for direction in directions]
    perceptual = build(cfg["perceptual"]).to(device)
    reading = {"space": cfg["space"], "truncation_psi": cfg["truncation_psi"]}
    latents, names, deltas = read_latents(cfg, cfg["latents"], models, perceptual=perceptual, **reading)
    check_edits(latents, models.generator, directions, mode=cfg["mode"])
    classifier = named_by(cfg["classifier"], directions, strengths=cfg["factor_strengths"])
    with tracking(cfg, "edit") as tracker:
        edit(models, latents, names=names, directions=directions, strengths=strengths, mode=cfg["mode"],
             deltas=deltas, output_dir=folder, tracker=tracker)  # fmt: skip
        shared = {"directions": directions, "batch_size": cfg["batch_size"]}
        moved = report(editability(models, latents, perceptual=perceptual, **shared), tracker)
        named = [] if classifier is None else edit_factors(
            cfg, models, latents, names, directions=directions, deltas=deltas, classifier=classifier, folder=folder,
            tracker=tracker,
        )  # fmt: skip
    print("\n".join(map(str, [*moved, *named])))
    print(f"Strips, edited latents: {folder}")
    return sum(measurement.value for measurement in moved) / len(moved)


def named_by(
    file: str | None, directions: Sequence[AnyDirection], *, strengths: Sequence[float] | float | None
) -> AttributeClassifier | None:
    """Load the classifier in a file; directions must be named after its factors. None without a file."""
    from wplus.commands.common import listed
    from wplus.editing.factor_edits import check_named, check_strengths
    from wplus.pretrained.attribute_classifier import load_classifier

    if file is None:
        if strengths is not None:
            raise UserError("factor_strengths has no effect without classifier=FILE: leave it out.")
        return None
    classifier = load_classifier(file)
    check_named(directions, classifier)
    if strengths is not None:
        check_strengths(listed(strengths))
    return classifier


def factors_of(
    cfg: Mapping[str, Any], models: Models, latents: Sequence[Latent], *, directions: Sequence[AnyDirection],
    deltas: Sequence[WeightDelta | None], classifier: AttributeClassifier,
) -> tuple[dict[str, Outcome], Iterator[MetricResult]]:  # fmt: skip
    """What edits change and preserve, per image, and the resulting metrics."""
    from wplus.editing.factor_edits import factor_edits, factor_outcomes

    shared: dict[str, Any] = {"classifier": classifier, "strengths": tried(cfg)}
    outcomes = factor_outcomes(
        models, latents, directions=directions, deltas=deltas, batch_size=cfg["batch_size"], **shared
    )
    return outcomes, factor_edits(models, outcomes, **shared)


def tried(cfg: Mapping[str, Any]) -> Sequence[float]:
    """The strengths to try until a factor changes."""
    from wplus.commands.common import listed
    from wplus.editing.factor_edits import STRENGTHS

    return STRENGTHS if cfg["factor_strengths"] is None else listed(cfg["factor_strengths"])


def edit_factors(
    cfg: dict[str, Any], models: Models, latents: Sequence[Latent], names: Sequence[str], *, folder: Path,
    tracker: Tracker, classifier: AttributeClassifier, **edited: Any,
) -> list[MetricResult]:  # fmt: skip
    """Measure what edits change and preserve, see `factors_of`; recorded, with a table of all latents in the folder."""
    from wplus.editing.edit import report, unique_names
    from wplus.editing.factor_edits import score_table
    from wplus.inversion.folder import TARGET

    outcomes, found = factors_of(cfg, models, latents, classifier=classifier, **edited)
    results = report(found, tracker)
    files = unique_names(names)
    targets = [each.metadata.get(TARGET, "") for each in latents]  # present for inversions; others cannot be paired
    table = score_table(outcomes, files, dict(zip(files, targets, strict=True)) if all(targets) else {})
    seen_by, strengths = classifier.protocol["classifier_fingerprint"], tried(cfg)
    instrument = {"generator": models.fingerprint, "classifier": seen_by, "strengths": list(strengths)}
    table.write(folder, {"instruments": dict.fromkeys(table.info, instrument)})
    return results


LABELLED = ("latents", "attributes", "num_images", "batch_size", "seed")


@entry_point
def directions(cfg: dict[str, Any]) -> None:
    """Find directions in latent space: writes directions.safetensors, and overview.png with the effect of each."""
    from wplus.commands.common import listed, opened, tracking
    from wplus.editing.directions import save_directions
    from wplus.editing.edit import overview, report_directions
    from wplus.latents.inputs import read_inputs

    models, _, folder = opened(cfg)
    seeds, strengths = {"label": cfg["label"], "truncation_psi": cfg["truncation_psi"]}, listed(cfg["strengths"])
    check_numbers("strengths", strengths)
    (latent, *_), _ = read_inputs([cfg["preview"]], models=models, invert=None, **seeds)
    directions = found_directions(cfg, models)
    with tracking(cfg, "directions") as tracker:
        file = save_directions(folder / "directions.safetensors", directions)
        picture = overview(models, latent, list(directions), folder / "overview.png", strengths=strengths)
        report_directions(directions, file, picture, tracker)
    print("\n".join(map(str, directions)))
    print(f"Directions: {file}, overview: {picture}")


def found_directions(cfg: Mapping[str, Any], models: Models) -> Directions:
    """Run the finder."""
    from functools import partial

    from wplus.editing.samples import labelled_latents
    from wplus.pretrained.attribute_classifier import load_classifier

    images = partial(build, cfg["data"], split=cfg["split"], resolution=models.generator.resolution)
    classifier = None if cfg["classifier"] is None else load_classifier(cfg["classifier"])
    labels = partial(labelled_latents, models, images, classifier=classifier, **{key: cfg[key] for key in LABELLED})
    read: list[LabelledLatents] = []

    def labelled() -> LabelledLatents:
        read.append(labels())
        return read[-1]

    found: Directions = build(cfg["finder"])(models, seed=cfg["seed"], labelled=labelled)
    for key in ("classifier", "attributes"):
        if cfg[key] is not None and not read:
            raise UserError(f"{key} has no effect on finder={found.found['finder']}, which reads no labels.")
    return found


@entry_point
def consistency(cfg: dict[str, Any]) -> float:
    """Measure an inverter by latent editing consistency (LEC). Returns the first direction's value, for sweeps."""
    from wplus.commands.common import codes_of, images_to_invert, opened, tracking
    from wplus.editing.directions import load_directions
    from wplus.inversion.task import describe

    models, device, folder = opened(cfg)
    directions = load_directions(cfg["directions"], fingerprint=models.fingerprint).choose(cfg["direction"])
    edits = {direction.name: direction.shift(cfg["strength"]) for direction in directions}
    images, _ = images_to_invert(cfg, models)
    perceptual, inverter = build(cfg["perceptual"]).to(device), build(cfg["inverter"])
    protocol = {"inverter": describe(inverter), "space": cfg["space"], "images": images.fingerprint}
    invert, space = codes_of(models, inverter, space=cfg["space"], perceptual=perceptual, seed=cfg["seed"])
    with tracking(cfg | {"num_images": len(images)}, "consistency") as tracker:
        found = measure(
            cfg, models, images, directions, edits=edits, invert=invert, space=space, perceptual=perceptual,
            protocol=protocol, folder=folder, tracker=tracker,
        )  # fmt: skip
    print("\n".join(map(str, found)))
    print(f"Result: {folder / 'result.json'}")
    return found[0].value


def measure(
    cfg: dict[str, Any], models: Models, images: ImageSet, directions: Sequence[AnyDirection], *,
    edits: Mapping[str, Tensor], invert: Callable[[Tensor], Tensor], space: LatentSpace, perceptual: ImageDistance,
    protocol: dict[str, Any], folder: Path, tracker: Tracker,
) -> list[MetricResult]:  # fmt: skip
    """Invert, edit and invert again; results are recorded, with a table of every image in the folder."""
    import torch

    from wplus.core.images import to_float
    from wplus.core.progress import track
    from wplus.editing.consistency import consistency, edit_errors, editability
    from wplus.editing.edit import report
    from wplus.latents.latent import Latent

    generator, batch_size = models.generator, cfg["batch_size"]
    both = {**edits, "no_edit": torch.zeros(generator.num_ws, generator.w_dim)}  # effect of the second inversion
    pixels = images.batch(torch.arange(len(images)))[0]
    batches = [to_float(some).to(generator.mapping.w_avg.device) for some in pixels.split(batch_size)]
    codes = torch.cat([invert(batch).detach() for batch in track(batches, "Inverting (batches)")])
    errors = edit_errors(
        generator, codes, space=space, invert=invert, edits=both, distance=perceptual, batch_size=batch_size
    )
    instrument = {"distance": perceptual.name, "distance_provenance": dict(perceptual.provenance)}
    found = report(consistency(models, errors, space=space, seed=cfg["seed"], protocol=protocol | instrument), tracker)
    shared: dict[str, Any] = {"perceptual": perceptual, "batch_size": batch_size, "protocol": protocol}
    latents = [Latent(each, str(space), models.fingerprint) for each in codes.cpu()]
    found += report(editability(models, latents, directions=directions, **shared), tracker)
    table, instruments = image_table(models, images.names, pixels, errors, both, space=space, distance=instrument)
    table.write(folder, {**protocol, "instruments": instruments})
    return found


def image_table(
    models: Models, names: Sequence[str], pixels: Tensor, errors: Mapping[str, Errors], edits: Mapping[str, Tensor], *,
    space: LatentSpace, distance: Mapping[str, Any],
) -> tuple[Table, dict[str, dict[str, Any]]]:  # fmt: skip
    """A table of every edit's errors per image, for comparing inverters on the same pixels, and for each column the
    settings that must then be equal."""
    from wplus.core.tables import Table
    from wplus.editing.consistency import LEC_ALL, LEC_IMAGE, in_space
    from wplus.inversion.folder import output_names, pixel_digest
    from wplus.pretrained.seen import marked

    files, place, suffix = output_names(names), in_space(space), marked("image", distance, models.saw)
    columns = {f"lec_{name}{place}_all": (each.norms.tolist(), LEC_ALL) for name, each in errors.items()}
    columns |= {f"lec_{name}_{suffix}": (each.images.tolist(), LEC_IMAGE) for name, each in errors.items()}
    rows = {file: {column: values[row] for column, (values, _) in columns.items()} for row, file in enumerate(files)}
    instruments = {}
    for name, shift in edits.items():
        instruments[f"lec_{name}{place}_all"] = edit_protocol(models, shift)
        instruments[f"lec_{name}_{suffix}"] = edit_protocol(models, shift) | dict(distance)
    digests = dict(zip(files, map(pixel_digest, pixels), strict=True))
    return Table(rows, digests, {column: info for column, (_, info) in columns.items()}), instruments


def edit_protocol(models: Models, shift: Tensor) -> dict[str, Any]:
    """Settings that must be equal for two inverters' errors under an edit to be comparable."""
    from wplus.inversion.folder import pixel_digest

    return {"generator": models.fingerprint, "edit_norm": float(shift.norm()), "edit_sha256": pixel_digest(shift)}
