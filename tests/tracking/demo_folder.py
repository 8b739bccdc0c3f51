"""A folder as the demo writes it, made by trackers from drawn pictures."""

import math
from pathlib import Path
from typing import Any

import torch

from wplus.core.images import save_png
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.tables import PAIRED_CELLS, Comparison, paired_cells
from wplus.core.video import GifWriter, Mp4Writer
from wplus.tracking import Tracker
from wplus.tracking.local import open_tracker

INFO = {
    "psnr": MetricInfo(meaning="Peak signal-to-noise ratio of the pixels.", unit="dB", direction="higher"),
    "psnr_db": MetricInfo(meaning="Peak signal-to-noise ratio of the pixels.", unit="dB", direction="higher"),
    "step_cv": MetricInfo(meaning="How uneven the steps are; 0 is perfectly even.", direction="lower"),
}


def opened(folder: Path, job_type: str, **changes: Any) -> Tracker:
    return open_tracker(output_dir=folder, job_type=job_type, name="cats", **changes)


def picture(path: Path, *, hue: float, height: int = 96, width: int = 192) -> Path:
    """A smooth gradient; `hue` in [0, 1] tells pictures apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return save_png(path, torch.stack([x, y, torch.full_like(x, 2 * hue - 1)]))


def film(path: Path) -> Path:
    """Ten moving frames, mp4 or gif by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    with (Mp4Writer if path.suffix == ".mp4" else GifWriter)(path, fps=10) as writer:
        for step in range(10):
            writer.add(ramp.roll(6 * step, dims=3))
    return path


def write_train(folder: Path) -> None:
    with opened(folder, "train", notes="python train.py experiment=cats32 run_dir=runs/demo/train") as tracker:
        tracker.use_artifact(None, name="cats", kind="dataset", metadata={"fingerprint": "0123456789abcdef"})
        for step in range(400):
            kimg = (step + 1) * 0.05
            wobble = math.sin(step) * 0.1
            tracker.log(
                {
                    "train/generator/loss": 0.8 + wobble + kimg / 20,
                    "train/discriminator/loss": 1.3 - wobble - kimg / 40,
                    "train/logits/real": 0.3 + kimg / 15,
                    "train/logits/fake": -0.3 - kimg / 15 + wobble,
                    "train/r1/penalty": math.nan if 100 < step < 120 else 0.5 + wobble,
                    "progress/kimg_per_s": 0.05 + wobble / 100,
                    "train/Gmain/grad_norm": 1.0 + abs(wobble),
                },
                kimg=kimg,
            )
        tracker.describe({"train/r1/penalty": MetricInfo(meaning="Slope of the discriminator at real images.")})
        tracker.image(
            "samples/real", picture(folder / "samples" / "real.png", hue=0.3), caption="real images", kimg=0.0
        )
        for index, kimg in enumerate((0.0, 10.0, 20.0)):
            path = picture(folder / "samples" / f"{kimg:g}.png", hue=index / 2)
            tracker.image("samples/fixed_latents", path, kimg=kimg)
        model = folder / "model.safetensors"
        model.write_bytes(b"weights")
        tracker.artifact(model, name="cats", kind="model", aliases=["latest"])
        why = {"gamma": (0.02, "0.0002 x 32 px squared / batch 32"), "batch_size": (32, "given")}
        tracker.summary({f"derived/{name}": {"value": v, "protocol": {"why": w}} for name, (v, w) in why.items()})


def write_inversion(folder: Path, space: str, *, l2: float, model: Path | None = None) -> None:
    with opened(folder, "invert", notes=f"python invert.py space={space}") as tracker:
        tracker.use_artifact(model, name="model", kind="model")
        tracker.image("invert/grid", picture(folder / "grid.png", hue=0.2), caption="target, inversion")
        tracker.image("invert/convergence", picture(folder / "convergence.png", hue=0.9))
        protocol = {"num_images": 8, "distance": {"name": "effnet_lite0", "sha256": "ab" * 32}}
        values = {"l2": l2, "psnr": -10 * math.log10(l2 / 4), "effnet_lite0": l2 * 3, "seconds_per_image": 1.5}
        for name, value in values.items():
            info, interval = (
                INFO.get(name, MetricInfo(meaning=f"The {name} of an inversion.")),
                (value * 0.9, value * 1.1),
            )
            entry = MetricResult.of(info, name, value, protocol=protocol, interval=interval).entry()
            tracker.summary({f"invert/{name}": entry})


def write_interpolation(folder: Path) -> None:
    with opened(folder, "interpolate", notes="python interpolate.py path=slerp") as tracker:
        tracker.video("interpolate/video", film(folder / "video.mp4"))
        tracker.image("interpolate/animation", film(folder / "video.gif"))
        tracker.image(
            "interpolate/filmstrip", picture(folder / "strip.png", hue=0.5, width=600), caption="a to b: slerp"
        )
        tracker.image("interpolate/distances", picture(folder / "distances.png", hue=0.7))
        entry = MetricResult.of(INFO["step_cv"], "step_cv", 0.81, protocol={"distance": "effnet_lite0"}).entry()
        tracker.summary({"interpolate/step_cv": entry})


def write_evaluation(folder: Path) -> None:
    with opened(folder, "evaluate", notes="wplus evaluate") as tracker:
        protocol = {"extractor": "effnet_lite0 <stages 1 & 2>", "num_real": 2500, "num_fake": 2500}
        tracker.summary(
            {
                "evaluate/fd_effnet_lite0": {"value": 812.3456, "protocol": protocol, "interval": (800.0, 825.0)},
                "evaluate/ppl_w_end": {"value": 55.5, "protocol": {"epsilon": 1e-4}},
            }
        )


def write_methods(folder: Path, key: str, job_type: str) -> None:
    """Three methods on eight items, as `compare.py` and the metric `interpolation` track them."""
    base = {f"{index}": {"psnr_db": 20.0 + index, "step_cv": 0.5} for index in range(8)}
    rows = {"w_lerp": base, "z_slerp": {name: {**row, "psnr_db": row["psnr_db"] + 2} for name, row in base.items()}}
    rows["cross-dissolve <of pixels>"] = {name: {"step_cv": 0.1} for name in base}
    methods = Comparison(rows, "w_lerp", info=INFO)
    with opened(folder, job_type, notes=f"python experiments/{job_type}.py") as tracker:
        entries = {name: table.entries("", {"num_items": 8, "path": name}) for name, table in methods.tables.items()}
        tracker.methods(key, entries)
        tracker.table(f"{key}_paired", PAIRED_CELLS, paired_cells(methods.paired))
        tracker.image(f"{key}_pair", picture(folder / "pair.png", hue=0.1), caption="a pair of images")


def write_demo(root: Path) -> Path:
    """All parts."""
    write_train(root / "train")
    for space, l2 in (("z", 0.2), ("w", 0.1), ("w+", 0.02)):
        write_inversion(root / "invert" / space, space, l2=l2, model=root / "train" / "model.safetensors")
    picture(root / "invert" / "grid.png", hue=0.4)
    write_interpolation(root / "interpolate")
    write_evaluation(root / "evaluate")
    return root
