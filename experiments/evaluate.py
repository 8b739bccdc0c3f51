"""Measure a checkpoint: `python experiments/evaluate.py model=... metrics=[fd,ppl_wend]`. See configs/evaluate.yaml."""

from __future__ import annotations

from typing import Any

from wplus.config import build, entry_point, record_fields


@entry_point("evaluate")
def main(cfg: dict[str, Any]) -> float:
    """Returns the first metric's value, for sweeps."""
    from rich import print as show

    import wplus
    from wplus.devices import resolve_device
    from wplus.evaluation.measure import Deferred, measure, report, table
    from wplus.files import ensure_folder

    device = resolve_device(cfg["device"])
    models = wplus.load(cfg["model"], device, needs=["generator"])
    folder = ensure_folder(cfg["run_dir"])
    cfg["data"]["resolution"] = models.generator.resolution
    real = Deferred(lambda: build(cfg["data"], split=cfg["split"]))
    metrics = {name: build(node) for name, node in cfg["metrics"].items()}
    with build(cfg["tracking"], output_dir=folder, job_type="evaluate", **record_fields(cfg)) as tracker:
        tracker.use_artifact(cfg["model"], name="model", kind="model")
        shared = {"batch_size": cfg["batch_size"], "device": device, "seed": cfg["seed"]}
        measurements = list(report(measure(models, metrics, real=real, **shared), tracker))
    show(table(measurements))
    print(f"Result: {folder / 'result.json'}")
    return measurements[0].value


if __name__ == "__main__":
    main()
