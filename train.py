"""Train a generator, `python train.py experiment=cats32`, or an encoder for one, `python train.py experiment=e4e_cats
generator=model.safetensors`. The same command again continues. See configs/train.yaml."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from wplus.config import build, entry_point, record_fields, refuse_sweep_of_processes

if TYPE_CHECKING:
    from pathlib import Path

    from wplus.training import Runtime, Schedule, Training

# Groups; which of them a training needs it says.
CHOICES = ("model", "loss", "augment", "encoder", "perceptual", "image_loss")


@entry_point("train")
def main(cfg: dict[str, Any]) -> float:
    """Returns the thousands of images seen."""
    from wplus.core.files import ensure_folder
    from wplus.tracking import Tracker
    from wplus.training import Runtime, Schedule, explain

    refuse_sweep_of_processes(cfg["trainer"])
    place = Runtime.prepare(cfg["device"], **cfg["trainer"])
    schedule = Schedule(**cfg["schedule"])
    training = chosen_training(cfg, place)
    data, folder = training.data, ensure_folder(cfg["run_dir"])
    print(f"Training on {len(data)} images of {data.resolution} px in {folder} with\n{explain(training.numbers)}")
    with open_tracker(cfg, folder) if place.rank == 0 else Tracker() as tracker:
        record_start(cfg, training, place, folder=folder, tracker=tracker)
        status = run(cfg, training, schedule, place, folder=folder, tracker=tracker)
        kimg = training.game.images_seen / 1000
        tracker.summary({"kimg": {"value": kimg, "protocol": {"status": status}}})
    print(f"{status} at {kimg:g} kimg: {folder}")
    return kimg


def chosen_training(cfg: dict[str, Any], place: Runtime) -> Training:
    """What configs/training decides, made ready: game, data, view and numbers."""
    from wplus.probes import ProbeRunner
    from wplus.training import Transfer

    return build(
        cfg["training"],
        **{name: partial(build, cfg[name]) if cfg.get(name) else None for name in CHOICES},
        probes=partial(ProbeRunner, build(cfg["probes"])) if cfg.get("probes") else None,
        data=partial(images, cfg["data"]),
        generator=cfg["generator"],
        transfer=Transfer(**cfg["transfer"]),
        place=place,
        seed=cfg["seed"],
        num_samples=cfg["num_samples"],
    )


def record_start(cfg: dict[str, Any], training: Training, place: Runtime, *, folder: Path, tracker: Any) -> None:
    """The data, the networks that it starts from, and every number that was derived with the reason for it."""
    data = training.data
    tracker.use_artifact(None, name=f"data-{data.fingerprint}", kind="dataset", metadata=data.describe())
    if cfg["generator"]:
        tracker.use_artifact(cfg["generator"], name="generator", kind="model")
    if training.transfer is not None and place.rank == 0:
        training.transfer.record(folder, tracker)
    derived = training.numbers.items()
    tracker.summary({f"derived/{name}": {"value": value, "protocol": {"why": why}} for name, (value, why) in derived})


def run(
    cfg: dict[str, Any], training: Training, schedule: Schedule, place: Runtime, *, folder: Path, tracker: Any
) -> str:
    """Train up to the end of the schedule, from where the folder's checkpoints are; "finished" or "interrupted"."""
    from wplus.data import Batches
    from wplus.training import Exporter, fit

    game, data = training.game, training.data
    sharing = {"world_size": place.world_size, "rank": place.rank, "start_nimg": lambda: game.images_seen}
    batches = Batches(data, game.batch_size, seed=cfg["seed"], mirror=cfg["mirror"], **sharing)
    export = Exporter(folder, tracker, training.view, data=data.describe(), seed=cfg["seed"])
    return fit(game, batches, schedule=schedule, place=place, output_dir=folder, tracker=tracker, export=export)


def images(node: dict[str, Any], *, split: str, resolution: int | None = None) -> Any:
    """The images of a split; a generator's `resolution` stands where the configuration has none, and no other."""
    if resolution is not None and node.get("resolution") not in (None, resolution):
        from wplus.errors import UserError

        raise UserError(
            f"data.resolution={node['resolution']} is not that of the generator, {resolution}; leave it out."
        )
    return build(node, split=split, **({} if resolution is None else {"resolution": resolution}))


def open_tracker(cfg: dict[str, Any], folder: Path) -> Any:
    """The record of this run; only the first of several processes keeps one."""
    return build(cfg["tracking"], output_dir=folder, job_type="train", **record_fields(cfg))


if __name__ == "__main__":
    main()
