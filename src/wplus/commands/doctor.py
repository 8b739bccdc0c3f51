"""Check the installation: versions, machine, ffmpeg, caches, weights, and an inversion as an end-to-end test."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from wplus.commands.entry import program
from wplus.config import CONFIG_FOLDER, build, bundled_models
from wplus.errors import OneLineParser, UserError
from wplus.signatures import options

Verdict = Literal["ok", "absent", "wrong"]
MARKS: dict[Verdict, str] = {"ok": "  ", "absent": "- ", "wrong": "! "}
# Extra of pyproject.toml -> the modules that it installs.
EXTRAS = {
    "app": ("gradio",),
    "sweep": ("submitit", "optuna"), "export": ("onnx", "onnxscript", "onnxruntime"),
    "dashboards": ("wandb_workspaces",), "fidelity": ("torch_fidelity",),
}  # fmt: skip
LEAST_GAIN_DB = 1.0  # over the search's start, the best of its samples; the final value depends on the generator
NUM_STEPS = 80


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    verdict: Verdict
    text: str


@program
def doctor(arguments: Sequence[str]) -> int:
    """Check versions, device, ffmpeg, caches and weights; invert a sample. Exit status 1 if something is wrong."""
    parser = OneLineParser(prog="wplus doctor", description="A line begins with - if something optional is missing, "
                               "and with ! if something is wrong.")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="skip the weights and the inversion")
    parser.add_argument("--device", default="auto", help="device of the inversion: auto, cpu, cuda, ... (%(default)s)")
    given = parser.parse_args(arguments)
    parts: list[Callable[[], Iterator[Finding]]] = [versions, machine, video, caches, extras, models]
    parts += [] if given.quick else [weights, functools.partial(inversion, given.device)]
    is_fine = True
    for part in parts:
        for finding in part():
            print(f"{MARKS[finding.verdict]}{finding.what:<36}{finding.text}", flush=True)
            is_fine = is_fine and finding.verdict != "wrong"
    print("Everything that is needed is here." if is_fine else "Something is wrong: see the lines with !.")
    return int(not is_fine)


def versions() -> Iterator[Finding]:
    """Versions of Python and of the packages that results depend on."""
    import wplus
    from wplus.tracking.environment import versions as installed

    found = {"wplus": wplus.__version__, **{name: text for name, text in installed().items() if name != "wplus"}}
    yield from (Finding(name, "ok", text) for name, text in found.items())


def machine() -> Iterator[Finding]:
    """System, processor, GPUs, free disk space."""
    from wplus.tracking.environment import device

    yield from (Finding(name, "ok", text) for name, text in device().items())
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding("disk", "ok" if free > 1 else "wrong", f"{free:.1f} GiB free in {Path.cwd()}")


def video() -> Iterator[Finding]:
    """An ffmpeg that can encode H.264; without one, videos are GIFs."""
    from wplus.core.video import find_ffmpeg

    yield _tried("ffmpeg", find_ffmpeg, absent="wrong")


def caches() -> Iterator[Finding]:
    """Cache folders of computed and downloaded files."""
    import torch

    home = os.path.expanduser
    places = {
        "cache of features": Path(os.environ.get("WPLUS_CACHE") or home("~/.cache/wplus")),
        "cache of weights": Path(torch.hub.get_dir()) / "checkpoints",
        "cache of the hub": Path(os.environ.get("HF_HOME") or home("~/.cache/huggingface")),
    }
    for name, folder in places.items():
        existing = next(each for each in (folder, *folder.parents) if each.exists())
        if not os.access(existing, os.W_OK):
            yield Finding(name, "wrong", f"{folder} cannot be written to")
            continue
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        yield Finding(name, "ok", f"{folder}, {size / 2**20:.0f} MiB")


def extras() -> Iterator[Finding]:
    """The optional dependencies of `pip install 'wplus[...]'`."""
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        text = f"pip install '.[{extra}]' brings {', '.join(missing)}" if missing else ", ".join(modules)
        yield Finding(f"extra {extra}", "absent" if missing else "ok", text)


def models() -> Iterator[Finding]:
    """The bundled models."""
    found = bundled_models()
    yield Finding("models", "ok" if found else "wrong", ", ".join(found) or "none of the bundled models is here")


def weights() -> Iterator[Finding]:
    """Weights of pretrained nets, by the choice that uses them; missing ones are not downloaded."""
    for group in ("extractor", "perceptual", "identity"):
        for path in sorted((CONFIG_FOLDER / group).glob("*.yaml")):
            needed: Verdict = "wrong" if path.stem == "effnet_lite0" else "absent"
            look = functools.partial(_file_of, yaml.safe_load(path.read_text()))
            yield _tried(f"{group}={path.stem}", look, absent=needed)


def _file_of(node: dict[str, Any]) -> str:
    offline = {"download": False} if "download" in options(node["_target_"]) else {}
    net = build({**node, **offline})
    return str(net.protocol["extractor_weights"] if hasattr(net, "protocol") else net.provenance["weights"])


def _tried(what: str, look: Callable[[], str], *, absent: Verdict) -> Finding:
    try:
        return Finding(what, "ok", look())
    except UserError as error:
        return Finding(what, absent, str(error))


def inversion(device: str) -> Iterator[Finding]:
    """Invert a sample of the bundled generator, as an end-to-end test of torch."""
    from wplus.checkpoint import load
    from wplus.core.runtime import float32_convolutions, resolve_device
    from wplus.inversion.optimize import optimize
    from wplus.inversion.task import InversionTask
    from wplus.latents.inputs import read_inputs
    from wplus.latents.latent import synthesize

    began = time.perf_counter()
    try:
        found = load("cats32", resolve_device(device), needs=["generator"])
    except UserError as error:
        yield Finding("inversion", "wrong", str(error))
        return
    with float32_convolutions():
        latents, names = read_inputs("seed:0", models=found, invert=None, truncation_psi=0.7)
        image = synthesize(latents, found.generator).clamp(-1, 1)
        task = InversionTask(found.generator, image, "w", names=names, chunk_size=1)
        made = optimize(task, num_steps=NUM_STEPS, latent_noise=0.0, init="best_of_n",
                        loss_weights={"l2": 1.0, "perceptual": 0.0})  # fmt: skip
    missed, first = (made.images - image).square().mean(), made.history["l2"][0, 0]
    psnr, gain = float(10 * (4 / missed).log10()), float(10 * (first / missed.cpu()).log10())
    text = f"PSNR {psnr:.1f} dB on its own sample, {gain:.1f} dB above the start of the search"
    text += f", in {time.perf_counter() - began:.1f} s on {image.device}"
    yield Finding("inversion", "ok" if gain >= LEAST_GAIN_DB else "wrong", text)
