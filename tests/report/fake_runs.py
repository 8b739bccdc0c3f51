"""Folders of runs as the commands leave them, written instantly: sweeps of inversions and of trainings."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from wplus.core.files import write_json
from wplus.sweeps.spec import Job, Spec, Stage
from wplus.sweeps.state import SweepFolder

WEIGHT = "inverter.loss_weights.perceptual"
INFO = {
    "psnr_db": ("Peak signal-to-noise ratio of the pixels.", "dB", "higher"),
    "prior_distance": ("Distance of the latent from the prior.", "", "lower"),
    "seconds": ("Wall time of an image.", "s", "lower"),
    "num_steps_done": ("Steps until the end.", "", "neither"),
}
ENVIRONMENT = {
    "versions": {"python": "3.11", "torch": "2.14"},
    "git": {"sha": "0123abc", "state": "clean"},
    "device": {"processor": "a processor", "cores": "2"},
}


def entry(name: str, value: float, interval: tuple[float, float] | None = None) -> dict:
    meaning, unit, direction = INFO[name]
    return {"value": value, "interval": interval, "protocol": {"num_images": 3, "distance": {"name": "effnet_lite0"}},
            "meaning": meaning, "unit": unit, "direction": direction}  # fmt: skip


def picture(path: Path, *, hue: float, size: tuple[int, int] = (32, 32), noise: bool = False) -> Path:
    """A gradient whose `hue` in [0, 1] distinguishes pictures; with noise no codec can compress it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    pixels = np.stack([255 * x / size[0], 255 * y / size[1], np.full(x.shape, 255 * hue)], axis=2).astype(np.uint8)
    if noise:
        pixels = np.random.default_rng(round(hue * 1e6)).integers(0, 256, pixels.shape, np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)
    return path


def film(path: Path, *, side: int = 32, frames: int = 10, noise: bool = False) -> Path:
    """An mp4 that gets brighter, or that is noise."""
    writer = imageio_ffmpeg.write_frames(path, (side, side), fps=10, codec="libx264", macro_block_size=2)
    writer.send(None)
    drawn = np.random.default_rng(0)
    for step in range(frames):
        pixels = np.full((side, side, 3), 20 * step % 256, np.uint8)
        writer.send(drawn.integers(0, 256, pixels.shape, np.uint8) if noise else pixels)
    writer.close()
    return path


def write_run(folder: Path, kind: str, values: dict, question: dict, **result: object) -> Path:
    """Write result.json and run.json."""
    made_from = {"model": {"kind": "model", "file": "cats.safetensors"}}
    content = {"job_type": kind, "name": "cats", "command": f"wplus {kind}", "status": "finished", "seconds": 12.5,
               "values": values, "methods": {}, "info": {}, "files": {}, "artifacts": {}, "inputs": made_from,
               "config": {}, **ENVIRONMENT, **result}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(content))
    asked = {key: int(value) if value in (1.0, 10.0) else value for key, value in sorted(question.items())}
    claim = {"kind": kind, "digest": folder.name, "question": asked}  # as `wplus.core.claim.question` has it
    (folder / "run.json").write_text(json.dumps(claim))
    return folder


