"""rosinality's StyleGAN2 `.pt` ({g_ema, d, latent_avg}) <-> ours, and the decoder inside e4e and pSp `.pt`.

Both projects compute the same function with the same numbers; names and shapes differ, element order does not:

- Both store equalised weights with unit variance and scale them when used. rosinality also scales the 3x3 modulated
  weights, which demodulation cancels (up to its epsilon of 1e-8), so these are copied unchanged.
- The transposed convolution of an upsampling layer uses its weight unflipped, in both.
- Their filters are stored with the network, multiplied by 4 for upsampling; ours are built in.
- `latent_avg`, of shape (w_dim,), is our w_avg. e4e and pSp store it once per style, (num_ws, w_dim): w_avg is the mean
  of the rows, and if rows differ, the metadata keeps them all ("latent_avg"), as encoders add them to their output. If
  a file has none, w_avg is estimated, which the metadata states.
- Up to 32 px several channel budgets give the same network. Files written by us record the budget (`budget`) next to
  the trainer's options, so that the network keeps its fingerprint.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wplus.adapters import rebuild
from wplus.adapters.rebuild import channel_budget, count, entry, fill
from wplus.adapters.restricted import as_tensors
from wplus.errors import UserError
from wplus.models.layers import block_resolutions
from wplus.models.network import Network, meta_init
from wplus.models.stylegan2 import Discriminator, Generator

GENERATORS = ("g_ema", "g")  # in order of preference
FIRST = "conv1.conv.weight"  # a tensor that identifies generators
DECODER = "decoder."
FIXED = {"conv_clamp": None, "mbstd_group_size": 4, "architecture": "resnet"}  # in their code, not in their files
REMEDIES = {"conv_clamp": "; convert with --clamp drop writes it without one"}
BASE_CHANNELS = 512  # at 4 to 32 px; above, channel_multiplier * 16384 / resolution

# --- our names and theirs ---------------------------------------------------------------------------------------------

BIAS = ("bias", "bias")
STYLED = (
    ("weight", "conv.weight"),
    ("affine.weight", "conv.modulation.weight"),
    ("affine.bias", "conv.modulation.bias"),
)
LAYER = (*STYLED, ("bias", "activate.bias"), ("noise_strength", "noise.weight"))
COLOURS = (*STYLED, BIAS)
BLOCK = (  # of the discriminator
    ("conv0.weight", "conv1.0.weight"),
    ("conv0.bias", "conv1.1.bias"),
    ("conv1.weight", "conv2.1.weight"),
    ("conv1.bias", "conv2.2.bias"),
    ("skip.weight", "skip.1.weight"),
)
EPILOGUE = (
    ("conv.weight", "final_conv.0.weight"),
    ("conv.bias", "final_conv.1.bias"),
    ("fc.weight", "final_linear.0.weight"),
    ("fc.bias", "final_linear.0.bias"),
    ("out.weight", "final_linear.1.weight"),
    ("out.bias", "final_linear.1.bias"),
)
Layout = tuple[dict[str, str], dict[str, float]]
"""Our names of a network's tensors -> theirs, and their names of stored filters -> the sum of each."""


def _generator_layout(generator: Generator) -> Layout:
    names = {"synthesis.b4.const": "input.input"}
    for i in range(generator.arguments["num_mapping_layers"]):  # they count the normalisation of z as layer 0
        names |= _within(f"mapping.fc{i}", f"style.{i + 1}", (("weight", "weight"), BIAS))
    layers, colours, kernels = [("b4.conv1", "conv1")], [("b4.torgb", "to_rgb1")], []
    for i, res in enumerate(block_resolutions(generator.resolution)[1:]):
        layers += [(f"b{res}.conv0", f"convs.{2 * i}"), (f"b{res}.conv1", f"convs.{2 * i + 1}")]
        colours += [(f"b{res}.torgb", f"to_rgbs.{i}")]
        kernels += [f"convs.{2 * i}.conv.blur.kernel", f"to_rgbs.{i}.upsample.kernel"]
    for index, (ours, theirs) in enumerate(layers):
        names |= _within(f"synthesis.{ours}", theirs, LAYER)
        names[f"synthesis.{ours}.noise_const"] = f"noises.noise_{index}"
    for ours, theirs in colours:
        names |= _within(f"synthesis.{ours}", theirs, COLOURS)
    return names, dict.fromkeys(kernels, 4.0)  # all upsample


def _discriminator_layout(discriminator: Discriminator) -> Layout:
    resolution, kernels = discriminator.resolution, []
    names = _within(f"b{resolution}.fromrgb", "convs.0", (("weight", "0.weight"), ("bias", "1.bias")))
    for i, res in enumerate(block_resolutions(resolution)[:0:-1], start=1):
        names |= _within(f"b{res}", f"convs.{i}", BLOCK)
        kernels += [f"convs.{i}.{part}.0.kernel" for part in ("conv2", "skip")]
    names |= {f"b4.{ours}": theirs for ours, theirs in EPILOGUE}
    return names, dict.fromkeys(kernels, 1.0)  # none upsamples


