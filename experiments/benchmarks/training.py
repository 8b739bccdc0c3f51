"""Training speed by phase: `python experiments/benchmarks/training.py --size demo s32 s64`.

For every size, prints milliseconds and operations per second of each phase, images per second with every phase
amortised over its interval, and the rate as a share of a plain matrix product's in the same turn.

`--peer PATH`, a checkout of NVlabs' stylegan2-ada-pytorch or stylegan3, also times that code: the same networks and
phases, without augmentation, in turns with ours in the same process; the ratio is the median of the turns'.
"""

import argparse
import json
import resource
from functools import partial
from pathlib import Path
from typing import Any

import torch
from operations import discriminator_operations, generator_operations, phase_operations
from peer import Peer
from timing import best, in_turns, middle

from wplus.core.runtime import Runtime, float32_convolutions, keep_freed_memory, resolve_device
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models.layers import set_bf16_resolutions
from wplus.models.ops import fused
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.layout import lay_out
from wplus.training.module import update_ema
from wplus.training.penalties import R1
from wplus.training.phases import Phase

#                resolution, channel base, max, w_dim, mapping layers, batch, path length weight
SIZES = {
    "demo": (32, 1024, 128, 128, 2, 32, 0.0),
    "s32": (32, 8192, 256, 512, 8, 16, 2.0),
    "s64": (64, 16384, 512, 512, 8, 8, 2.0),
    "s128": (128, 16384, 512, 512, 2, 32, 2.0),
    "s256": (256, 16384, 512, 512, 2, 16, 2.0),
    # StyleGAN2-ADA's `auto` for one GPU, of `gpu.py`, and what its smoke test takes
    "auto64": (64, 16384, 512, 512, 2, 32, 2.0),
    "auto1024": (1024, 32768, 512, 512, 2, 4, 2.0),
    "smoke": (16, 128, 16, 16, 2, 4, 2.0),
}


def main() -> None:
    """Measure every requested size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["demo", "s32", "s64"])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--bf16", type=int, default=0, help="resolutions in bfloat16, highest first (GPUs only)")
    parser.add_argument("--compile", action="store_true", help="as trainer.compile=auto")
    parser.add_argument("--peer", type=Path, help="a checkout of NVlabs' code, timed beside ours")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    keep_freed_memory()
    device = resolve_device(options.device)
    runtime = Runtime(device=device, compile="auto" if options.compile else "off", kernels="auto")
    chosen = {"turns": options.turns, "bf16": options.bf16, "peer": options.peer}
    figures = [measure(name, runtime, **chosen) for name in options.size]
    for figure in figures:
        show(figure)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


@float32_convolutions(benchmark=True)
def measure(size: str, runtime: Runtime, *, turns: int, bf16: int = 0, peer: Path | None = None) -> dict[str, Any]:
    """Measure one size with phases run as in `runtime`, and return plain values."""
    (resolution, base, maximum, w_dim, layers, batch, _), device = SIZES[size], runtime.device
    module, optimizers = build_gan(size, device, bf16)
    lay_out(module, device)  # as training does, whatever else is asked for
    said = module.prepare(runtime)
    phases = {phase.name: phase for phase in module.phases()}
    taken = time_phases(module, optimizers, SIZES[size], peer, turns)
    generator = generator_operations(resolution, base, maximum, w_dim, layers)
    discriminator = discriminator_operations(resolution, base, maximum)
    operations = {name: phase_operations(name, generator, discriminator, batch) for name in phases}
    work = sum(operations[name] / phase.interval for name, phase in phases.items())
    step = [seconds_per_step(phases, taken, turn) for turn in range(turns)]
    shares = [work / seconds / rate for seconds, rate in zip(step, taken["matrix"], strict=True)]
    quiet = sum(best(taken[name]) / phase.interval for name, phase in phases.items()) + best(taken["average"])
    return {
        "size": size,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "batch": batch,
        "matrix_gflops": max(taken["matrix"]) / 1e9,
        "images_per_s": batch / quiet,
        "images_per_s_median": batch / middle(step),
        "share": work / quiet / max(taken["matrix"]),
        "share_median": middle(shares),
        "peak_memory_gb": peak_memory_gb(device),
        "ways": said,
        "peer": None if peer is None else of_peer(phases, taken, step, batch),
        "phases": {
            name: {
                "ms": best(taken[name]) * 1e3,
                "gflops": operations[name] / best(taken[name]) / 1e9,
                "interval": phase.interval,
            }
            for name, phase in phases.items()
        },
    }


def time_phases(
    module: GanModule, optimizers: list[torch.optim.Optimizer], size: tuple[Any, ...], peer: Path | None, turns: int
) -> dict[str, list[float]]:
    """Seconds of every phase and of the average by turn, ours and, with `peer`, theirs; the matrix product's rate."""
    (resolution, *_, batch, _), device = size, module.device
    real = torch.rand(batch, 3, resolution, resolution, device=device) * 2 - 1
    labels = torch.zeros(batch, 0, device=device)
    tasks = {
        phase.name: partial(module.run_phase, phase, real, labels, optimizers[phase.network == "discriminator"])
        for phase in module.phases()
    }
    theirs = {} if peer is None else Peer(peer, size, real).tasks()
    with fused(module.kernels):
        average = partial(update_ema, module.ema, module.generator, 0.999)
        return in_turns({**tasks, "average": average, **theirs}, device, turns)