def write_inversion(
    folder: Path, question: dict, *, images: int = 3, size: int = 32, film: bytes = b"", noise: bool = False
) -> Path:
    """Write an inversion that is better the larger its space, its weight and its seed."""
    space, weight, seed = question["space"], float(question[WEIGHT]), int(question["seed"])
    psnr = (24.0 if space == "w+" else 20.0) + math.log10(weight) + 0.1 * seed
    numbers = {"psnr_db": psnr, "prior_distance": psnr / 10, "seconds": 2.0 - 0.01 * seed, "num_steps_done": 40.0}
    rows = []
    for index in range(images):
        target = picture(folder / "targets" / f"cat{index}.png", hue=index / images, size=(size, size), noise=noise)
        hue = (index + psnr) / 40 % 1
        image = picture(folder / "images" / f"cat{index}.png", hue=hue, size=(size, size), noise=noise)
        history = {"loss": np.geomspace(1, 0.1 / psnr, 40).astype(np.float32)}
        (folder / "history").mkdir(exist_ok=True)
        save_file(history, folder / "history" / f"cat{index}.safetensors")
        paths = [{"file": path.relative_to(folder).as_posix()} for path in (target, image)]
        rows.append([f"cat{index}", *paths, psnr + index])
    write_json(folder / "tables" / "invert_images.json",
               {"columns": ["name", "target", "inversion", "psnr_db"], "rows": rows})  # fmt: skip
    files = {"invert/images": ["tables/invert_images.json"], "invert/grid": ["grid.png"]}
    picture(folder / "grid.png", hue=0.5)
    logged = [{"time": 1, "invert/grid": {"file": "grid.png", "caption": "target, inversion"}}]
    if film:
        (folder / "inversion.mp4").write_bytes(film)
        files["invert/video"] = ["inversion.mp4"]
        logged.append({"time": 2, "invert/video": {"file": "inversion.mp4", "caption": ""}})
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in logged))
    values = {f"invert/{name}": entry(name, value, (value - 0.5, value + 0.5)) for name, value in numbers.items()}
    return write_run(folder, "invert", values, question, files=files)


def write_training(folder: Path, question: dict, *, steps: int = 120, snapshots: int = 3) -> Path:
    """Write a training with fluctuating losses."""
    gamma, seed = float(question["training.hparams.gamma"]), int(question["seed"])
    rows = []
    for step in range(steps):
        kimg, wobble = (step + 1) / 10, math.sin(step + seed) / 10
        penalty = "nan" if step == 5 else gamma + wobble
        rows.append({"progress/kimg": kimg, "time": step, "train/generator/loss": 1 + wobble + gamma,
                     "train/discriminator/loss": 1.3 - wobble, "train/r1/penalty": penalty,
                     "val/fd_effnet_lite0": 900 / (1 + kimg) + 10 * seed})  # fmt: skip
    for index in range(snapshots):
        file = picture(folder / "samples" / f"kimg-{index}.png", hue=index / snapshots, size=(96, 64))
        seen = {"file": file.relative_to(folder).as_posix(), "caption": "fixed latents"}
        rows.append({"progress/kimg": index * 4.0, "time": index, "samples/fixed_latents": seen})
    (folder / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {"val/fd_effnet_lite0": {"meaning": "Fréchet distance while training.", "unit": "", "direction": "lower"}}
    values = {"train/kimg": {"value": steps / 10, "protocol": {}},
              "derived/gamma": {"value": gamma, "protocol": {"why": "given"}}}  # fmt: skip
    return write_run(folder, "train", values, question, info=info)


def invert_spec(*, weights: Sequence[float] = (0.1, 1.0), seeds: int = 2, question: str = "Which space?") -> Spec:
    axes = {"space": ["w", "w+"], WEIGHT: list(weights)}
    stage = Stage(verb="invert", overrides=["input=held_out"], axes=axes, seeds=seeds)
    baseline = {"space": "w", WEIGHT: weights[-1]}
    return Spec(name="spaces", stages=[stage], question=question, objective="invert/psnr_db", baseline=baseline)


def write_sweep(folder: Path, spec: Spec, *, lost: int = 0, **options: object) -> Path:
    """Write a sweep whose first `lost` jobs failed before they had a folder, while the others are done."""
    sweep = SweepFolder(folder)
    sweep.claim(spec, "wplus sweep run spaces")
    for number, (job, run) in enumerate(_runs(folder, spec)):
        state = sweep.load(job)
        state.run_dir, state.state = str(run), "done"
        if number < lost:
            (folder / "jobs").mkdir(exist_ok=True)
            trace = folder / "jobs" / f"{job.id}.log"
            trace.write_text("Traceback\n  deep <inside>\nValueError: no such cat\n")
            state.state, state.error, state.traceback, state.run_dir = "failed", "no such cat", str(trace), ""
        else:
            write = write_inversion if job.stage.verb == "invert" else write_training
            write(run, dict(job.point), **options)
        sweep.save(state)
    return folder


def _runs(folder: Path, spec: Spec) -> Iterator[tuple[Job, Path]]:
    for job in spec.jobs():
        yield job, folder.parent / "runs" / f"{spec.name}-{job.id}"