def _within(ours: str, theirs: str, table: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {f"{ours}.{name}": f"{theirs}.{other}" for name, other in table}


def in_their_layout(network: Generator | Discriminator) -> dict[str, Tensor]:
    """Tensors of a network under their names and in their shapes, including filters; copies on the CPU."""
    names, kernels = _generator_layout(network) if isinstance(network, Generator) else _discriminator_layout(network)
    state = network.state_dict()
    content = {theirs: _in_their_shape(theirs, state[ours].detach().cpu().clone()) for ours, theirs in names.items()}
    return content | {name: rebuild.resampling_kernel(gain) for name, gain in kernels.items()}


def _in_their_shape(name: str, tensor: Tensor) -> Tensor:
    if name == "input.input" or name.endswith(".conv.weight"):
        return tensor[None]  # (1, C, 4, 4), (1, O, I, k, k)
    if name.startswith("noises."):
        return tensor[None, None]  # (1, 1, r, r)
    if name.endswith(".noise.weight"):
        return tensor.reshape(1)
    if name.startswith("to_rgb") and name.endswith(".bias") and ".conv." not in name:
        return tensor.reshape(1, -1, 1, 1)
    return tensor


# --- files ------------------------------------------------------------------------------------------------------------


def recognises(content: object) -> bool:
    """Whether `content` of a torch file looks like rosinality's, e4e's or pSp's."""
    return isinstance(content, Mapping) and _source(content) is not None


def read(content: Mapping[str, Any], origin: str) -> tuple[dict[str, Network], dict[str, Any]]:
    """Networks by role ("generator", "discriminator") and metadata; `origin` names the file in errors.

    UserError names the tensor that is missing, unknown or of another shape.
    """
    source = _source(content)
    assert source is not None, "ask `recognises` first"
    name, tensors = source
    networks: dict[str, Network] = {}
    options = content.get("opts", content.get("args"))
    stated = options if isinstance(options, Mapping) else {}
    metadata: dict[str, Any] = {"format": "e4e" if name == "decoder" else "rosinality", "generator": name}
    if tensors:
        generator = networks["generator"] = _generator(tensors, f"{origin}, {name}", stated)
        metadata |= _set_average(generator, content.get("latent_avg"), origin)
    if content.get("d"):
        networks["discriminator"] = _discriminator(as_tensors(content["d"]), f"{origin}, d", stated)
    return networks, metadata | ({"options": rebuild.plain(options)} if options else {})


def export(*, generator: Generator | None = None, discriminator: Discriminator | None = None) -> dict[str, Any]:
    """Our networks as {g_ema, latent_avg, d, args}, to be stored with `torch.save`.

    Options that the file cannot express are fixed in rosinality's code. UserError for a conditional or greyscale
    network, widths other than those of `channel_multiplier` 1 or 2, z and w of different size, clamped activations, and
    a discriminator that is not residual or uses another group size for the minibatch standard deviation.
    """
    content: dict[str, Any] = {}
    if generator is not None:
        _require_theirs(generator, block_resolutions(generator.resolution))
        if generator.z_dim != generator.w_dim:
            sizes = f"{generator.z_dim} and {generator.w_dim}"
            raise UserError(f"rosinality's layout has one size for z and w, this generator {sizes}.")
        content |= {"g_ema": in_their_layout(generator), "latent_avg": generator.mapping.w_avg.detach().cpu().clone()}
    if discriminator is not None:
        _require_theirs(discriminator, block_resolutions(discriminator.resolution))
        content["d"] = in_their_layout(discriminator)
    network = generator if generator is not None else discriminator
    return content if network is None else content | {"args": budget(network)}


def budget(network: Generator | Discriminator) -> dict[str, int]:
    """The channel budget of a network, which its widths do not always determine; their code ignores it."""
    return {name: network.arguments[name] for name in ("channel_base", "channel_max")}


# --- to ours --------------------------------------------------------------------------------------------------------


def _source(content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]] | None:
    """Name and tensors of the generator in a file; empty if it only has a discriminator."""
    for name in GENERATORS:
        if isinstance(content.get(name), Mapping):
            return name, as_tensors(content[name])
    if FIRST in content:
        return "g_ema", as_tensors(dict(content))
    state = content.get("state_dict")
    if isinstance(state, Mapping) and DECODER + FIRST in state:
        return "decoder", rebuild.within(as_tensors(state), DECODER)
    return ("", {}) if isinstance(content.get("d"), Mapping) else None