def seconds_per_step(phases: dict[str, Phase], taken: dict[str, list[float]], turn: int, whose: str = "") -> float:
    """Seconds of a step in one turn, with every phase amortised over its interval."""
    own = sum(taken[f"{whose}{name}"][turn] / phase.interval for name, phase in phases.items())
    return own + taken[f"{whose}average"][turn]


def of_peer(phases: dict[str, Phase], taken: dict[str, list[float]], step: list[float], batch: int) -> dict[str, Any]:
    """Speed of the peer, and our speed-up over it, where our step took `step` seconds in each turn."""
    theirs = [seconds_per_step(phases, taken, turn, "peer ") for turn in range(len(step))]
    return {
        "times_as_fast": middle([b / a for a, b in zip(step, theirs, strict=True)]),
        "images_per_s": batch / best(theirs),
        "phases_ms": {name: best(taken[f"peer {name}"]) * 1e3 for name in phases},
    }


def build_gan(
    size: str, device: torch.device, bf16: int, *, img_channels: int = 3, **options: Any
) -> tuple[GanModule, list[torch.optim.Optimizer]]:
    """Build networks and optimizers of one size, freshly initialised; `options` are further ones of the module."""
    resolution, base, maximum, w_dim, layers, batch, pl_weight = SIZES[size]
    shape = {"resolution": resolution, "img_channels": img_channels, "channel_base": base, "channel_max": maximum}
    networks = [Generator(**shape, z_dim=w_dim, w_dim=w_dim, num_mapping_layers=layers), Discriminator(**shape)]
    for network in networks:
        set_bf16_resolutions(network, bf16)
    hparams = Hparams(
        batch_size=batch,
        gamma=1.0,
        lr_generator=0.002,
        lr_discriminator=0.002,
        ema_kimg=10,
        ema_rampup=0.05,
        pl_weight=pl_weight,
    )
    module = GanModule(
        *networks,
        generator_loss=nonsaturating_generator,
        discriminator_loss=logistic_discriminator,
        hparams=hparams,
        penalties=[R1("gamma")],
        **options,
    ).to(device)
    return module, module.configure_optimizers()


def show(figure: dict[str, Any]) -> None:
    """Print one table per size."""
    print(
        f"\n{figure['size']} on {figure['device']}, {figure['threads']} threads, torch {figure['torch']}, "
        f"batch {figure['batch']}; matrix product {figure['matrix_gflops']:.0f} GFLOP/s"
    )
    for name, phase in figure["phases"].items():
        print(f"  {name:14s} every {phase['interval']:2d} steps {phase['ms']:9.1f} ms {phase['gflops']:8.1f} GFLOP/s")
    print(
        f"  all phases: {figure['images_per_s']:.1f} images/s (median {figure['images_per_s_median']:.1f}), "
        f"{figure['share']:.0%} of the matrix product (median of turns {figure['share_median']:.0%}), "
        f"peak memory {figure['peak_memory_gb']:.1f} GB"
    )
    if figure["peer"]:
        peer = figure["peer"]
        each = ", ".join(f"{name} {ms:.1f} ms" for name, ms in peer["phases_ms"].items())
        rate, times = peer["images_per_s"], peer["times_as_fast"]
        print(f"  NVlabs' code: {rate:.1f} images/s ({each}); ours is {times:.2f} times as fast")


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory of the device, or of this process if the device is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
