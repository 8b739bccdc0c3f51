"""Train a classifier of attributes: `python experiments/classifier.py data=cats`. See configs/classifier.yaml."""

from __future__ import annotations

from typing import Any

from wplus.config import build, entry_point, record_fields


@entry_point("classifier")
def main(cfg: dict[str, Any]) -> float:
    """Writes classifier.safetensors; returns the mean accuracy over factors, for sweeps."""
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.pretrained.attribute_classifier import check_name, save_classifier
    from wplus.training.classifier import Schedule, accuracies, train

    check_name(cfg["classifier"])
    schedule = Schedule(**cfg["schedule"], seed=cfg["seed"])
    device, folder = resolve_device(cfg["device"]), ensure_folder(cfg["run_dir"])
    images, held_out = (build(cfg["data"], split=split) for split in ("train", "held_out"))
    training = {key: cfg[key] for key in ("factors", "min_share", "num_contrasts", "width")}
    with build(cfg["tracking"], output_dir=folder, job_type="classifier", **record_fields(cfg)) as tracker:
        shared = {"folder": folder, "schedule": schedule, "device": device, "tracker": tracker}
        classifier = train(images, name=cfg["classifier"], **training, **shared)
        file = save_classifier(folder / "classifier.safetensors", classifier)
        found = list(accuracies(classifier, held_out, device=device))
        for m in found:
            entry = {"value": m.value, "protocol": m.protocol, "interval": m.interval}
            tracker.summary({f"classifier/{m.name}": entry})
        tracker.artifact(file, name=f"classifier-{classifier.name}", kind="model", metadata=classifier.protocol)
    print("\n".join(map(str, found)))
    print(f"Classifier: {file}, {len(classifier.attributes)} attributes")
    return sum(m.value for m in found) / len(found)


if __name__ == "__main__":
    main()