def _generator(tensors: dict[str, Tensor], origin: str, stated: Mapping[str, Any]) -> Generator:
    resolution = 4 * 2 ** count(tensors, "to_rgbs.{}.bias")
    channels = {4: entry(tensors, FIRST, origin).shape[1]}
    for i, res in enumerate(block_resolutions(resolution)[1:]):
        channels[res] = entry(tensors, f"convs.{2 * i + 1}.conv.weight", origin).shape[1]
    arguments = {
        "resolution": resolution,
        "z_dim": entry(tensors, "style.1.weight", origin).shape[1],
        "w_dim": entry(tensors, "conv1.conv.modulation.weight", origin).shape[1],
        "img_channels": entry(tensors, "to_rgb1.conv.weight", origin).shape[1],
        "num_mapping_layers": count(["style.0.weight", *tensors], "style.{}.weight") - 1,
        **channel_budget(channels, origin, stated=stated),
    }
    generator = meta_init(Generator, arguments)
    ours = _renamed(tensors, _generator_layout(generator), generator, origin)
    fill(generator, {**ours, "mapping.w_avg": torch.zeros(generator.w_dim)}, origin)
    return generator


def _discriminator(tensors: dict[str, Tensor], origin: str, stated: Mapping[str, Any]) -> Discriminator:
    resolution = 4 * 2 ** (count(["convs.0.skip.1.weight", *tensors], "convs.{}.skip.1.weight") - 1)
    channels = {resolution: len(entry(tensors, "convs.0.0.weight", origin))}
    for i, res in enumerate(block_resolutions(resolution)[:0:-1], start=1):
        channels[res // 2] = len(entry(tensors, f"convs.{i}.skip.1.weight", origin))
    sizes = {"resolution": resolution, "img_channels": tensors["convs.0.0.weight"].shape[1]}
    discriminator = meta_init(Discriminator, sizes | channel_budget(channels, origin, stated=stated))
    ours = _renamed(tensors, _discriminator_layout(discriminator), discriminator, origin)
    fill(discriminator, ours, origin)
    return discriminator


def _renamed(tensors: dict[str, Tensor], layout: Layout, network: nn.Module, origin: str) -> dict[str, Tensor]:
    """Their tensors under our names and in our shapes, with filters checked; `fill` refuses any not renamed."""
    names, kernels = layout
    rest, renamed, own = dict(tensors), {}, network.state_dict()
    for ours, theirs in names.items():
        tensor, shape = entry(tensors, theirs, origin), own[ours].shape
        if [size for size in tensor.shape if size > 1] != [size for size in shape if size > 1]:
            rebuild.refuse_shape(theirs, tensor, tuple(shape), origin)
        renamed[ours] = rest.pop(theirs).reshape(shape)  # theirs have extra dimensions of size 1
    for name in [name for name in kernels if name in rest]:
        rebuild.require_kernel(name, rest.pop(name), kernels[name], origin)
    return renamed | rest


def _set_average(generator: Generator, average: object, origin: str) -> dict[str, Any]:
    """Fill w_avg from a file's latent_avg; returns a note for the metadata."""
    if not isinstance(average, Tensor):
        return {"w_avg": rebuild.estimate_average(generator)}
    if average.ndim not in (1, 2) or average.shape[-1] != generator.w_dim:
        rebuild.refuse_shape(
            "latent_avg", average, f"({generator.w_dim},) or ({generator.num_ws}, {generator.w_dim})", origin
        )
    rows = average.detach().float().reshape(-1, generator.w_dim)
    if torch.equal(rows, rows[:1].expand_as(rows)):
        generator.mapping.w_avg.copy_(rows[0])
        return {"w_avg": "from the file"}
    generator.mapping.w_avg.copy_(rows.mean(dim=0))
    return {"w_avg": f"mean of the {len(rows)} rows in the file", "latent_avg": rows.tolist()}


# --- to theirs ------------------------------------------------------------------------------------------------------


def _require_theirs(network: Generator | Discriminator, resolutions: list[int]) -> None:
    """UserError unless rosinality's constructors can build this network."""
    if network.c_dim or network.img_channels != 3:
        found = f"{network.c_dim} classes and {network.img_channels} colours"
        raise UserError(f"rosinality's layout has no labels and 3 colours, this network {found}.")
    for name, fixed in FIXED.items():
        value = network.arguments.get(name, fixed)
        if value != fixed:
            found = f"this {type(network).__name__.lower()} has {value}{REMEDIES.get(name, '')}"
            raise UserError(f"rosinality's layout has no place for {name}, which is {fixed} in its code, {found}.")
    base, channel_max = network.arguments["channel_base"], network.arguments["channel_max"]
    channels = {res: min(base // res, channel_max) for res in resolutions}
    for multiplier in (1, 2):
        if channels == {res: BASE_CHANNELS if res <= 32 else multiplier * 16384 // res for res in resolutions}:
            return
    allowed = f"{BASE_CHANNELS} channels up to 32 px and channel_multiplier (1 or 2) * 16384 / resolution above"
    table = ", ".join(f"{num} at {res} px" for res, num in channels.items())
    raise UserError(f"rosinality's layout has {allowed}, this network has {table}.")
