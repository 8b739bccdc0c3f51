"""Convert checkpoints between projects: `wplus convert IN OUT`.

IN is whatever `wplus.load` reads, files and folders. OUT says by its ending what is written:

    .safetensors  our file, with all networks
    FOLDER/       config.json, model.safetensors and a model card, in the style of Hugging Face's hub
    .onnx         the generator, or its synthesis alone (--part), as a graph that runs without Python
    .pt           a torch file: in rosinality's or NVlabs' layout a generator and its discriminator, in e4e's, which
                  pSp and ReStyle share, a generator and its encoder (--layout)

Pickles that need NVlabs' source code are not written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from wplus import checkpoint
from wplus.adapters import e4e, model_folder, nvlabs, onnx_graph, rosinality
from wplus.core.files import atomic_write
from wplus.errors import UserError
from wplus.models.encoders.base import Encoder
from wplus.models.stylegan2 import Discriminator, Generator

LAYOUTS = {"rosinality": rosinality, "nvlabs": nvlabs, "e4e": e4e}
WRITABLE = (Generator, Discriminator, Encoder)


@dataclass(frozen=True)
class Options:
    """What OUT's ending does not say.

    Attributes
        layout          of a .pt file: rosinality, nvlabs or e4e
        part            of the generator in an .onnx file: generator (z -> images) or synthesis (ws -> images)
        truncation_psi  fixed in an .onnx file of the whole generator; 1 is without truncation
        clamp           keep, or drop for networks without conv_clamp, which rosinality's and e4e's layout cannot hold
        licence         for a folder's model card, an identifier as in "cc-by-4.0"
        metrics         for a folder's model card, the result.json of an evaluation
    """

    layout: str = "rosinality"
    part: str = "generator"
    truncation_psi: float = 1.0
    clamp: Literal["keep", "drop"] = "keep"
    licence: str | None = None
    metrics: str | Path | None = None


def convert(source: str | Path, target: str | Path, options: Options | None = None, **chosen: Any) -> str:
    """Read `source`, write `target` atomically, and return a sentence about what was written.

    `chosen` are options by name. A `target` without an ending, or with a slash behind it, is a folder. UserError when
    the target cannot hold the networks.
    """
    options = options or Options(**chosen)
    write = _writer(target)
    models = checkpoint.load(source)
    dropped = _drop_clamps(models) if options.clamp == "drop" else []
    written, remarks = write(models, Path(target), options)
    left_out = [role for role in models.networks if role not in written]
    remarks = [*(["left out " + ", ".join(left_out)] if left_out else []), *dropped, *remarks]
    return "; ".join([f"Wrote {' and '.join(written)} to '{target}'", *remarks]) + "."


def _drop_clamps(models: checkpoint.Models) -> list[str]:
    """Put networks without a limit of their activations in the place of those with one; remarks about it."""
    remarks = []
    for role, network in models.networks.items():
        clamp = network.arguments.get("conv_clamp")
        if clamp is not None:
            free = type(network)(**{**network.arguments, "conv_clamp": None})
            free.load_state_dict(network.state_dict())
            setattr(models, role, free.eval().requires_grad_(False))
            remarks.append(f"the {role} without its conv_clamp={clamp:g}, the same where no activation reaches it")
    return remarks


Writer = Callable[[checkpoint.Models, Path, Options], tuple[list[str], list[str]]]  # -> roles written, remarks


def _writer(target: str | Path) -> Writer:
    suffix = Path(target).suffix.lower()
    if str(target).endswith(("/", os.sep)) or Path(target).is_dir():
        return _write_folder
    writers: dict[str, Writer] = {
        ".safetensors": _write_ours,
        ".pt": _write_torch,
        ".onnx": _write_onnx,
        "": _write_folder,
    }
    if suffix not in writers:
        raise UserError(
            f"Cannot write '{target}': the ending must be .safetensors (wplus) or .pt ({', '.join(LAYOUTS)} layout) or "
            ".onnx, or a slash (a folder with a model card)."
        )
    return writers[suffix]


def _write_ours(models: checkpoint.Models, target: Path, options: Options) -> tuple[list[str], list[str]]:
    networks = models.networks
    checkpoint.save(target, **networks, metadata=models.metadata)
    return list(networks), []


def _write_folder(models: checkpoint.Models, target: Path, options: Options) -> tuple[list[str], list[str]]:
    metrics = None if options.metrics is None else _measured(options.metrics)
    is_kept = model_folder.write(target, models, licence=options.licence, metrics=metrics)
    remark = f"the {model_folder.CARD} that was there is kept; delete it for a new one"
    return list(models.networks), [remark] if is_kept else []


def _write_onnx(models: checkpoint.Models, target: Path, options: Options) -> tuple[list[str], list[str]]:
    if "generator" not in models.networks:
        raise UserError(f"Cannot write '{target}': .onnx is for generators, and the source has none.")
    onnx_graph.write(target, models.generator, part=options.part, truncation_psi=options.truncation_psi)
    return ["generator"], ["its synthesis only"] if options.part == "synthesis" else []


def _measured(path: str | Path) -> dict[str, dict[str, Any]]:
    """The values in a result.json that came with a protocol."""
    try:
        content = json.loads(Path(path).read_bytes())
        values = {name: entry for name, entry in content["values"].items() if isinstance(entry, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"Cannot read the metrics in '{path}'; it must be the result.json of an evaluation.") from error
    return {name: entry for name, entry in values.items() if not name.startswith("derived/")}


def _write_torch(models: checkpoint.Models, target: Path, options: Options) -> tuple[list[str], list[str]]:
    layout = options.layout
    if layout not in LAYOUTS:
        raise UserError(f"Layout '{layout}' is not known; it must be one of {', '.join(LAYOUTS)}.")
    roles = ("generator", "encoder") if layout == "e4e" else ("generator", "discriminator")
    networks = {role: net for role, net in models.networks.items() if role in roles}
    others = [type(network).__name__ for network in networks.values() if not isinstance(network, WRITABLE)]
    if others or not networks:
        found = " and ".join(others) or ("a discriminator only" if layout == "e4e" else "an encoder only")
        raise UserError(f"Cannot write '{target}': the {layout} layout is for StyleGAN2, and the source has {found}.")
    content = LAYOUTS[layout].export(**networks, **_trained_with(models, layout))
    atomic_write(target, lambda file: torch.save(content, file))
    return list(networks), _stage_remarks(networks.get("encoder"))


def _stage_remarks(encoder: Any) -> list[str]:
    if encoder is None or encoder.stage >= encoder.num_ws - 1:
        return []
    return [
        f"the encoder is at stage {int(encoder.stage)} of {encoder.num_ws - 1}, which the published "
        "inference code does not look at: it would add heads without training"
    ]


def _trained_with(models: checkpoint.Models, layout: str) -> dict[str, Any]:
    """What an encoder's training was told, where the source is of the same layout."""
    is_theirs = layout == "e4e" and models.metadata.get("format") == "e4e"
    return {"options": models.metadata.get("options", {})} if is_theirs else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 on success, 1 after one sentence on stderr."""
    description = (__doc__ or "").partition("\n\n")[2]
    parser = argparse.ArgumentParser(
        prog="wplus convert",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", help="NVlabs .pkl, rosinality or e4e .pt, wplus .safetensors or folder")
    parser.add_argument("target", metavar="OUT", help="name of the new file (.safetensors, .onnx, .pt), or FOLDER/")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="rosinality", help="of a .pt (%(default)s)")
    parser.add_argument("--part", choices=onnx_graph.PARTS, default="generator", help="of an .onnx (%(default)s)")
    parser.add_argument("--psi", type=float, default=1.0, help="truncation in an .onnx of the generator (%(default)s)")
    parser.add_argument("--licence", "--license", help="for a folder's model card, as in cc-by-4.0")
    parser.add_argument("--metrics", metavar="FILE", help="for a folder's model card: an evaluation's result.json")
    parser.add_argument("--clamp", choices=("keep", "drop"), default="keep", help="of the activations (%(default)s)")
    chosen = parser.parse_args(arguments)
    options = Options(chosen.layout, chosen.part, chosen.psi, chosen.clamp, chosen.licence, chosen.metrics)
    try:
        print(convert(chosen.source, chosen.target, options))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
