"""Train a generator: `python train.py experiment=cats32`. The same command again continues. See configs/train.yaml."""

from __future__ import annotations

from typing import Any

from wplus.config import build, command_line, entry_point


@entry_point("train")
def main(cfg: dict[str, Any]) -> float:
    import torch

    from wplus.data.loader import Batches
    from wplus.devices import keep_freed_memory, resolve_device
    from wplus.files import ensure_folder
    from wplus.training import Exporter, Place, Schedule, fit, make_game

    keep_freed_memory()
    place_keys = {key: cfg["trainer"][key] for key in ("devices", "num_nodes", "precision")}
    place = Place(device=resolve_device(cfg["device"]), **place_keys)
    if cfg["trainer"]["threads"]:
        torch.set_num_threads(cfg["trainer"]["threads"])
    folder = ensure_folder(cfg["run_dir"])
    data = build(cfg["data"], split="train")
    parts = {**build(cfg["model"]), **build(cfg["loss"]), **build(cfg["training"])}
    game, lines = make_game(data, **parts, place=place, seed=cfg["seed"])
    print("\n".join(lines))
    tracker = build(cfg["tracking"], output_dir=folder, job_type="train", name=cfg["name"], config=cfg, notes=command_line())
    batches = Batches(data, game.recipe.batch_size, seed=cfg["seed"], mirror=cfg["mirror"], start_nimg=lambda: game.images_seen)
    export = Exporter(folder, tracker, seed=cfg["seed"], num_samples=cfg["num_samples"], model_name=folder.name,
                      metadata={"data": data.describe(), "derived": lines})
    with tracker:
        status = fit(game, batches, schedule=Schedule(**cfg["schedule"]), place=place, output_dir=folder, tracker=tracker, export=export)
        tracker.summary({"kimg": game.images_seen / 1000, "status": status})
    print(f"{status}: {folder}")
    return game.images_seen / 1000


if __name__ == "__main__":
    main()
