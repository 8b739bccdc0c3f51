"""rosinality's StyleGAN2 `.pt` ({g_ema, d, latent_avg}) <-> ours, and the decoder inside e4e and pSp `.pt`.

Both projects compute the same function with the same numbers; names and shapes differ, element order does not:

- Equalised weights are stored with unit variance and scaled when used, in both. rosinality scales the 3x3 modulated
  weights too, which demodulation undoes (but for its epsilon of 1e-8), so that these are copied as they are.
- The transposed convolution of an upsampling layer takes its weight unflipped, in both.
- Their filters are stored with the network, times 4 where they upsample; ours has them built in.
- `latent_avg`, of shape (w_dim,), is our w_avg. e4e and pSp store it once per style, (num_ws, w_dim): w_avg is the mean
  of the rows, and where rows differ, metadata keeps them all ("latent_avg"), as encoders add them to their output. A
  file without any has w_avg estimated, which metadata says.
- Up to 32 px several channel budgets give the same network. A file of ours says which it was (`budget`) beside the
  trainer's options, so that the network comes back under the same fingerprint.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from wplus.adapters.rebuild import (
    channel_budget,
    count,
    entry,
    estimate_average,
    fill,
    plain,
    refuse_shape,
    require_kernel,
    resampling_kernel,
)
from wplus.adapters.restricted import as_tensors
from wplus.errors import UserError
from wplus.models.layers import block_resolutions
from wplus.models.network import Network, meta_init
from wplus.models.stylegan2 import Discriminator, Generator

GENERATORS = ("g_ema", "g")  # in the order of preference
FIRST = "conv1.conv.weight"  # of a generator's tensors
DECODER = "decoder."
FIXED = {"conv_clamp": None, "mbstd_group_size": 4, "architecture": "resnet"}  # by their code, not by their files
REMEDIES = {"conv_clamp": "; convert with --clamp drop writes it without one"}
BASE_CHANNELS = 512  # at 4 to 32 px; above, channel_multiplier * 16384 / resolution

# --- names, ours and theirs -------------------------------------------------------------------------------------------

COLOURS = (
    ("weight", "conv.weight"),
    ("affine.weight", "conv.modulation.weight"),
    ("affine.bias", "conv.modulation.bias"),
    ("bias", "bias"),
)
LAYER = (
    *COLOURS[:3],
    ("bias", "activate.bias"),
    ("noise_strength", "noise.weight"),
)
BLOCK = (  # of the discriminator
    ("conv0.weight", "conv1.0.weight"),
    ("conv0.bias", "conv1.1.bias"),
    ("conv1.weight", "conv2.1.weight"),
    ("conv1.bias", "conv2.2.bias"),
    ("skip.weight", "skip.1.weight"),
)
EPILOGUE = (
    ("b4.conv.weight", "final_conv.0.weight"),
    ("b4.conv.bias", "final_conv.1.bias"),
    ("b4.fc.weight", "final_linear.0.weight"),
    ("b4.fc.bias", "final_linear.0.bias"),
    ("b4.out.weight", "final_linear.1.weight"),
    ("b4.out.bias", "final_linear.1.bias"),
)


def generator_names(resolution: int, num_mapping_layers: int) -> dict[str, str]:
    """Our names of a generator's tensors -> theirs."""
    names = {"synthesis.b4.const": "input.input"}
    for i in range(num_mapping_layers):  # theirs counts the normalisation of z as layer 0
        names |= {f"mapping.fc{i}.{kind}": f"style.{i + 1}.{kind}" for kind in ("weight", "bias")}
    layers, colours = [("b4.conv1", "conv1")], [("b4.torgb", "to_rgb1")]
    for i, res in enumerate(block_resolutions(resolution)[1:]):
        layers += [(f"b{res}.conv0", f"convs.{2 * i}"), (f"b{res}.conv1", f"convs.{2 * i + 1}")]
        colours += [(f"b{res}.torgb", f"to_rgbs.{i}")]
    for index, (ours, theirs) in enumerate(layers):
        names |= _within(f"synthesis.{ours}", theirs, LAYER)
        names[f"synthesis.{ours}.noise_const"] = f"noises.noise_{index}"
    for ours, theirs in colours:
        names |= _within(f"synthesis.{ours}", theirs, COLOURS)
    return names


