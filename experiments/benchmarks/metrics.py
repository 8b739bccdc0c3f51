"""Cost of metrics: `python experiments/benchmarks/metrics.py`.

One pass: the Fréchet distance alone against Fréchet distance, kernel distance and precision/recall together, on
generated images, with the features of the real images cached in both cases.

Side by side: the same three numbers of the same two sets of images through the same feature extractor, by this package
(with its intervals) and by torch-fidelity, nothing cached, each in its own process: seconds, and the peak of the
process's memory above its initial memory (Linux only).

On a shared machine processor seconds are more reliable than wall time; they say little about a GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timing import best, in_turns
from torch import Tensor

import wplus
from wplus.checkpoint import Models
from wplus.core.progress import silent
from wplus.core.runtime import resolve_device
from wplus.data import ImageSet, cat_images
from wplus.evaluation.context import EvalContext
from wplus.evaluation.frechet import fd
from wplus.evaluation.kernel import kd
from wplus.evaluation.manifold import pr
from wplus.evaluation.measure import measure
from wplus.evaluation.sampler import generate
from wplus.pretrained.effnet_lite0 import EffNetLite0Features

MODEL = Path(__file__).resolve().parents[1] / "models" / "cats32.safetensors"
SIDES = ("wplus", "torch-fidelity")


def main() -> None:
    """Run both comparisons, or one side of the second in the process started for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=3000, help="generated images, and as many real ones")
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--images", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:
        print(json.dumps(one_side(options)))
        return
    device = resolve_device(options.device)
    print(f"{options.num} generated and {options.num} real images, {device}, {torch.get_num_threads()} threads")
    one_pass(options, device)
    side_by_side(options, device)


# One pass


def one_pass(options: argparse.Namespace, device: torch.device) -> None:
    """Print the seconds of one metric and of three, and their ratio."""
    models, real, extractor = wplus.load(options.model, device), real_images(options), EffNetLite0Features()
    everything, processor = metrics(extractor, options.num), {"fd": [], "fd, kd, pr": []}

    def task(names: str, cache_dir: str) -> Callable[[], object]:
        def run() -> None:
            began = time.process_time()
            context = EvalContext(models, real, None, options.batch, device, progress=silent, cache_dir=cache_dir)
            list(measure(context, {name: everything[name] for name in names.split(", ")}))
            processor[names].append(time.process_time() - began)

        return run

    with tempfile.TemporaryDirectory() as cache:
        task("fd, kd, pr", cache)()
        taken = in_turns({names: task(names, cache) for names in processor}, device, options.turns)
    print("\nOne pass         seconds (best)   of the processor")
    for names, values in processor.items():
        print(f"  {names:14s} {best(taken[names]):14.2f} {best(values):18.2f}")
    ratios = (best(of["fd, kd, pr"]) / best(of["fd"]) for of in (taken, processor))
    print("  {:14s} {:14.3f} {:18.3f}".format("ratio", *ratios))


def metrics(extractor: Any, num: int) -> dict[str, Any]:
    """Build the three metrics from their configs, without the distance of two halves of the real images."""
    return {
        "fd": partial(fd, extractor=extractor, num_generated=num, floor="none"),
        "kd": partial(kd, extractor=extractor, num_generated=num),
        "pr": partial(pr, extractor=extractor, num_generated=num),
    }


def real_images(options: argparse.Namespace) -> ImageSet:
    """Load cats at the generator's resolution."""
    return cat_images(resolution=32, num_images=2 * options.num, split="all").subset(torch.arange(options.num))


# Side by side


def side_by_side(options: argparse.Namespace, device: torch.device) -> None:
    """Start the sides in turns, and print their costs and results."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images.pt"
        torch.save([generated_images(options, device), real_images(options).images], images)
        for side in [side for _ in range(options.turns) for side in SIDES]:
            command = [sys.executable, __file__, "--side", side, "--images", str(images), "--num", str(options.num)]
            command += ["--device", options.device, "--batch", str(options.batch)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    print("\nSide by side     seconds (best)   of the processor   peak memory   values")
    for side, runs in found.items():
        wall, processor, memory = (min(run[key] for run in runs) for key in ("seconds", "processor", "peak_mb"))
        values = ", ".join(f"{name} {value:.5g}" for name, value in runs[0]["values"].items())
        print(f"  {side:14s} {wall:14.2f} {processor:18.2f} {memory:10.0f} MB   {values}")


def one_side(options: argparse.Namespace) -> dict[str, Any]:
    """Wall seconds, processor seconds, peak memory in MB, and the values."""
    import torch_fidelity  # noqa: F401 (both sides import it before the clock starts)

    device = resolve_device(options.device)
    generated, real = torch.load(options.images, weights_only=True)
    extractor = EffNetLite0Features().to(device)
    extractor(real[:2].to(device))
    run = {"wplus": with_wplus, "torch-fidelity": with_torch_fidelity}[options.side]
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    held, began, processor = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    values = run(generated, real, extractor, options, device)
    taken = {"seconds": time.perf_counter() - began, "processor": time.process_time() - processor}
    return taken | {"peak_mb": memory_mb("VmHWM") - held, "values": values}


def memory_mb(entry: str) -> float:
    """Read an entry of this process's status: VmRSS, its current memory, or VmHWM, its peak."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry)]
    return int(line.split()[1]) / 1024


def generated_images(options: argparse.Namespace, device: torch.device) -> Tensor:
    """Images of the model, uint8 (N, C, H, W) in memory."""
    generator = wplus.load(options.model, device).generator
    batches = torch.arange(options.num).split(options.batch)
    return torch.cat([generate(generator, batch.tolist(), seed=0, device=device).cpu() for batch in batches])


def as_set(images: Tensor) -> ImageSet:
    """Image set with numbers as names."""
    return ImageSet(images, None, [str(index) for index in range(len(images))])


def with_wplus(
    generated: Tensor, real: Tensor, extractor: Any, options: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """Measure with this package, nothing cached."""
    context = EvalContext(
        Models(), as_set(real), None, options.batch, device, progress=silent, samples=as_set(generated)
    )
    found = {m.name: m.value for m in measure(context, metrics(extractor, options.num))}
    return {name: value for name, value in found.items() if "std" not in name}


def with_torch_fidelity(
    generated: Tensor, real: Tensor, extractor: Any, options: argparse.Namespace, device: torch.device
) -> dict[str, float]:
    """Measure with torch-fidelity's defaults but our extractor, nothing cached."""
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
            """Layer, the same for every metric."""
            return "pooled"

        @staticmethod
        def can_be_compiled() -> bool:
            """Whether torch-fidelity may compile it."""
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
    return calculate_metrics(input1=Pixels(generated), input2=Pixels(real), verbose=False, **chosen, **computing)


class Pixels(torch.utils.data.Dataset):
    """Single images, as torch-fidelity requests them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 (C, H, W)."""
        return self.images[index]


if __name__ == "__main__":
    main()
