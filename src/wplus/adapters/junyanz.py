"""Checkpoints of pix2pix and CycleGAN in PyTorch (`latest_net_G.pth`, `latest_net_D_A.pth`): a plain state dict each.

Layers are numbered by their position in a Sequential; the type and size of the network follow from names and shapes.
They do not show the dropout of the U-Net (`dropout` is 0 here) or the padding of the residual blocks, which is assumed
to be reflection unless the numbering rules that out.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wplus.adapters import rebuild
from wplus.adapters.restricted import as_tensors
from wplus.errors import UserError
from wplus.models.network import Network, meta_init
from wplus.models.translation.base import NormKind
from wplus.models.translation.patch import PatchDiscriminator
from wplus.models.translation.resnet import ResNet
from wplus.models.translation.unet import UNet

UNET, RESNET, PATCH, PIXEL = "model.model.0.weight", "model.1.weight", "model.0.weight", "net.0.weight"
MARKS = {UNET: 4, RESNET: 7, PATCH: 4, PIXEL: 1}
"""The first convolution of each network -> its kernel size."""
PARALLEL = "module."  # prefix of all names of a network trained on several GPUs
COUNTER = "num_batches_tracked"
STATISTICS = ("running_mean", "running_var")
Layout = dict[str, str]
"""Names of our modules -> theirs."""


def recognises(content: object) -> bool:
    """Whether `content` of a torch file looks like one of their state dicts."""
    return isinstance(content, Mapping) and _first(_tensors(content)) is not None


def read(content: Mapping[str, Any], origin: str) -> tuple[dict[str, Network], dict[str, Any]]:
    """The network by role, and metadata; UserError names a tensor that is missing, unknown or of the wrong shape."""
    tensors = _tensors(content)
    first = _first(tensors)
    assert first is not None, "ask `recognises` first"
    readers = {UNET: _unet, RESNET: _resnet, PATCH: _patch, PIXEL: _patch}
    network, layout = readers[first](tensors, origin)
    rebuild.fill(network, _renamed(tensors, layout), origin, kind=f"a {type(network).__name__}")
    role = "discriminator" if isinstance(network, PatchDiscriminator) else "generator"
    return {role: network}, {"format": "pix2pix / CycleGAN", "architecture": type(network).__name__}


def _tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    return {str(name).removeprefix(PARALLEL): tensor for name, tensor in as_tensors(content).items()}


def _first(tensors: Mapping[str, Tensor]) -> str | None:
    for name, kernel in MARKS.items():
        if name in tensors and tensors[name].ndim == 4 and tensors[name].shape[-1] == kernel:
            return name
    return None


def _renamed(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Tensors under our names; those without one keep theirs and are refused later."""
    ours = {theirs: own for own, theirs in layout.items()}
    renamed = {}
    for name, tensor in tensors.items():
        module, _, parameter = name.rpartition(".")
        unused = (
            parameter in STATISTICS and f"{module}.weight" not in tensors
        )  # instance norm of old versions kept some
        if parameter != COUNTER and not unused:
            renamed[f"{ours[module]}.{parameter}" if module in ours else name] = tensor
    return renamed


def _norm(tensors: Mapping[str, Tensor], conv: str, norm: str) -> NormKind:
    """The normalisation after a convolution: batch norm has tensors; with instance norm the convolution has a bias."""
    if f"{norm}.weight" in tensors:
        return "batch"
    return "instance" if f"{conv}.bias" in tensors else "none"


# --- U-Net: each block holds the next, model.model.1.model.3.model.3... -----------------------------------------------


def _unet(tensors: dict[str, Tensor], origin: str) -> tuple[Network, Layout]:
    blocks = ["model"]
    while any(name.startswith(f"{_next(blocks)}.model.") for name in tensors):
        blocks.append(_next(blocks))
    if len(blocks) < 3:
        raise UserError(f"{origin}: its U-Net has {len(blocks)} downs; at least 3 are read.")
    first = tensors[UNET]
    arguments = {
        "in_channels": first.shape[1], "img_channels": rebuild.entry(tensors, "model.model.3.weight", origin).shape[1],
        "num_downs": len(blocks), "width": len(first), "upsample": "transposed", "dropout": 0.0,
        "norm": _norm(tensors, f"{blocks[1]}.model.1", f"{blocks[1]}.model.2"),
    }  # fmt: skip
    layout = {"downs.0.conv": "model.model.0", "ups.0.conv": "model.model.3"}
    for i, block in enumerate(blocks[1:], start=1):
        is_last = i == len(blocks) - 1
        places = {"downs": (1, None), "ups": (3, 4)} if is_last else {"downs": (1, 2), "ups": (5, 6)}
        for ours, (conv, norm) in places.items():
            layout[f"{ours}.{i}.conv"] = f"{block}.model.{conv}"
            if norm is not None:
                layout[f"{ours}.{i}.norm"] = f"{block}.model.{norm}"
    return meta_init(UNet, arguments), layout


