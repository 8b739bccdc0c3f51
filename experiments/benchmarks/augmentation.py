"""Cost of augmentation relative to the discriminator: `python experiments/benchmarks/augmentation.py --size demo s64`.

For every size, prints the milliseconds for sampling the transforms (at p = 0.6) and for applying them, forward and with
the gradient with respect to the images, each also as a share of the discriminator's pass over the same batch.
"""

import argparse

import torch
from timing import best, in_turns, middle
from torch import Tensor
from training import SIZES

from wplus.core.runtime import resolve_device
from wplus.models.stylegan2 import Discriminator
from wplus.training.augment.pipeline import FAMILIES, Pipeline


def main() -> None:
    """Measure every requested size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["demo", "s32", "s64"])
    parser.add_argument("--transforms", choices=FAMILIES, default="bgc")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    for size in options.size:
        show(size, measure(size, options.transforms, resolve_device(options.device), options.turns))


def measure(size: str, transforms: str, device: torch.device, turns: int) -> dict[str, list[float]]:
    """Seconds of every task in every turn."""
    resolution, base, maximum, *_, batch, _ = SIZES[size]
    network = Discriminator(resolution=resolution, channel_base=base, channel_max=maximum).to(device)
    images = torch.randn(batch, 3, resolution, resolution, device=device, requires_grad=True)
    pipeline, strength = Pipeline(transforms), torch.tensor(0.6, device=device)
    view = pipeline.sample(images, strength)

    def there_and_back(result: Tensor) -> None:
        result.sum().backward()

    tasks = {
        "draw": lambda: pipeline.sample(images, strength),
        "apply": lambda: view(images.detach()),
        "apply and gradient": lambda: there_and_back(view(images)),
        "discriminator": lambda: network(images.detach()),
        "discriminator and gradients": lambda: there_and_back(network(images)),
    }
    return in_turns(tasks, device, turns)


def show(size: str, taken: dict[str, list[float]]) -> None:
    """Print one table per size."""
    print(f"\n{size}, batch {SIZES[size][5]}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, against in (
        ("draw", "discriminator"),
        ("apply", "discriminator"),
        ("apply and gradient", "discriminator and gradients"),
    ):
        shares = [a / b for a, b in zip(taken[name], taken[against], strict=True)]
        print(f"  {name:20s} {best(taken[name]) * 1e3:8.1f} ms, {middle(shares):6.1%} of {against}")


if __name__ == "__main__":
    main()
