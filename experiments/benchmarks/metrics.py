"""Cost of metrics: `python experiments/benchmarks/metrics.py --num 2000`.

One pass: the Fréchet distance alone against Fréchet distance, kernel distance and precision/recall together, on images
that a generator makes, what is known of the real images cached in both.

Side by side: the same three numbers of the same two sets of images through the same feature extractor, by this package
(with its intervals) and by torch-fidelity, each in a process of its own: seconds, and peak memory above that of a
process that has imported and built all the same and measured nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import best, in_turns, middle
from torch import Tensor

import wplus
from wplus.data import ImageSet, cat_images
from wplus.devices import resolve_device
from wplus.evaluation.bench import Bench, NoModel
from wplus.evaluation.extractors import EffNetLite0Features
from wplus.evaluation.frechet import FrechetDistance
from wplus.evaluation.kernel import KernelDistance
from wplus.evaluation.manifold import PrecisionRecall
from wplus.evaluation.measure import measure
from wplus.evaluation.sampler import generate
from wplus.progress import silent

MODEL = Path(__file__).resolve().parents[1] / "models" / "cats32.safetensors"
SIDES = ("nothing", "wplus", "torch-fidelity")


def main() -> None:
    """Both comparisons, or one side of the second, for the process that was started for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=2000, help="generated images, and as many real ones")
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:
        print(json.dumps(one_side(options)))
        return
    device = resolve_device(options.device)
    print(f"{options.num} generated and {options.num} real images, {device}, {torch.get_num_threads()} threads")
    one_pass(options, device)
    side_by_side(options)


# One pass


def one_pass(options: argparse.Namespace, device: torch.device) -> None:
    """Print the seconds of one metric and of three, and their ratio."""
    models, real, extractor = wplus.load(options.model, device), real_images(options), EffNetLite0Features()
    everything = metrics(extractor, options.num)

    def task(names: tuple[str, ...], cache_dir: str) -> Callable[[], object]:
        def run() -> object:
            bench = Bench(models, real, options.held, options.batch, device, progress=silent, cache_dir=cache_dir)
            return list(measure(bench, {name: everything[name] for name in names}))

        return run

    options.held = None
    with tempfile.TemporaryDirectory() as cache:
        tasks = {"fd": task(("fd",), cache), "fd, kd, pr": task(("fd", "kd", "pr"), cache)}
        taken = in_turns(tasks, device, options.turns)
    ratios = [three / one for one, three in zip(taken["fd"], taken["fd, kd, pr"], strict=True)]
    print("\nOne pass        seconds (best)")
    for name in tasks:
        print(f"  {name:12s} {best(taken[name]):9.2f}")
    print(f"  ratio        {middle(ratios):9.3f}  (each turn: {', '.join(f'{ratio:.3f}' for ratio in ratios)})")


def metrics(extractor: Any, num: int) -> dict[str, Any]:
    """The three, as their configs have them."""
    return {
        "fd": FrechetDistance(extractor=extractor, num_generated=num),
        "kd": KernelDistance(extractor=extractor, num_generated=num),
        "pr": PrecisionRecall(extractor=extractor, num_generated=num),
    }


def real_images(options: argparse.Namespace) -> ImageSet:
    """Cats, at the generator's size."""
    return cat_images(resolution=32, num_images=2 * options.num, split="all").subset(torch.arange(options.num))


# Side by side


def side_by_side(options: argparse.Namespace) -> None:
    """Start each side in turns and print what it took and found."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for _ in range(options.turns):
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--num", str(options.num), "--model", options.model]
            command += ["--device", options.device, "--batch", str(options.batch)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    print("\nSide by side     seconds (best)   peak memory   values")
    idle = min(run["peak_mb"] for run in found["nothing"])
    for side in SIDES[1:]:
        runs = found[side]
        values = ", ".join(f"{name} {value:.5g}" for name, value in runs[0]["values"].items())
        memory = min(run["peak_mb"] for run in runs) - idle
        print(f"  {side:14s} {best([run['seconds'] for run in runs]):14.2f} {memory:10.0f} MB   {values}")
    ratios = [b["seconds"] / a["seconds"] for a, b in zip(found["wplus"], found["torch-fidelity"], strict=True)]
    print(f"  torch-fidelity takes {middle(ratios):.2f} times as long (the median over turns)")


def one_side(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, peak memory of the process in MB, and the values found."""
    import torch_fidelity  # noqa: F401 (every side pays for the import)

    device = resolve_device(options.device)
    generated, real = generated_images(options, device), real_images(options)
    extractor = EffNetLite0Features().to(device)
    run = {"nothing": lambda *_: {}, "wplus": with_wplus, "torch-fidelity": with_torch_fidelity}[options.side]
    extractor(real.images[:2].to(device))
    began = time.perf_counter()
    values = run(generated, real, extractor, options, device)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "values": values}


def generated_images(options: argparse.Namespace, device: torch.device) -> ImageSet:
    """Of the model, in memory; the model is gone afterwards."""
    generator = wplus.load(options.model, device).generator
    batches = torch.arange(options.num).split(options.batch)
    images = torch.cat([generate(generator, batch.tolist(), seed=0, device=device).cpu() for batch in batches])
    return ImageSet(images, None, [str(index) for index in range(len(images))])


def with_wplus(
    generated: ImageSet, real: ImageSet, extractor: Any, options: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """This package, nothing cached."""
    bench = Bench(NoModel(), real, None, options.batch, device, progress=silent, samples=generated)
    found = {m.name: m.value for m in measure(bench, metrics(extractor, options.num))}
    return {name: value for name, value in found.items() if "halves" not in name and "std" not in name}


def with_torch_fidelity(
    generated: ImageSet, real: ImageSet, extractor: Any, options: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """torch-fidelity with its own defaults, but our extractor; nothing cached."""
    from torch_fidelity import calculate_metrics, register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Ours(FeatureExtractorBase):
        """Our extractor behind torch-fidelity's interface."""

        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)
            self.extractor = extractor

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            """One kind of features."""
            return ("pooled",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            """The same for every metric."""
            return "pooled"

        @staticmethod
        def can_be_compiled() -> bool:
            """It is left as it is."""
            return False

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            """uint8 images (N, C, H, W) -> features (N, dim)."""
            return (self.extractor(images),)

    register_feature_extractor("ours", Ours)
    chosen = {
        "feature_extractor": "ours",
        "fid": True,
        "kid": True,
        "prc": True,
        "kid_subset_size": min(1000, options.num),
    }
    computing = {"batch_size": options.batch, "cuda": device.type == "cuda", "save_cpu_ram": True, "cache": False}
    return calculate_metrics(
        input1=Pixels(generated.images), input2=Pixels(real.images), verbose=False, **chosen, **computing
    )


class Pixels(torch.utils.data.Dataset):
    """Images one by one, as torch-fidelity asks for them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 (C, H, W)."""
        return self.images[index]


if __name__ == "__main__":
    main()
