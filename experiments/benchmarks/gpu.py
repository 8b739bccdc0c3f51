"""Check correctness and speed on a GPU with one command: `python experiments/benchmarks/gpu.py --output runs/gpu`

1. Parity: the gradients of every phase on the GPU against the CPU's, from the same random draws, in each mode: plain,
   with the Triton kernels, compiled, as a CUDA graph; the same for grey and for augmented images where nothing is
   compiled; a perceptual path length on both devices.
2. Speed: every phase in each mode at 64, 256 and 1024 px, seconds per thousand images, peak memory; inversion; a
   metric.

Prints a table and writes `gpu.md` and `gpu.json`. It ends within `--minutes` (8) and lists what did not fit. On a CPU,
`--size smoke` runs what needs no GPU and lists what it left out.
"""

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training import build_gan, measure

import wplus
from wplus.core.files import atomic_write, ensure_folder
from wplus.core.runtime import Runtime, float32_convolutions, keep_freed_memory, now, resolve_device
from wplus.models.ops import fused
from wplus.training.augment.control import FixedAugment
from wplus.training.faster import difference, filled, tensors_of
from wplus.training.gan import GanModule
from wplus.training.layout import lay_out
from wplus.training.phases import Draw, Phase, backward

MODEL = "cats32"  # bundled
CASES = {"smoke": "smoke", "64": "auto64", "256": "s256", "1024": "auto1024"}
BF16 = {"smoke": 0}  # resolutions in bfloat16; elsewhere 4, as trainer.precision=auto on a GPU
WAYS: dict[str, dict[str, Any]] = {  # fields of the runtime, by execution mode
    "plain": {"kernels": "off"},
    "kernels": {},
    "graphs": {"kernels": "off", "cuda_graphs": True},
    "kernels, graphs": {"cuda_graphs": True},
    "compiled": {"kernels": "off", "compile": "auto"},
    "compiled, graphs": {"kernels": "off", "compile": "auto", "cuda_graphs": True},
}
VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {  # what the parity check trains
    "": dict,
    "grey, ": lambda: {"img_channels": 1},
    "augmented, ": lambda: {"augment": FixedAugment(0.5, transforms="bgcfnc")},
}
EXPECTED_S = {"compiled": 150, "compiled, graphs": 150}  # by mode, including compilation; others take 20


@dataclass
class Report:
    """Results as plain values, and what was left out with the reason."""

    device: str
    torch: str
    parity: list[dict[str, Any]] = field(default_factory=list)
    speed: list[dict[str, Any]] = field(default_factory=list)
    others: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything requested; 1 if a parity check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=CASES, default=["64", "256", "1024"])
    parser.add_argument("--way", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    options = parser.parse_args(arguments)
    keep_freed_memory()
    began, device = time.monotonic(), resolve_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report = Report(device=name, torch=torch.__version__)
    ways = list(possible(options.way, device, report))

    def left() -> float:
        return options.minutes * 60 - (time.monotonic() - began)

    with float32_convolutions(benchmark=True):
        check(ways, device, report, left)
        time_phases(options.size, ways, device, options.turns, report, left)
        time_others(device, report, left, small="smoke" in options.size)
    report.seconds = time.monotonic() - began
    write(report, options.output)
    return int(any(not row["agrees"] for row in report.parity))


def possible(asked: Sequence[str], device: torch.device, report: Report) -> Iterator[str]:
    """Modes that a device supports; the others are recorded as left out."""
    for way in asked:
        needs_gpu = "kernels" in way or "graphs" in way
        if needs_gpu and device.type != "cuda":
            report.left_out.append(f"{way}: needs a GPU")
        elif "compiled" in way and device.type != "cuda" and asked == [*WAYS]:
            report.left_out.append(f"{way}: takes minutes on a CPU, ask for it by --way")
        else:
            yield way


# --- is it right ----------------------------------------------------------------------------------------------------


def check(ways: Sequence[str], device: torch.device, report: Report, left: Callable[[], float]) -> None:
    """Compare the gradients of each phase on `device`, in each mode, with plain ones on the CPU, in float32."""
    for variant in VARIANTS:
        reference = build_module("cpu", variant)
        reference.fixed_form = reference.augment.fixed_form = True
        draws = {phase.name: drawn(reference, phase) for phase in reference.phases()}
        expected = {phase.name: outputs(reference, phase, draws[phase.name]) for phase in reference.phases()}
        for way in ways if not variant else [way for way in ways if "compiled" not in way]:
            if left() < EXPECTED_S.get(way, 20):
                report.left_out.append(f"parity of {variant}{way}: the time was over")
                continue
            for phase, runs, found, num in gradients(variant, way, device, draws):
                far = difference([each.cpu() for each in found], expected[phase][0], num_gradients=num)
                note(report, f"{variant}{phase}", way, runs, far, allowed=1e-4)
    if device.type == "cpu":
        report.left_out.append("CPU against GPU: needs a GPU")


def gradients(
    variant: str, way: str, device: torch.device, draws: dict[str, Draw]
) -> Iterator[tuple[str, str, list[Tensor], int]]:
    """Yield each phase's name, how it ran, its gradients and reported values, and the number of gradients."""
    module = build_module(device, variant)
    lay_out(module, device)
    prepared = module.prepare(Runtime(device=device, **WAYS[way]))
    kernels = prepared.pop("trainer.kernels")
    lay_out(module, device)  # as `fit` does after it
    for phase in module.phases():
        here = filled(draws[phase.name], iter([tensor.to(device) for tensor in tensors_of(draws[phase.name])]))
        with fused(module.kernels):
            found, num = outputs(module, phase, here)
        runs = ", ".join(each[phase.name] for each in prepared.values() if phase.name in each) or "plain"
        yield phase.name, runs if module.kernels or "kernels" not in way else f"kernels {kernels}", found, num


def note(report: Report, what: str, way: str, runs: str, far: float, *, allowed: float) -> None:
    """Make a row of the parity table; a phase that did not run in the requested mode counts as a mismatch."""
    agrees = far <= allowed and "plain:" not in runs and not runs.startswith("kernels off")
    row = {"what": what, "way": way, "runs": runs, "difference": far, "agrees": agrees}
    report.parity.append(row)


def build_module(device: torch.device | str, variant: str = "") -> GanModule:
    """Build the smallest size, with the same weights on every device and with noise that has an effect."""
    torch.manual_seed(0)
    module, _ = build_gan("smoke", torch.device("cpu"), 0, **VARIANTS[variant]())
    for layer in module.generator.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.1)
    return module.to(device)


