"""A network as NVlabs pickle it, a tree of persistent modules: its tensors, what its layers clamp by, its classes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from wplus.adapters.restricted import as_tensors
from wplus.adapters.safe_globals import Persistent
from wplus.errors import UserError

MAX_DEPTH = 10  # of modules within modules; StyleGAN2 has 4
MAX_NAME = 200  # characters, which every tensor in a module repeats; StyleGAN2 has 30
MAX_MODULES = 500  # in a tree; StyleGAN2 at 1024 px has fewer than 100
CLASSES = frozenset(
    [
        *("Generator", "MappingNetwork", "SynthesisNetwork", "SynthesisBlock", "SynthesisLayer", "ToRGBLayer"),
        *("Discriminator", "DiscriminatorBlock", "DiscriminatorEpilogue", "MinibatchStdLayer"),
        *("FullyConnectedLayer", "Conv2dLayer"),
    ]
)

UNCLAMPED = ("skip", "b4.fromrgb")  # layers that have no limit of their activations, in theirs and in ours


def module_tensors(
    module: Persistent, origin: str, prefix: str = "", seen: set[int] | None = None
) -> dict[str, Tensor]:
    """Parameters and buffers of a persistent module and all within it, each once, by their dotted names."""
    seen = set() if seen is None else seen
    seen.add(id(module))
    if prefix.count(".") > MAX_DEPTH or len(prefix) > MAX_NAME:
        raise UserError(
            f"{origin}: modules are nested more than {MAX_DEPTH} deep, or their names together longer than {MAX_NAME} "
            f"characters, at '{prefix[:MAX_NAME]}'."
        )
    own = {**module.state.get("_parameters", {}), **module.state.get("_buffers", {})}
    tensors = {f"{prefix}{name}": tensor for name, tensor in as_tensors(own).items()}
    for name, child in module.state.get("_modules", {}).items():
        if isinstance(child, Persistent) and id(child) not in seen:
            tensors |= module_tensors(child, origin, f"{prefix}{name}.", seen)
    return tensors


def clamp_of_layers(network: Persistent, origin: str) -> dict[str, Any]:
    """{"conv_clamp": the limit of all layers}, or {} where they say none; UserError where they disagree."""
    clamps = _clamps(network, "", set())
    limits = {name: clamp for name, clamp in clamps.items() if not name.endswith(UNCLAMPED)}
    if not limits:
        return {}
    common = next(iter(limits.values()))
    for name, clamp in clamps.items():
        expected = common if name in limits else None
        if clamp != expected:
            raise UserError(
                f"{origin}: the layer '{name}' has conv_clamp = {clamp!r:.40}, where {expected!r:.40} was expected; "
                "only one limit for all layers can be rebuilt."
            )
    return {"conv_clamp": common}


def _clamps(module: Persistent, prefix: str, seen: set[int]) -> dict[str, Any]:
    """The attribute `conv_clamp` of all layers within a module, by their dotted names."""
    seen.add(id(module))
    clamps = {prefix: module.state["conv_clamp"]} if "conv_clamp" in module.state else {}
    for name, child in module.state.get("_modules", {}).items():
        if isinstance(child, Persistent) and id(child) not in seen:
            clamps |= _clamps(child, f"{prefix}.{name}".strip("."), seen)
    return clamps


@contextmanager
def naming_classes(part: Any) -> Iterator[None]:
    """Inside, a refusal names the classes of the file that StyleGAN2 does not have: they say what it is instead."""
    try:
        yield
    except UserError as error:
        others = sorted(_classes(part, set()) - CLASSES)
        raise UserError(f"{error} Its classes {', '.join(others)} are not StyleGAN2's.") if others else error from None


def _classes(part: Any, seen: set[int]) -> set[str]:
    if not isinstance(part, Persistent) or id(part) in seen or len(seen) > MAX_MODULES:
        return set()
    seen.add(id(part))
    modules = part.state.get("_modules", {})
    inner = [_classes(child, seen) for child in modules.values()] if isinstance(modules, dict) else []
    return {part.class_name[:60]}.union(*inner)
