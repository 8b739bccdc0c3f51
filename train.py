"""Train a generator: `python train.py experiment=cats32`. The same command again continues. See configs/train.yaml."""

from __future__ import annotations

from typing import Any

from wplus.config import build, entry_point, record_fields, refuse_sweep_of_processes


@entry_point("train")
def main(cfg: dict[str, Any]) -> float:
    """Returns the thousands of images seen."""
    from wplus.data import Batches
    from wplus.files import ensure_folder
    from wplus.tracking import Tracker
    from wplus.training import Exporter, Place, Schedule, explain, fit, make_game

    refuse_sweep_of_processes(cfg["trainer"])
    place = Place.prepare(cfg["device"], **cfg["trainer"])
    schedule = Schedule(**cfg["schedule"])
    data = build(cfg["data"], split="train")
    parts = {**build(cfg["model"]), **build(cfg["loss"]), **build(cfg["training"])}
    game, numbers = make_game(data, **parts, place=place, seed=cfg["seed"])
    batches = Batches(
        data,
        game.recipe.batch_size,
        seed=cfg["seed"],
        mirror=cfg["mirror"],
        start_nimg=lambda: game.images_seen,
        world_size=place.world_size,
        rank=place.rank,
    )
    folder = ensure_folder(cfg["run_dir"])
    print(f"Training on {len(data)} images of {data.resolution} px in {folder} with\n{explain(numbers)}")
    with open_tracker(cfg, folder) if place.rank == 0 else Tracker() as tracker:
        tracker.use_artifact(None, name=f"data-{data.fingerprint}", kind="dataset", metadata=data.describe())
        tracker.summary(
            {f"derived/{name}": {"value": value, "protocol": {"why": why}} for name, (value, why) in numbers.items()}
        )
        export = Exporter(folder, tracker, data, seed=cfg["seed"], num_samples=cfg["num_samples"])
        status = fit(
            game,
            batches,
            schedule=schedule,
            place=place,
            output_dir=folder,
            tracker=tracker,
            export=export,
        )
        tracker.summary({"kimg": {"value": game.images_seen / 1000, "protocol": {"status": status}}})
    print(f"{status} at {game.images_seen / 1000:g} kimg: {folder}")
    return game.images_seen / 1000


def open_tracker(cfg: dict[str, Any], folder: Any) -> Any:
    """The record of this run; only the first of several processes keeps one."""
    return build(cfg["tracking"], output_dir=folder, job_type="train", **record_fields(cfg))


if __name__ == "__main__":
    main()
