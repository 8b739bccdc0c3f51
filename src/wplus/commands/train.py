"""Training of generators, encoders and attribute classifiers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from wplus.commands.entry import entry_point
from wplus.commands.record import record_fields
from wplus.config import build, refuse_sweep_of_processes
from wplus.errors import Interrupted

if TYPE_CHECKING:
    from pathlib import Path

    from wplus.core.metric_result import Direction
    from wplus.core.runtime import Runtime
    from wplus.data.on_device import Place
    from wplus.tracking import Tracker
    from wplus.training.best import Best
    from wplus.training.build import Training
    from wplus.training.loop import Schedule
    from wplus.training.module import TrainingModule


SETTINGS = "settings.txt"  # every chosen or derived setting, with the reason
TRANSLATORS = ("pix2pix", "cyclegan")
# Groups; each training declares which of them it needs.
CHOICES = ("model", "discriminator", "loss", "augment", "anchor", "encoder", "perceptual", "image_loss")


@entry_point(resolve="wplus.training.hparams.resolve_config")
def train(cfg: dict[str, Any]) -> float:
    """Train a generator or an encoder; repeating the command continues.

    Returns the best value of the objective, or the thousands of images seen if none is recorded.
    """
    from wplus.core.files import ensure_folder
    from wplus.core.memory import peak_memory
    from wplus.core.runtime import Runtime
    from wplus.tracking import Tracker
    from wplus.training.best import Best
    from wplus.training.hparams import filled_in
    from wplus.training.loop import Schedule, resumable

    refuse_sweep_of_processes(cfg["trainer"])
    runtime = Runtime.prepare(cfg["device"], **cfg["trainer"])
    schedule = Schedule(**cfg["schedule"])
    training = chosen_training(cfg, runtime)
    data, folder = training.data, ensure_folder(cfg["run_dir"])
    resumable(training.module, folder, schedule)  # checked before anything is recorded
    prepared = training.module.prepare(runtime)
    best, place = Best(folder, cfg["objective"]), image_place(training, runtime)
    record = filled_in(cfg, training.resolved) | {"data": {**cfg["data"], "resolution": data.resolution}}
    with open_tracker(record, folder) if runtime.rank == 0 else Tracker() as tracker:
        tracker.decided(decided(record, training, runtime) | {"trainer.images": place} | prepared)
        record_start(cfg, training, runtime, folder=folder, tracker=tracker)
        if runtime.rank == 0:
            print("".join(f"{line}\n" for line in ways(prepared)), end="")
        with peak_memory(runtime.device) as memory:
            received = run_training(
                cfg, training, schedule, runtime, place=place, folder=folder, tracker=tracker, best=best
            )
        kimg = training.module.images_seen / 1000
        status = "finished" if received is None else "interrupted"
        tracker.summary(costs(training.module, memory.most, protocol={"status": status, "device": str(runtime.device)}))
        print("; ".join(filter(None, [f"{status} at {kimg:g} kimg: {folder}", str(best), training.module.caution])))
        if received is not None:
            raise Interrupted(received)
    return kimg if best.value is None else best.value


def ways(prepared: dict[str, Any]) -> list[str]:
    """A line for each optimisation that was requested or failed, with its outcome."""
    lines = []
    for key, found in prepared.items():
        if isinstance(found, dict):
            lines.append(f"{key}: " + "; ".join(f"{phase} {how}" for phase, how in found.items()))
        elif found.startswith("off: "):
            lines.append(f"{key}: {found}")
    return lines


COSTS: dict[str, tuple[str, str, Direction]] = {  # name -> meaning, unit, direction
    "train/kimg": ("Images shown during training, in thousands.", "kimg", "neither"),
    "train/minutes": ("Time spent in training steps, without snapshots.", "min", "neither"),
    "train/sec_per_kimg": ("Time of the steps per thousand images, without snapshots.", "s", "lower"),
    "train/peak_memory_gb": (
        "Peak memory, including snapshots, of the GPU's tensors, or of this process on a CPU.", "GiB", "lower"
    ),
}  # fmt: skip


def costs(module: TrainingModule, peak_mib: float | None, *, protocol: dict[str, Any]) -> dict[str, Any]:
    """The cost of a training, for `Tracker.summary`: images, time, memory."""
    from wplus.core.metric_result import MetricResult

    kimg, seconds = module.images_seen / 1000, module.seconds
    values = [kimg, seconds / 60, seconds / kimg if kimg else None, None if peak_mib is None else peak_mib / 1024]
    return {
        name: MetricResult(name, value, protocol, None, *info).entry()
        for (name, info), value in zip(COSTS.items(), values, strict=True) if value is not None
    }  # fmt: skip


def chosen_training(cfg: dict[str, Any], runtime: Runtime) -> Training:
    """Build the chosen training of configs/training: module, data, view and hyper-parameters."""
    from wplus.probes import ProbeRunner
    from wplus.training.transfer import Transfer

    check_domains(cfg)
    shared = {"extractor": partial(build, cfg["extractor"]), "cache_dir": cfg["cache_dir"]}
    return build(
        cfg["training"],
        **{name: partial(build, cfg[name]) if cfg.get(name) else None for name in CHOICES},
        probes=partial(ProbeRunner, build(cfg["probes"]), **shared) if cfg.get("probes") else None,
        data=partial(images, cfg["data"]),
        checkpoint=cfg["checkpoint"],
        transfer=Transfer(**cfg["transfer"]),
        runtime=runtime,
        seed=cfg["seed"],
        num_samples=cfg["num_samples"],
    )


def check_domains(cfg: dict[str, Any]) -> None:
    """Raise UserError, before anything is drawn or read, if a translator would be trained on a single set of images."""
    model = cfg["training"]["_target_"].rpartition(".")[2].removesuffix("_training")
    if model in TRANSLATORS:
        from hydra.utils import get_object

        from wplus.data.domains import refuse_one_set

        refuse_one_set(get_object(cfg["data"]["_target_"]), paired=model == "pix2pix", model=model)


def image_place(training: Training, runtime: Runtime) -> Place:
    """Where the images are kept during training."""
    from wplus.data.on_device import place_of

    sets = [getattr(training.data, "a", None), training.data]  # both domains, if there are two
    return place_of([images for images in sets if images is not None], runtime.device, runtime.images)


def decided(cfg: dict[str, Any], training: Training, runtime: Runtime) -> dict[str, Any]:
    """Values besides the hyper-parameters that the configuration leaves undetermined, by key."""
    import torch

    module = training.module
    is_bf16 = any(getattr(part, "compute_dtype", None) == torch.bfloat16 for part in module.modules())
    found: dict[str, Any] = {
        "trainer.precision": "bf16" if is_bf16 else "float32",
        "trainer.threads": torch.get_num_threads(),
    }
    if cfg["training"].get("micro_batch_size", 0) is None:
        found["training.micro_batch_size"] = module.batch_size // runtime.world_size
    if (cfg.get("encoder") or {}).get("input_size", 0) is None:
        found["encoder.input_size"] = module.exported["encoder"].input_size
    own_loss = (cfg.get("model") or {}).get("loss")
    return found if cfg.get("loss") or own_loss is None else found | {"loss": own_loss}


def record_start(cfg: dict[str, Any], training: Training, runtime: Runtime, *, folder: Path, tracker: Tracker) -> None:
    """Record the data, the initial networks, and every derived setting with the reason for it.

    The settings are written to `SETTINGS`; the terminal shows one line.
    """
    from wplus.core.files import atomic_write
    from wplus.training.hparams import explain, summary

    data = training.data
    if runtime.rank == 0:
        lines = f"{explain(training.resolved)}\n".encode()
        atomic_write(folder / SETTINGS, lambda file: file.write(lines))
        print(f"Training {sizes(training)} on {len(data)} images of {data.resolution} px in {folder}, see {SETTINGS}")
    tracker.use_artifact(None, name=f"data-{data.fingerprint}", kind="dataset", metadata=data.describe())
    if cfg["checkpoint"]:
        tracker.use_artifact(cfg["checkpoint"], name="generator", kind="model")
    if training.transfer is not None and runtime.rank == 0:
        training.transfer.record(folder, tracker)
    tracker.summary(summary(training.resolved, training.infos))


def sizes(training: Training) -> str:
    """A short description of what is trained: `stylegan2 (generator 1.04 M, discriminator 0.98 M parameters)`."""
    found = training.module.exported
    family = type(next(iter(found.values()))).__module__.rpartition(".")[2]
    counts = ", ".join(f"{role} {net.num_parameters / 1e6:.3g} M" for role, net in found.items())
    return f"{family} ({counts} parameters)"


def run_training(
    cfg: dict[str, Any], training: Training, schedule: Schedule, runtime: Runtime, *, place: Place, folder: Path,
    tracker: Tracker, best: Best,
) -> int | None:  # fmt: skip
    """Train to the end of the schedule, resuming from the folder's checkpoints; returns the signal that stopped it."""
    from wplus.training.best import Headline
    from wplus.training.loop import fit
    from wplus.training.snapshot import Exporter

    module, data = training.module, training.data
    batches = training.batches(
        data, module.batch_size, seed=cfg["seed"], mirror=cfg["mirror"], world_size=runtime.world_size,
        rank=runtime.rank, start_nimg=lambda: module.images_seen, device=runtime.device, place=place,
    )  # fmt: skip
    headline = Headline(best)
    for sink in (best, headline):
        tracker.add(sink)
    export = Exporter(folder, tracker, training.view, data=data.describe(), seed=cfg["seed"], best=best)
    return fit(
        module, batches, schedule=schedule, runtime=runtime, output_dir=folder, tracker=tracker, export=export,
        note=headline.__str__,
    )  # fmt: skip