def discriminator_names(resolution: int) -> dict[str, str]:
    """Our names of a discriminator's tensors -> theirs."""
    names = {f"b{resolution}.fromrgb.weight": "convs.0.0.weight", f"b{resolution}.fromrgb.bias": "convs.0.1.bias"}
    for i, res in enumerate(block_resolutions(resolution)[:0:-1], start=1):
        names |= _within(f"b{res}", f"convs.{i}", BLOCK)
    return names | dict(EPILOGUE)


def _within(ours: str, theirs: str, table: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {f"{ours}.{name}": f"{theirs}.{other}" for name, other in table}


def generator_kernels(resolution: int) -> dict[str, float]:
    """Their stored filters in a generator, and the sum of each; all upsample."""
    ups = range(len(block_resolutions(resolution)) - 1)
    names = [f"convs.{2 * i}.conv.blur.kernel" for i in ups] + [f"to_rgbs.{i}.upsample.kernel" for i in ups]
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


# --- files ------------------------------------------------------------------------------------------------------------


def recognises(content: Any) -> bool:
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
    return networks, metadata | ({"options": plain(options)} if options else {})


def export(*, generator: Generator | None = None, discriminator: Discriminator | None = None) -> dict[str, Any]:
    """Our networks as {g_ema, latent_avg, d, args}, to be stored with `torch.save`.

    rosinality's code fixes what a file cannot say. UserError for a conditional or grey network, one with other channels
    than `channel_multiplier` 1 or 2 gives, one whose z and w differ in size, one that clamps its activations, and a
    discriminator that is not residual or has another group of the minibatch deviation.
    """
    content: dict[str, Any] = {}
    if generator is not None:
        _require_theirs(generator, block_resolutions(generator.resolution))
        if generator.z_dim != generator.w_dim:
            raise UserError(
                f"rosinality's layout has one size for z and w, this generator {generator.z_dim} and {generator.w_dim}."
            )
        content |= {"g_ema": their_generator(generator), "latent_avg": generator.mapping.w_avg.detach().cpu().clone()}
    if discriminator is not None:
        _require_theirs(discriminator, block_resolutions(discriminator.resolution))
        content["d"] = their_discriminator(discriminator)
    network = generator if generator is not None else discriminator
    return content if network is None else content | {"args": budget(network)}


def budget(network: Generator | Discriminator) -> dict[str, int]:
    """The channel budget of a network, which its widths alone do not always say; their code does not look at it."""
    return {name: network.arguments[name] for name in ("channel_base", "channel_max")}


# --- to ours --------------------------------------------------------------------------------------------------------


def _source(content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]] | None:
    """Name and tensors of the generator in a file, which are empty in a file with a discriminator only."""
    for name in GENERATORS:
        if isinstance(content.get(name), Mapping):
            return name, as_tensors(content[name])
    if FIRST in content:
        return "g_ema", as_tensors(dict(content))
    state = content.get("state_dict")
    if isinstance(state, Mapping) and DECODER + FIRST in state:
        return "decoder", {
            name.removeprefix(DECODER): tensor for name, tensor in as_tensors(state).items() if name.startswith(DECODER)
        }
    return ("", {}) if isinstance(content.get("d"), Mapping) else None


def _generator(tensors: dict[str, Tensor], origin: str, stated: Mapping[str, Any]) -> Generator:
    resolution = 4 * 2 ** count(tensors, "to_rgbs.{}.bias")
    channels = {4: entry(tensors, FIRST, origin).shape[1]}
    for i, res in enumerate(block_resolutions(resolution)[1:]):
        channels[res] = entry(tensors, f"convs.{2 * i + 1}.conv.weight", origin).shape[1]
    num_layers = count(["style.0.weight", *tensors], "style.{}.weight") - 1
    arguments = {
        "resolution": resolution,
        "z_dim": entry(tensors, "style.1.weight", origin).shape[1],
        "w_dim": entry(tensors, "conv1.conv.modulation.weight", origin).shape[1],
        "img_channels": entry(tensors, "to_rgb1.conv.weight", origin).shape[1],
        "num_mapping_layers": num_layers,
        **channel_budget(channels, origin, stated=stated),
    }
    generator = meta_init(Generator, arguments)
    names, kernels = generator_names(resolution, num_layers), generator_kernels(resolution)
    ours = _renamed(tensors, names, kernels, generator, origin)
    fill(generator, {**ours, "mapping.w_avg": torch.zeros(generator.w_dim)}, origin)
    return generator


