"""Names, shapes and stored filters of rosinality's StyleGAN2, beside those of ours."""

from __future__ import annotations

from torch import Tensor

from wplus.models.layers import block_resolutions

FIRST = "conv1.conv.weight"  # of a generator's tensors


def generator_names(resolution: int, num_mapping_layers: int) -> dict[str, str]:
    """Our names of a generator's tensors -> theirs."""
    names = {"synthesis.b4.const": "input.input", **_layer("b4.conv1", "conv1", 0), **_colours("b4.torgb", "to_rgb1")}
    for i, res in enumerate(block_resolutions(resolution)[1:]):
        names |= _layer(f"b{res}.conv0", f"convs.{2 * i}", 2 * i + 1)
        names |= _layer(f"b{res}.conv1", f"convs.{2 * i + 1}", 2 * i + 2)
        names |= _colours(f"b{res}.torgb", f"to_rgbs.{i}")
    for i in range(num_mapping_layers):  # theirs counts the normalisation of z as layer 0
        names |= {f"mapping.fc{i}.{kind}": f"style.{i + 1}.{kind}" for kind in ("weight", "bias")}
    return names


def _layer(ours: str, theirs: str, index: int) -> dict[str, str]:
    pairs = {
        "bias": f"{theirs}.activate.bias",
        "noise_strength": f"{theirs}.noise.weight",
        "noise_const": f"noises.noise_{index}",
    }
    return {f"synthesis.{ours}.{name}": other for name, other in pairs.items()} | _modulated(ours, theirs)


def _colours(ours: str, theirs: str) -> dict[str, str]:
    return {f"synthesis.{ours}.bias": f"{theirs}.bias"} | _modulated(ours, theirs)


def _modulated(ours: str, theirs: str) -> dict[str, str]:
    pairs = {"weight": "weight", "affine.weight": "modulation.weight", "affine.bias": "modulation.bias"}
    return {f"synthesis.{ours}.{name}": f"{theirs}.conv.{other}" for name, other in pairs.items()}


def discriminator_names(resolution: int) -> dict[str, str]:
    """Our names of a discriminator's tensors -> theirs."""
    names = {f"b{resolution}.fromrgb.weight": "convs.0.0.weight", f"b{resolution}.fromrgb.bias": "convs.0.1.bias"}
    for i, res in enumerate(block_resolutions(resolution)[:0:-1], start=1):
        inner = {
            "conv0.weight": "conv1.0.weight",
            "conv0.bias": "conv1.1.bias",
            "skip.weight": "skip.1.weight",
            "conv1.weight": "conv2.1.weight",
            "conv1.bias": "conv2.2.bias",
        }
        names |= {f"b{res}.{ours}": f"convs.{i}.{theirs}" for ours, theirs in inner.items()}
    last = {
        "conv.weight": "final_conv.0.weight",
        "conv.bias": "final_conv.1.bias",
        "fc.weight": "final_linear.0.weight",
        "fc.bias": "final_linear.0.bias",
        "out.weight": "final_linear.1.weight",
        "out.bias": "final_linear.1.bias",
    }
    return names | {f"b4.{ours}": theirs for ours, theirs in last.items()}


def generator_kernels(resolution: int) -> dict[str, float]:
    """Their stored filters in a generator, and the sum of each; all upsample."""
    num_ups = len(block_resolutions(resolution)) - 1
    names = [f"convs.{2 * i}.conv.blur.kernel" for i in range(num_ups)] + [
        f"to_rgbs.{i}.upsample.kernel" for i in range(num_ups)
    ]
    return dict.fromkeys(names, 4.0)


def discriminator_kernels(resolution: int) -> dict[str, float]:
    """Their stored filters in a discriminator, and the sum of each; none upsamples."""
    blocks = range(1, len(block_resolutions(resolution)))
    return dict.fromkeys([f"convs.{i}.{part}.0.kernel" for i in blocks for part in ("conv2", "skip")], 1.0)


def in_their_shape(name: str, tensor: Tensor) -> Tensor:
    """A copy on the CPU of a generator's tensor, in the shape that theirs of this name has."""
    tensor = tensor.detach().cpu().clone()
    if name == "input.input" or name.endswith(".conv.weight"):
        return tensor[None]  # (1, C, 4, 4), (1, O, I, k, k)
    if name.startswith("noises."):
        return tensor[None, None]  # (1, 1, r, r)
    if name.endswith(".noise.weight"):
        return tensor.reshape(1)
    if name.startswith("to_rgb") and name.endswith(".bias") and ".conv." not in name:
        return tensor.reshape(1, -1, 1, 1)
    return tensor
