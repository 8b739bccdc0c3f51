"""Convert checkpoints between projects; `wplus convert --help` lists the formats."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from wplus import checkpoint
from wplus.adapters import SAW, e4e, model_folder, nvlabs, onnx_graph, rosinality
from wplus.core.files import atomic_write
from wplus.errors import UserError, check_choice
from wplus.models.encoders.base import Encoder
from wplus.models.network import Network
from wplus.models.stylegan2 import Discriminator, Generator

LAYOUTS = {"rosinality": rosinality, "nvlabs": nvlabs, "e4e": e4e}
CLAMPS = ("keep", "drop")
Written = tuple[Sequence[str], list[str]]
"""Roles that were written, and remarks about them."""


def convert(
    source: str | Path,
    target: str | Path,
    *,
    layout: str = "rosinality",
    part: onnx_graph.Part = "generator",
    psi: float = 1.0,
    clamp: Literal["keep", "drop"] = "keep",
    licence: str | None = None,
    metrics: str | Path | None = None,
    roles: Sequence[str] | None = None,
    half: Sequence[str] = (),
) -> str:
    """Read `source`, write `target` atomically, and return a sentence about what was written.

    A `target` without an extension, or with a trailing slash, is a folder. UserError if it cannot hold the networks.

    Args:
        layout: of a .pt file: rosinality, nvlabs or e4e.
        part: of the generator in an .onnx file: generator (z -> images) or synthesis (ws -> images).
        psi: truncation, fixed in an .onnx file of the whole generator; 1 means none.
        clamp: "drop" removes conv_clamp, which rosinality's and e4e's layout cannot hold.
        licence: for a folder's model card, an identifier as in "cc-by-4.0".
        metrics: for a folder's model card, the result.json of an evaluation.
        roles: of a .safetensors file: the networks to write; None: all.
        half: of a .safetensors file: the networks to write in half precision, not the generator.
    """
    check_choice("layout", layout, LAYOUTS)
    check_choice("part", part, onnx_graph.PARTS)
    check_choice("clamp", clamp, CLAMPS)
    suffix, path = _suffix(target), Path(target)
    if (roles or half) and suffix != ".safetensors":
        raise UserError(f"roles and half are options of .safetensors files, got '{target}'.")
    models = checkpoint.load(source)
    remarks = _drop_clamps(models) if clamp == "drop" else []
    if suffix == ".pt":
        written, more = _write_torch(path, models, layout)
    elif suffix == ".onnx":
        onnx_graph.write(path, models.generator, part=part, truncation_psi=psi)
        written, more = ["generator"], ["its synthesis only"] if part == "synthesis" else []
    elif suffix == ".safetensors":
        networks = {role: models.need(role) for role in roles or models.networks}
        _halve(networks, half)
        checkpoint.save(path, **networks, metadata=models.metadata)
        written, more = list(networks), [f"{' and '.join(half)} in half precision"] if half else []
    else:
        values = None if metrics is None else _measured(metrics)
        is_kept = model_folder.write(path, models, licence=licence, metrics=values)
        written = list(models.networks)
        more = [f"the {model_folder.CARD} that was there is kept; delete it for a new one"] if is_kept else []
    left_out = [role for role in models.networks if role not in written]
    remarks = [*(["left out " + ", ".join(left_out)] if left_out else []), *remarks, *more]
    return "; ".join([f"Wrote {' and '.join(written)} to '{target}'", *remarks]) + "."


def _suffix(target: str | Path) -> str:
    """The format of the target: .safetensors, .pt, .onnx, or "" for a folder."""
    suffix = Path(target).suffix.lower()
    if str(target).endswith(("/", os.sep)) or Path(target).is_dir():
        return ""
    if suffix not in (".safetensors", ".pt", ".onnx", ""):
        kinds = f".safetensors, .pt ({', '.join(LAYOUTS)} layout), .onnx, or a slash (a folder with a model card)"
        raise UserError(f"OUT must end in {kinds}, got '{target}'.")
    return suffix


def _halve(networks: Mapping[str, Network], roles: Sequence[str]) -> None:
    """Round parameters to float16, which halves a file; loaded, they are float32 again.

    Buffers stay as they are, and so does the generator: latents refer to its exact numbers.
    """
    others = [role for role in networks if role != "generator"]
    if roles and not others:
        raise UserError(f"half is for networks other than the generator, and there are none, got {list(roles)}.")
    for role in roles:
        check_choice("half", role, others)
        for name, parameter in networks[role].named_parameters():
            parameter.data = parameter.data.half()
            if not parameter.isfinite().all():
                raise UserError(f"half: {role}.{name} has numbers that float16 cannot hold (at most 65504).")


def _drop_clamps(models: checkpoint.Models) -> list[str]:
    """Replace networks that clamp activations by ones that do not; returns remarks."""
    remarks = []
    for role, network in list(models.networks.items()):
        clamp = network.arguments.get("conv_clamp")
        if clamp is not None:
            free = type(network)(**{**network.arguments, "conv_clamp": None})
            free.load_state_dict(network.state_dict())
            free.saw = network.saw
            models.networks[role] = free.eval().requires_grad_(False)
            remarks.append(f"the {role} without its conv_clamp={clamp:g}, equivalent unless an activation reaches it")
    return remarks


def _write_torch(target: Path, models: checkpoint.Models, layout: str) -> Written:
    roles = ("generator", "encoder") if layout == "e4e" else ("generator", "discriminator")
    networks = {role: models.networks[role] for role in roles if role in models.networks}
    ours = (Generator, Discriminator, Encoder)
    others = [type(network).__name__ for network in networks.values() if not isinstance(network, ours)]
    if others or not networks:
        found = " and ".join(others) or ("a discriminator only" if layout == "e4e" else "an encoder only")
        raise UserError(f"Cannot write '{target}': the {layout} layout is for StyleGAN2, and the source has {found}.")
    # Keep the training options of an encoder if the source has the same layout.
    is_theirs = layout == "e4e" and models.metadata.get("format") == "e4e"
    options = {"options": models.metadata.get("options", {})} if is_theirs else {}
    content = LAYOUTS[layout].export(**networks, **options)
    content |= {SAW: list(models.saw)} if models.saw else {}
    atomic_write(target, lambda file: torch.save(content, file))
    encoder = networks.get("encoder")
    if not isinstance(encoder, Encoder) or encoder.stage >= encoder.num_ws - 1:
        return list(networks), []
    stage = f"the encoder is at stage {int(encoder.stage)} of {encoder.num_ws - 1}"
    return list(networks), [f"{stage}, which the published inference code ignores: it would use untrained heads"]


def _measured(path: str | Path) -> dict[str, Mapping[str, Any]]:
    """The values in a result.json that have a protocol."""
    try:
        content = json.loads(Path(path).read_bytes())
        values = {name: entry for name, entry in content["values"].items() if isinstance(entry, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"Cannot read the metrics in '{path}'; it must be the result.json of an evaluation.") from error
    return {name.rpartition("/")[2]: entry for name, entry in values.items() if not name.startswith("derived/")}