def drawn(module: GanModule, phase: Phase) -> Draw:
    """Inputs of a phase, the same in every call."""
    torch.manual_seed(1)
    size = module.batch_size, module.generator.img_channels, *[module.generator.resolution] * 2
    return phase.draw(torch.rand(size) * 2 - 1, torch.zeros(size[0], 0))


def outputs(module: GanModule, phase: Phase, draw: Draw) -> tuple[list[Tensor], int]:
    """Gradients of a phase, followed by its reported values; and the number of gradients."""
    network, run = getattr(module, phase.network), module.backward_of.get(phase.name)
    module.set_learning(phase)
    network.zero_grad(set_to_none=True)
    told = backward(phase, draw) if run is None else run(draw)
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    return [*found, *(tensor.detach() for tensor in tensors_of(told))], len(found)


# --- how fast -------------------------------------------------------------------------------------------------------


def time_phases(
    sizes: Sequence[str], ways: Sequence[str], device: torch.device, turns: int, report: Report,
    left: Callable[[], float],
) -> None:  # fmt: skip
    """Time every mode at every size, plain first, compiled at 256 px first, while there is time left."""
    for way in ways:
        for size in sorted(sizes, key=lambda size: size != "256") if "compiled" in way else sizes:
            if left() < EXPECTED_S.get(way, 20) and size != "smoke":
                report.left_out.append(f"{way} at {size} px: the time was over")
                continue
            gc.collect()  # a module with recorded phases refers to itself, and holds the graphs' memory
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            began, runtime = time.monotonic(), Runtime(device=device, **WAYS[way])
            figure = measure(CASES[size], runtime, turns=turns, bf16=BF16.get(size, 4) if device.type == "cuda" else 0)
            row = {"size": size, "way": way, "s_per_kimg": 1000 / figure["images_per_s"]}
            row |= {f"{name}_ms": phase["ms"] for name, phase in figure["phases"].items()}
            row |= {"batch": figure["batch"], "memory_gb": figure["peak_memory_gb"], "ways": figure["ways"],
                    "seconds": time.monotonic() - began}  # fmt: skip
            report.speed.append(row)


def time_others(device: torch.device, report: Report, left: Callable[[], float], *, small: bool) -> None:
    """Time inversion of generated cats into w+ and a perceptual path length, here and on the CPU."""
    if left() < 20:
        report.left_out.append("inversion and path length: the time was over")
        return
    model, num, steps = wplus.load(MODEL), 2 if small else 64, 2 if small else 100
    few = {"ppl_wend": {"num_samples": 8}}
    found = [model.measure(["ppl_wend"], **few)]
    model = model.to(device)
    found.append(model.measure(["ppl_wend"], **few))
    here, there = (float(each[0].value) for each in found)
    note(report, "ppl_wend of 8 samples", "plain", "plain", abs(there / here - 1), allowed=1e-2)
    images = model.generate(num, seed=0, psi=0.7).pil
    began = now(device)
    model.invert(images, space="w+", method="optimize", num_steps=steps)
    report.others["inversion into w+, ms per image and step"] = (now(device) - began) / num / steps * 1e3
    began = now(device)
    model.measure(["ppl_wend"], ppl_wend={"num_samples": 8 if small else 2000})
    report.others["perceptual path length, ms per sample"] = (now(device) - began) / (8 if small else 2000) * 1e3


# --- the table ------------------------------------------------------------------------------------------------------


def write(report: Report, folder: Path) -> None:
    """Print the tables; `gpu.md` and `gpu.json` in `folder`."""
    text = "\n".join(lines(report))
    print(text)
    folder = ensure_folder(folder)
    for name, content in (("gpu.md", text), ("gpu.json", json.dumps(asdict(report), indent=2))):
        atomic_write(folder / name, lambda file, content=content: file.write(f"{content}\n".encode()))


def lines(report: Report) -> Iterator[str]:
    """Format the report as Markdown."""
    yield f"# {report.device}, torch {report.torch}, {report.seconds:.0f} s\n"
    yield from ["| what | way | runs | difference | agrees |", "|---|---|---|---|---|"]
    for row in report.parity:
        shown = f"{row['difference']:.1g} | {'yes' if row['agrees'] else 'NO'}"
        yield f"| {row['what']} | {row['way']} | {row['runs']} | {shown} |"
    phases = ("generator", "path_length", "discriminator", "r1")
    yield f"\n| px | way | batch | s/kimg | {' | '.join(f'{name}, ms' for name in phases)} | memory, GB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in report.speed:
        cells = [row["size"], row["way"], f"{row['batch']}", f"{row['s_per_kimg']:.3g}",
                 *(f"{row[f'{name}_ms']:.1f}" for name in phases), f"{row['memory_gb']:.1f}"]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""
    for name, value in report.others.items():
        yield f"- {name}: {value:.3g}"
    for what in report.left_out:
        yield f"- left out: {what}"


if __name__ == "__main__":
    raise SystemExit(main())
