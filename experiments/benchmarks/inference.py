"""Speed of generation and inversion: `python experiments/benchmarks/inference.py --size demo s64`.

Prints images per second of the generator at several batch sizes, and optimisation steps per second of inversion
(w, Adam, L2 + the default perceptual distance) as image-steps per second, with the peak memory of the process.
"""

import argparse

import torch
from timing import best, in_turns
from training import SIZES, build_gan, peak_memory_gb

from wplus.core.runtime import keep_freed_memory, resolve_device
from wplus.inversion.optimize import optimize
from wplus.inversion.task import InversionTask
from wplus.losses.perceptual import EffNetLite0Distance

STEPS = 10


def main() -> None:
    """Measure every requested size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["demo", "s64"])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    for size in options.size:
        measure(size, resolve_device(options.device), options.batch, options.turns)


def measure(size: str, device: torch.device, batches: list[int], turns: int) -> None:
    """Print generation and inversion speed of one size."""
    generator = build_gan(size, device, 0)[0].ema
    perceptual = EffNetLite0Distance().to(device)
    print(f"\n{size} on {device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for batch in batches:
        z = torch.randn(batch, generator.z_dim, device=device)
        with torch.no_grad():
            target = generator(z).clamp(-1, 1)
        tasks = {
            "generate": torch.no_grad()(lambda z=z: generator(z)),
            "invert": lambda target=target: optimize(
                InversionTask(generator, target, "w", perceptual), num_steps=STEPS
            ),
        }
        taken = in_turns(tasks, device, turns)
        print(
            f"  batch {batch:3d}: generation {batch / best(taken['generate']):8.1f} images/s, inversion "
            f"{STEPS / best(taken['invert']):6.1f} steps/s = {batch * STEPS / best(taken['invert']):7.1f} "
            f"image-steps/s, peak memory {peak_memory_gb(device):.1f} GB"
        )


if __name__ == "__main__":
    main()
