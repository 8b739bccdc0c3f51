"""Measure a checkpoint: `python experiments/evaluate.py model=... metrics=[fd,ppl_wend]`. See configs/evaluate.yaml."""

from __future__ import annotations

from typing import Any

from wplus.config import build, entry_point, record_fields


@entry_point("evaluate")
def main(cfg: dict[str, Any]) -> float:
    """Returns the first metric's value, for sweeps."""
    from wplus.devices import resolve_device
    from wplus.processes import only_first_speaks, process_group

    with process_group(resolve_device(cfg["device"])) as device, only_first_speaks():
        return evaluate(cfg, device)


def evaluate(cfg: dict[str, Any], device: Any) -> float:
    """What every process does; the first one tracks."""
    from rich import print as show

    import wplus
    from wplus.evaluation.bench import Bench
    from wplus.evaluation.images import Deferred
    from wplus.evaluation.measure import measure, report, table
    from wplus.files import ensure_folder
    from wplus.processes import is_first
    from wplus.tracking import Tracker

    models = wplus.load(cfg["model"], device, needs=["generator"])
    folder = ensure_folder(cfg["run_dir"])
    cfg["data"]["resolution"] = models.generator.resolution
    images = {
        split: Deferred(lambda split=split: build(cfg["data"], split=split)) for split in (cfg["split"], HELD_OUT)
    }
    metrics = {name: build(node) for name, node in cfg["metrics"].items()}
    record = record_fields(cfg)
    tracking = build(cfg["tracking"], output_dir=folder, job_type="evaluate", **record) if is_first() else Tracker()
    with tracking as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        bench = Bench(
            models,
            images[cfg["split"]],
            images[HELD_OUT],
            batch_size=cfg["batch_size"],
            device=device,
            seed=cfg["seed"],
            output_dir=folder,
            cache_dir=cfg["cache_dir"],
            tracker=tracker,
        )
        measurements = list(report(measure(bench, metrics), tracker))
    show(table(measurements))
    print(f"Result: {folder / 'result.json'}")
    return measurements[0].value


HELD_OUT = "held_out"

if __name__ == "__main__":
    main()
