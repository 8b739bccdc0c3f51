"""Metrics of a checkpoint or of given images, and pairs of images for comparing paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import entry_point
from wplus.config import build

if TYPE_CHECKING:
    import torch

    from wplus.checkpoint import Models
    from wplus.data import ImageSet
    from wplus.evaluation.context import EvalContext
    from wplus.evaluation.measure import Metric


@entry_point
def evaluate(cfg: dict[str, Any]) -> float:
    """Measure a checkpoint, or given images. Returns the first metric's value, for sweeps."""
    from wplus.core.distributed import only_first_speaks, process_group
    from wplus.core.runtime import resolve_device

    with process_group(resolve_device(cfg["device"])) as device, only_first_speaks():
        return measure_checkpoint(cfg, device)


def measure_checkpoint(cfg: dict[str, Any], device: torch.device) -> float:
    """Run by every process; only the first one tracks."""
    from rich import print as show

    from wplus.checkpoint import Models, load
    from wplus.commands.common import tracking
    from wplus.core.distributed import is_first
    from wplus.core.files import ensure_folder
    from wplus.evaluation.measure import measured, report, table
    from wplus.tracking import Tracker

    check(cfg)
    models = load(cfg["checkpoint"], device, needs=["generator"]) if cfg["checkpoint"] else Models()
    folder = ensure_folder(cfg["run_dir"])
    context = context_of(cfg, models, device=device, folder=folder)
    results = measured(context, built_metrics(cfg))  # checked before anything is recorded
    with tracking(cfg, "evaluate") if is_first() else Tracker() as context.tracker:
        measurements = list(report(results, context.tracker))
        context.tracker.decided(dict(decided(cfg, context)))
    show(table(measurements))
    print(f"Result: {folder / 'result.json'}")
    return measurements[0].value


def built_metrics(cfg: dict[str, Any]) -> dict[str, Metric]:
    """Build the chosen metrics, by name."""
    return {name: build(node) for name, node in cfg["metrics"].items()}


def context_of(cfg: dict[str, Any], models: Models, *, device: torch.device, folder: Path | None) -> EvalContext:
    """The metrics' context: the networks, the images (see `images`), and their output folder."""
    from wplus.evaluation.context import EvalContext

    computing = {"batch_size": cfg["batch_size"], "device": device, "seed": cfg["seed"]}
    places = {"output_dir": folder, "cache_dir": cfg["cache_dir"]}
    return EvalContext(models, **images(cfg, models), **computing, **places)


def decided(cfg: dict[str, Any], context: EvalContext) -> Iterator[tuple[str, Any]]:
    """Values that the metrics' options leave undetermined, by key."""
    for name, node in cfg["metrics"].items():
        if node.get("num_real", 0) is None and context.real is not None:
            yield f"metrics.{name}.num_real", len(context.real)
        if node.get("discriminator") == "auto":
            own = "discriminator" in context.models.networks
            yield f"metrics.{name}.discriminator", cfg["checkpoint"] if own else "none"


def check(cfg: dict[str, Any]) -> None:
    """Raise UserError if there is nothing to measure, no metric, or only part of what a metric needs."""
    from wplus.errors import UserError
    from wplus.evaluation.context import check_whole

    if not cfg.get("metrics"):
        raise UserError("metrics=[] measures nothing: name at least one, as in metrics=[fd].")
    if cfg["checkpoint"] is None and cfg["generated"] is None:
        raise UserError("There is nothing to measure: give checkpoint=FILE, or generated=FOLDER, or both.")
    leaves_out = cfg["split"] != "train" or cfg["data"].get("held_out_fraction") != 0
    if leaves_out and any(node.get("num_real") == "all" for node in cfg["metrics"].values()):
        check_whole(cfg["split"])  # early, before an extractor looks for its weights


def images(cfg: dict[str, Any], models: Models) -> dict[str, Any]:
    """The images of a context, at the generator's resolution; each set is read when a metric first requests it."""
    from wplus.evaluation.context import deferred

    if cfg["checkpoint"] is not None:
        cfg["data"]["resolution"] = models.generator.resolution
    real, held_out = (deferred(partial(build, cfg["data"], split=split)) for split in (cfg["split"], "held_out"))
    policies = {"held_out": lambda: held_out, "resolution": cfg["data"]["resolution"]}
    samples = deferred(lambda: given_images(cfg["generated"], channels=real.img_channels, **policies))
    return {"real": real, "held_out": held_out, "samples": samples if cfg["generated"] is not None else None}


def given_images(source: str, **policies: Any) -> ImageSet:
    """Read the images of `generated` unmodified; UserError if one cannot be read or is not square."""
    from wplus.data.user_images import user_images
    from wplus.errors import UserError

    try:
        return user_images(source, fit="refuse", **policies)
    except UserError as error:
        raise UserError(f"{error} (generated={source} is measured as it is: no fit, no bad_files.)") from error


@entry_point(has_folder=False)
def draw_pairs(cfg: dict[str, Any]) -> None:
    """Draw a fixed list of image pairs for comparing paths."""
    from wplus.core.runtime import resolve_device
    from wplus.evaluation.interpolation.pairs import STRATA, draw_pairs

    device = resolve_device(cfg["device"])
    cfg["data"]["resolution"] = cfg["resolution"]
    images = build(cfg["data"], split=cfg["split"])
    found = draw_pairs(
        images, num_pairs=cfg["num_pairs"], distance=build(cfg["perceptual"]), seed=cfg["seed"],
        batch_size=cfg["batch_size"], device=device, order=cfg["order"],
    )  # fmt: skip
    path = found.save(cfg["output"])
    counts = Counter(pair.stratum for pair in found.pairs)
    listed = ", ".join(f"{counts[stratum]} {stratum}" for stratum in STRATA)
    print(f"{listed} pairs of {len(images)} images: {path}")
