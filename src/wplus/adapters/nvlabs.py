"""NVlabs' StyleGAN2 (stylegan2-ada-pytorch and the StyleGAN2 networks of stylegan3) <-> ours.

Parameter names are the same. Theirs also store the resampling filter with every layer, which is built into ours. Two
forms are read: the `.pkl` of their trainer, {G, D, G_ema, augment_pipe, training_set_kwargs} with persistent objects,
and a dict of state dicts under the same names ("G_ema", "D", ...), with or without the constructors' arguments
("G_kwargs", "D_kwargs"); sizes are inferred from shapes. `export` writes the second form.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from wplus.adapters import rebuild
from wplus.adapters.rebuild import count, entry, fill, plain
from wplus.adapters.restricted import as_tensors
from wplus.adapters.safe_globals import Persistent
from wplus.errors import UserError
from wplus.models.layers import block_resolutions
from wplus.models.network import Network, meta_init
from wplus.models.stylegan2 import Discriminator, Generator

GENERATORS = ("G_ema", "G")  # in order of preference: the average of the weights first
FILTER = "resample_filter"
WHOLE_BATCH = 2**30  # group size that no batch exceeds
# Constructor arguments, at any depth, that change the function without affecting names or shapes.
FIXED_ARGUMENTS: dict[str, Any] = {"activation": "lrelu", "lr_multiplier": 0.01, "use_noise": True, "normalize": True}


def recognises(content: object) -> bool:
    """Whether `content` (of a pickle or torch file) looks like NVlabs' layout."""
    return isinstance(content, Mapping) and bool(_split(content).keys() & {*GENERATORS, "D"})


def read(content: Mapping[str, Any], origin: str) -> tuple[dict[str, Network], dict[str, Any]]:
    """Networks by role ("generator", "discriminator") and metadata; `origin` names the file in errors.

    UserError names the tensor, class or argument that StyleGAN2 does not have.
    """
    parts = _split(content)
    networks: dict[str, Network] = {}
    metadata: dict[str, Any] = {"format": "nvlabs"}
    name = next((name for name in GENERATORS if parts.get(name)), None)
    try:
        if name:
            networks["generator"], average = _generator(*_opened(parts, name, origin), f"{origin}, {name}")
            metadata |= {"generator": name, "w_avg": average}
        if parts.get("D"):
            networks["discriminator"] = _discriminator(*_opened(parts, "D", origin), f"{origin}, D")
    except UserError as error:  # add the classes of networks that are not StyleGAN2
        part = parts[name] if name and "generator" not in networks else parts["D"]
        others = sorted({module.class_name[:60] for _, module in islice(_walk(part), MAX_MODULES)} - CLASSES)
        raise UserError(f"{error} Its classes {', '.join(others)} are not StyleGAN2's.") if others else error from None
    if "training_set_kwargs" in content:
        metadata["training_set_kwargs"] = plain(content["training_set_kwargs"])
    return networks, metadata


def export(*, generator: Generator | None = None, discriminator: Discriminator | None = None) -> dict[str, Any]:
    """Our networks as state dicts under NVlabs' names, with resampling filters and their constructors' arguments.

    `G_kwargs` and `D_kwargs` are for `training.networks_stylegan2` of NVlabs' stylegan3 repository.
    """
    content: dict[str, Any] = {}
    if generator is not None:
        content |= {"G_ema": _with_filters(generator), "G_kwargs": _kwargs(generator, architecture="skip")}
    if discriminator is not None:
        group = {"mbstd_group_size": discriminator.arguments["mbstd_group_size"]}
        content |= {"D": _with_filters(discriminator), "D_kwargs": _kwargs(discriminator, epilogue_kwargs=group)}
    return content


# --- what a file holds ------------------------------------------------------------------------------------------------


def _split(content: Mapping[str, Any]) -> dict[str, Any]:
    """The networks in `content`, also if names are flat ("G_ema.synthesis.b4.const") or those of a single network."""
    if "synthesis.b4.const" in content:
        return {"G_ema": content}
    if "b4.fc.weight" in content:
        return {"D": content}
    parts: dict[str, Any] = {name: part for name, part in content.items() if isinstance(part, (Mapping, Persistent))}
    for name, value in content.items():
        network, _, rest = str(name).partition(".")
        if rest and network in (*GENERATORS, "D"):
            parts.setdefault(network, {})[rest] = value
    return parts