def images(node: dict[str, Any], *, split: str, resolution: int | None = None) -> Any:
    """The images of a split; a generator's `resolution` is the default, and no other is allowed."""
    if resolution is not None and node.get("resolution") not in (None, resolution):
        from wplus.errors import UserError

        raise UserError(
            f"data.resolution={node['resolution']} differs from the generator's, {resolution}; leave it out."
        )
    return build(node, split=split, **({} if resolution is None else {"resolution": resolution}))


def open_tracker(cfg: dict[str, Any], folder: Path, job_type: str = "train") -> Any:
    """Open the tracker of this run; only the first of several processes has one."""
    return build(cfg["tracking"], output_dir=folder, job_type=job_type, **record_fields(cfg))


@entry_point
def classifier(cfg: dict[str, Any]) -> float:
    """Train an attribute classifier and write classifier.safetensors. Returns the mean accuracy over factors."""
    from wplus.core.files import ensure_folder
    from wplus.core.runtime import resolve_device
    from wplus.pretrained.attribute_classifier import check_name, save_classifier
    from wplus.pretrained.attribute_training import Schedule
    from wplus.training.classifier import accuracies, train

    check_name(cfg["classifier"])
    schedule = Schedule(**cfg["schedule"], seed=cfg["seed"])
    device, folder = resolve_device(cfg["device"]), ensure_folder(cfg["run_dir"])
    images, held_out = (build(cfg["data"], split=split) for split in ("train", "held_out"))
    training = {key: cfg[key] for key in ("factors", "min_share", "num_contrasts", "width")}
    with open_tracker(cfg, folder, "classifier") as tracker:
        shared = {"folder": folder, "schedule": schedule, "device": device, "tracker": tracker}
        classifier = train(images, name=cfg["classifier"], **training, **shared)
        file = save_classifier(folder / "classifier.safetensors", classifier)
        found = list(accuracies(classifier, held_out, device=device))
        tracker.results(found)
        tracker.decided({"factors": [*classifier.classes]})
        tracker.artifact(file, name=f"classifier-{classifier.name}", kind="model", metadata=classifier.protocol)
    print("\n".join(map(str, found)))
    print(f"Classifier: {file}, {len(classifier.attributes)} attributes")
    return sum(m.value for m in found) / len(found)