def _next(blocks: list[str]) -> str:
    return f"{blocks[-1]}.model.{1 if len(blocks) == 1 else 3}"


# --- ResNet: c7s1, downs, blocks, ups, c7s1 ---------------------------------------------------------------------------


def _resnet(tensors: dict[str, Tensor], origin: str) -> tuple[Network, Layout]:
    num_downs = _num_downs(tensors)
    start = 4 + 3 * num_downs  # of the blocks
    num_blocks = 0
    while any(name.startswith(f"model.{start + num_blocks}.conv_block.") for name in tensors):
        num_blocks += 1
    end = start + num_blocks + 3 * num_downs + 1  # of the last convolution
    first, last = tensors[RESNET], rebuild.entry(tensors, f"model.{end}.weight", origin)
    second = _second_conv(tensors, start, num_blocks, origin)
    arguments = {
        "in_channels": first.shape[1], "img_channels": len(last), "num_blocks": num_blocks, "num_downs": num_downs,
        "width": len(first), "norm": _norm(tensors, "model.1", "model.2"), "upsample": "transposed",
        "dropout": 0.5 if second == 6 else 0.0,
    }  # fmt: skip
    layout = {"first.conv": "model.1", "first.norm": "model.2", "last": f"model.{end}"}
    for i in range(num_downs):
        layout |= _pair(f"downs.{i}", f"model.{4 + 3 * i}", f"model.{5 + 3 * i}")
        at = start + num_blocks + 3 * i
        layout |= _pair(f"ups.{i}", f"model.{at}", f"model.{at + 1}")
    for i in range(num_blocks):
        block = f"model.{start + i}.conv_block"
        layout |= _pair(f"blocks.{i}.conv0", f"{block}.1", f"{block}.2")
        layout |= _pair(f"blocks.{i}.conv1", f"{block}.{second}", f"{block}.{second + 1}")
    return meta_init(ResNet, arguments), layout


def _num_downs(tensors: Mapping[str, Tensor]) -> int:
    """Number of convolutions after the first that double the feature maps."""
    num, width = 0, len(tensors[RESNET])
    while (conv := tensors.get(f"model.{4 + 3 * num}.weight")) is not None and conv.shape[0] == 2 * width:
        num, width = num + 1, 2 * width
    return num


def _second_conv(tensors: Mapping[str, Tensor], start: int, num_blocks: int, origin: str) -> int:
    """The index of a block's second convolution: 5, or 6 with dropout before it."""
    if not num_blocks:
        raise UserError(f"{origin}: it has no residual blocks (model.{start}.conv_block); at least one is read.")
    block = f"model.{start}.conv_block"
    if f"{block}.0.weight" in tensors:
        raise UserError(f"{origin}: its residual blocks are padded with zeros; those with reflection are read.")
    return 6 if f"{block}.6.weight" in tensors and tensors[f"{block}.6.weight"].ndim == 4 else 5


# --- PatchGAN ---------------------------------------------------------------------------------------------------------


def _patch(tensors: dict[str, Tensor], origin: str) -> tuple[Network, Layout]:
    prefix, is_pixel = ("net", True) if PIXEL in tensors else ("model", False)
    num = 0  # convolutions after the first
    while f"{prefix}.{2 + 3 * num}.weight" in tensors:
        num += 1
    num -= 1  # the last of them makes the logits
    if num < 1:
        raise UserError(f"{origin}: '{prefix}.5.weight' is missing; only complete discriminators of patches are read.")
    first = tensors[f"{prefix}.0.weight"]
    arguments = {
        "in_channels": first.shape[1], "num_layers": 0 if is_pixel else num, "width": len(first),
        "norm": _norm(tensors, f"{prefix}.2", f"{prefix}.3"),
    }  # fmt: skip
    layout = {"layers.0.conv": f"{prefix}.0", "out": f"{prefix}.{2 + 3 * num}"}
    for i in range(num):
        layout |= _pair(f"layers.{i + 1}", f"{prefix}.{2 + 3 * i}", f"{prefix}.{3 + 3 * i}")
    return meta_init(PatchDiscriminator, arguments), layout


def _pair(ours: str, conv: str, norm: str) -> Layout:
    return {f"{ours}.conv": conv, f"{ours}.norm": norm}