def _opened(parts: Mapping[str, Any], name: str, origin: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and constructor's arguments of one network.

    Arguments do not include defaults, and that of the clamp has changed, so values stored in layers take precedence.
    """
    part, here = parts[name], f"{origin}, {name}"
    if isinstance(part, Persistent):
        tensors, kwargs = module_tensors(part, origin), _flat(part.state.get("_init_kwargs", {}))
        kwargs |= clamp_of_layers(part, here)
    else:
        tensors, kwargs = as_tensors(part), _flat(parts.get(f"{name[0]}_kwargs", {}))
    for argument, expected in FIXED_ARGUMENTS.items():
        if kwargs.get(argument, expected) != expected:
            raise UserError(f"{here}: {argument} = {kwargs[argument]!r} cannot be rebuilt, only {expected!r}.")
    for tensor_name, tensor in tensors.items():
        if tensor_name.endswith(FILTER):
            rebuild.require_kernel(tensor_name, tensor, 1.0, here)
    return {key: tensor for key, tensor in tensors.items() if not key.endswith(FILTER)}, kwargs


def _flat(kwargs: Any, depth: int = 2) -> dict[str, Any]:
    """Arguments merged with those of inner modules ("synthesis_kwargs", "mapping_kwargs", ...)."""
    flat: dict[str, Any] = {}
    for name, value in (kwargs or {}).items():
        is_inner = str(name).endswith("_kwargs") and depth > 0
        flat |= _flat(value, depth - 1) if is_inner else {name: value}
    return flat


# --- trees of persistent modules --------------------------------------------------------------------------------------

MAX_DEPTH = 10  # of nested modules; StyleGAN2 has 4
MAX_NAME = 200  # characters of a dotted name, repeated by every tensor in a module; StyleGAN2 has 30
MAX_MODULES = 500  # modules whose classes are named; StyleGAN2 at 1024 px has fewer than 100
CLASSES = {
    *("Generator", "MappingNetwork", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer", "ToRGBLayer"),
    *("Discriminator", "DiscriminatorBlock", "DiscriminatorEpilogue", "MinibatchStdLayer"),
    *("FullyConnectedLayer", "Conv2dLayer"),
}
UNCLAMPED = ("skip", "b4.fromrgb")  # layers without clamp, in theirs and in ours


def _walk(root: object) -> Iterator[tuple[str, Persistent]]:
    """Each module of a tree once, with its dotted name plus a trailing dot; not much deeper than StyleGAN2."""
    seen: set[int] = set()
    stack = [("", root)]
    while stack:
        prefix, module = stack.pop()
        if not isinstance(module, Persistent) or id(module) in seen:
            continue
        seen.add(id(module))
        yield prefix, module
        inner = module.state.get("_modules")
        if isinstance(inner, dict) and prefix.count(".") <= MAX_DEPTH and len(prefix) <= MAX_NAME:
            stack += [(f"{prefix}{name}.", child) for name, child in reversed(inner.items())]


def module_tensors(root: Persistent, origin: str) -> dict[str, Tensor]:
    """Parameters and buffers of a persistent module and its submodules, each once, by dotted name."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in _walk(root):
        if prefix.count(".") > MAX_DEPTH or len(prefix) > MAX_NAME:
            limits = f"nested more than {MAX_DEPTH} deep, or their names together longer than {MAX_NAME} characters"
            raise UserError(f"{origin}: modules are {limits}, at '{prefix[:MAX_NAME]}'.")
        own = {**module.state.get("_parameters", {}), **module.state.get("_buffers", {})}
        tensors |= {f"{prefix}{name}": tensor for name, tensor in as_tensors(own).items()}
    return tensors


def clamp_of_layers(root: Persistent, origin: str) -> dict[str, Any]:
    """{"conv_clamp": the clamp of all layers}, or {} if they do not store it; UserError if they disagree."""
    modules = ((prefix.removesuffix("."), module.state) for prefix, module in _walk(root))
    clamps = {name: state["conv_clamp"] for name, state in modules if "conv_clamp" in state}
    limits = {name: clamp for name, clamp in clamps.items() if not name.endswith(UNCLAMPED)}
    if not limits:
        return {}
    common = next(iter(limits.values()))
    for name, clamp in clamps.items():
        expected = common if name in limits else None
        if clamp != expected:
            found = f"the layer '{name}' has conv_clamp = {clamp!r:.40}, where {expected!r:.40} was expected"
            raise UserError(f"{origin}: {found}; only one limit for all layers can be rebuilt.")
    return {"conv_clamp": common}


# --- to ours ----------------------------------------------------------------------------------------------------------


def _generator(tensors: dict[str, Tensor], kwargs: dict[str, Any], origin: str) -> tuple[Generator, str]:
    if kwargs.get("architecture", "skip") != "skip":
        raise UserError(f"{origin}: the architecture '{kwargs['architecture']}' cannot be rebuilt, only 'skip'.")
    affine, first = "synthesis.b4.conv1.affine.weight", entry(tensors, "mapping.fc0.weight", origin)
    resolutions = _resolutions(tensors, "synthesis.b{}.conv1.weight", origin)
    channels = {res: len(entry(tensors, f"synthesis.b{res}.conv1.weight", origin)) for res in resolutions}
    w_dim = entry(tensors, affine, origin).shape[1]
    c_dim = tensors["mapping.embed.weight"].shape[1] if "mapping.embed.weight" in tensors else 0
    arguments = {
        "resolution": resolutions[-1],
        "z_dim": first.shape[1] - (w_dim if c_dim else 0),
        "w_dim": w_dim,
        "c_dim": c_dim,
        "img_channels": len(entry(tensors, f"synthesis.b{resolutions[-1]}.torgb.weight", origin)),
        "num_mapping_layers": count(tensors, "mapping.fc{}.weight"),
        "conv_clamp": _stated(kwargs, "conv_clamp", None, origin),
        **rebuild.channel_budget(channels, origin, stated=kwargs),
    }
    generator = meta_init(Generator, arguments)
    fill(generator, {"mapping.w_avg": torch.zeros(generator.w_dim), **tensors}, origin)
    return generator, "from the file" if "mapping.w_avg" in tensors else rebuild.estimate_average(generator)


def _discriminator(tensors: dict[str, Tensor], kwargs: dict[str, Any], origin: str) -> Discriminator:
    resolutions = _resolutions(tensors, "b{}.conv1.weight", origin, first=8)
    channels = {res: entry(tensors, f"b{res}.conv1.weight", origin).shape[1] for res in resolutions}
    channels[4] = len(entry(tensors, "b4.fc.weight", origin))
    has_mapping = "mapping.embed.weight" in tensors
    # Type of the blocks, inferred from tensors rather than arguments: residual, plain, or plain with image inputs.
    plain_blocks = "skip" if "b4.fromrgb.weight" in tensors else "orig"
    architecture = "resnet" if f"b{resolutions[-1]}.skip.weight" in tensors else plain_blocks
    group = _stated(kwargs, "mbstd_group_size", 4, origin, whole=True)  # theirs is None for the whole batch
    arguments = {
        "resolution": resolutions[-1],
        "c_dim": tensors["mapping.embed.weight"].shape[1] if has_mapping else 0,
        "img_channels": entry(tensors, f"b{resolutions[-1]}.fromrgb.weight", origin).shape[1],
        "num_mapping_layers": count(tensors, "mapping.fc{}.weight") if has_mapping else 8,
        "mbstd_group_size": WHOLE_BATCH if group is None else group,
        "architecture": architecture,
        "conv_clamp": _stated(kwargs, "conv_clamp", None, origin),
        **rebuild.channel_budget(channels, origin, stated=kwargs),
    }
    discriminator = meta_init(Discriminator, arguments)
    fill(discriminator, tensors, origin)
    return discriminator


def _stated(kwargs: Mapping[str, Any], name: str, default: object, origin: str, *, whole: bool = False) -> Any:
    """An argument that cannot be inferred from tensors, a positive number or None."""
    value = kwargs.get(name, default)
    if value is not None and not (type(value) in ((int,) if whole else (int, float)) and 0 < value < math.inf):
        kind = "integer" if whole else "number"
        raise UserError(f"{origin}: {name} must be a positive {kind} or None, got {value!r:.40}.")
    return value


def _resolutions(tensors: Mapping[str, Tensor], pattern: str, origin: str, *, first: int = 4) -> list[int]:
    found = [res for res in (2**i for i in range(2, 15)) if pattern.format(res) in tensors]
    if not found:
        entry({}, pattern.format(first), origin)
    return [res for res in block_resolutions(found[-1]) if res >= first]


# --- to theirs --------------------------------------------------------------------------------------------------------


def _with_filters(network: nn.Module) -> dict[str, Tensor]:
    """State dict plus the filters registered by NVlabs' modules: one per convolution and one per block."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    names = [name for name in state if not name.startswith("mapping.")]
    owners = {name.rpartition(".")[0] for name in names if state[name].ndim == 4 and "torgb" not in name}
    blocks = {owner.rpartition(".")[0] for owner in owners}
    has_filter = owners | (blocks - {"b4"})  # the discriminator's last block does not resample
    return state | {f"{owner}.{FILTER}": rebuild.resampling_kernel() for owner in sorted(has_filter)}


def _kwargs(network: Generator | Discriminator, **further: Any) -> dict[str, Any]:
    """The arguments for their constructor."""
    own = network.arguments
    same = ("z_dim", "c_dim", "w_dim", "img_channels", "channel_base", "channel_max", "architecture", "conv_clamp")
    kwargs: dict[str, Any] = {name: own[name] for name in same if name in own}
    kwargs |= {"img_resolution": own["resolution"], "mapping_kwargs": {"num_layers": own["num_mapping_layers"]}}
    return kwargs | {"num_fp16_res": 0} | further