def _discriminator(tensors: dict[str, Tensor], origin: str, stated: Mapping[str, Any]) -> Discriminator:
    resolution = 4 * 2 ** (count(["convs.0.skip.1.weight", *tensors], "convs.{}.skip.1.weight") - 1)
    channels = {resolution: len(entry(tensors, "convs.0.0.weight", origin))}
    for i, res in enumerate(block_resolutions(resolution)[:0:-1], start=1):
        channels[res // 2] = len(entry(tensors, f"convs.{i}.skip.1.weight", origin))
    img_channels = tensors["convs.0.0.weight"].shape[1]
    sizes = {"resolution": resolution, "img_channels": img_channels}
    sizes |= channel_budget(channels, origin, stated=stated)
    discriminator = meta_init(Discriminator, sizes)
    names, kernels = discriminator_names(resolution), discriminator_kernels(resolution)
    fill(discriminator, _renamed(tensors, names, kernels, discriminator, origin), origin)
    return discriminator


def _renamed(
    tensors: dict[str, Tensor], names: dict[str, str], kernels: dict[str, float], network: nn.Module, origin: str
) -> dict[str, Tensor]:
    """Their tensors under our names and in our shapes, filters checked; `fill` refuses those that keep their name."""
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    theirs_to_ours = {theirs: ours for ours, theirs in names.items()}
    for theirs in names.values():
        entry(tensors, theirs, origin)
    renamed = {}
    for name, tensor in tensors.items():
        if name in kernels:
            require_kernel(name, tensor, kernels[name], origin)
        elif name in theirs_to_ours:
            ours = theirs_to_ours[name]
            renamed[ours] = _in_shape(tensor, shapes[ours], name, origin)
        else:
            renamed[name] = tensor
    return renamed


def _in_shape(tensor: Tensor, shape: torch.Size, name: str, origin: str) -> Tensor:
    """`tensor` without, or with, dimensions of size 1; no others differ."""
    if [size for size in tensor.shape if size > 1] != [size for size in shape if size > 1]:
        refuse_shape(name, tensor, tuple(shape), origin)
    return tensor.reshape(shape)


def _set_average(generator: Generator, average: Any, origin: str) -> dict[str, Any]:
    """Fill w_avg from a file's latent_avg; returns what metadata should say about it."""
    if not isinstance(average, Tensor):
        return {"w_avg": estimate_average(generator)}
    if average.ndim not in (1, 2) or average.shape[-1] != generator.w_dim:
        refuse_shape("latent_avg", average, f"({generator.w_dim},) or ({generator.num_ws}, {generator.w_dim})", origin)
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
        raise UserError(
            f"rosinality's layout has no labels and 3 colours, this network {network.c_dim} classes "
            f"and {network.img_channels} colours."
        )
    for name, fixed in FIXED.items():
        value = network.arguments.get(name, fixed)
        if value != fixed:
            raise UserError(
                f"rosinality's layout has no place for {name}, which is {fixed} in its code, this "
                f"{type(network).__name__.lower()} has {value}{REMEDIES.get(name, '')}."
            )
    base, channel_max = network.arguments["channel_base"], network.arguments["channel_max"]
    channels = {res: min(base // res, channel_max) for res in resolutions}
    if not any(channels == {res: _their_channels(res, multiplier) for res in resolutions} for multiplier in (1, 2)):
        table = ", ".join(f"{num} at {res} px" for res, num in channels.items())
        raise UserError(
            f"rosinality's layout has {BASE_CHANNELS} channels up to 32 px and channel_multiplier (1 or 2) * "
            f"16384 / resolution above, this network has {table}."
        )


def _their_channels(resolution: int, multiplier: int) -> int:
    return BASE_CHANNELS if resolution <= 32 else multiplier * 16384 // resolution


def their_generator(generator: Generator) -> dict[str, Tensor]:
    """Tensors of a generator under their names, filters included."""
    names = generator_names(generator.resolution, generator.arguments["num_mapping_layers"])
    return _their_state(generator, names, generator_kernels(generator.resolution))


def their_discriminator(discriminator: Discriminator) -> dict[str, Tensor]:
    """Tensors of a discriminator under their names, filters included."""
    names = discriminator_names(discriminator.resolution)
    return _their_state(discriminator, names, discriminator_kernels(discriminator.resolution))


def _their_state(network: nn.Module, names: dict[str, str], kernels: dict[str, float]) -> dict[str, Tensor]:
    state = network.state_dict()
    content = {theirs: in_their_shape(theirs, state[ours]) for ours, theirs in names.items()}
    return content | {name: resampling_kernel(gain) for name, gain in kernels.items()}
