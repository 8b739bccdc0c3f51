"""Rebuild networks from tensors with known names: sizes are inferred from shapes, mismatches are reported by name."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models.layers import num_channels
from wplus.models.network import assign
from wplus.models.ops import FIR_TAPS
from wplus.models.stylegan2 import Generator

PUBLISHED_BUDGETS = ((32768, 512), (16384, 512))  # StyleGAN2's config-f and its half-width variants
NUM_AVERAGED = 10_000
MAX_OPTIONS, MAX_DEPTH = 10_000, 20
MISSING = "is missing; only complete {} networks are read"


def channel_budget(channels: Mapping[int, int], origin: str, *, stated: Mapping[str, Any]) -> dict[str, int]:
    """`channel_base` and `channel_max` with min(channel_base // r, channel_max) == channels[r] at every resolution r.

    If several fit, those stated in the file, published ones, and the smallest are preferred in this order. UserError if
    none fit.
    """
    smallest = max(res * num for res, num in channels.items()), max(channels.values())
    for base, maximum in [(stated.get("channel_base"), stated.get("channel_max")), *PUBLISHED_BUDGETS, smallest]:
        if not (isinstance(base, int) and isinstance(maximum, int)):
            continue
        if all(num_channels(res, base, maximum) == num for res, num in channels.items()):
            return {"channel_base": base, "channel_max": maximum}
    table = ", ".join(f"{num} at {res} px" for res, num in sorted(channels.items()))
    raise UserError(f"{origin} has {table} channels; only min(base / resolution, maximum) can be rebuilt.")


def fill(network: nn.Module, tensors: Mapping[str, Tensor], origin: str, *, kind: str = "StyleGAN2") -> None:
    """Load exactly the `tensors` into `network`; UserError names the first that does not fit.

    A network on the meta device takes the tensors themselves. `kind` is the name of the network in the error.
    """
    own = network.state_dict()
    _refuse(sorted(set(tensors) - set(own)), origin, f"is not part of {kind}")
    _refuse(sorted(set(own) - set(tensors)), origin, MISSING.format(kind))
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            refuse_shape(name, tensors[name], tuple(tensor.shape), origin)
    if any(tensor.is_meta for tensor in own.values()):
        assign(network, tensors)
    else:
        network.load_state_dict(tensors)


def entry(tensors: Mapping[str, Tensor], name: str, origin: str, *, kind: str = "StyleGAN2") -> Tensor:
    """`tensors[name]`; UserError if it is missing."""
    if name not in tensors:
        _refuse([name], origin, MISSING.format(kind))
    return tensors[name]


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, which is removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def refuse_shape(name: str, tensor: Tensor, expected: object, origin: str) -> NoReturn:
    """Raise a UserError about a tensor whose shape is not `expected`."""
    raise UserError(f"{origin}: '{name}' has the shape {tuple(tensor.shape)}, where {expected} was expected.")


def count(tensors: Iterable[str], pattern: str) -> int:
    """Number of consecutive names pattern.format(0), pattern.format(1), ... in `tensors`."""
    names, num = set(tensors), 0
    while pattern.format(num) in names:
        num += 1
    return num


def resampling_kernel(gain: float = 1.0) -> Tensor:
    """StyleGAN2's filter as stored by other projects: the outer product of [1, 3, 3, 1] with sum `gain`; (4, 4)."""
    taps = torch.tensor(FIR_TAPS, dtype=torch.float32)
    return torch.outer(taps, taps) * (gain / float(taps.sum()) ** 2)


def require_kernel(name: str, kernel: Tensor, gain: float, origin: str) -> None:
    """UserError unless a stored filter is the one built into our networks."""
    expected = resampling_kernel(gain)
    if kernel.shape != expected.shape or not torch.allclose(kernel.float(), expected, atol=1e-6):
        raise UserError(f"{origin}: '{name}' is not the resampling filter [1, 3, 3, 1].")


@torch.no_grad()
def estimate_average(generator: Generator) -> str:
    """Set `w_avg`, which the file lacks, to the mean w of 10,000 random z (and classes) of seed 0; returns a note."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(NUM_AVERAGED, generator.z_dim, generator=rng)
    classes = torch.randint(max(generator.c_dim, 1), (NUM_AVERAGED,), generator=rng)
    labels = nn.functional.one_hot(classes, generator.c_dim).float() if generator.c_dim else None
    generator.mapping.w_avg.copy_(generator.mapping(z, labels)[:, 0].mean(dim=0))
    return f"estimated from {NUM_AVERAGED} z of seed 0, the file has none"


def plain(value: object) -> Any:
    """Convert `value` (such as options of a training run) to plain JSON values; other objects become their names.

    Anything nested deeper or larger than options would be, as in a malicious file, is cut off with "...".
    """
    return _plain(value, iter(range(MAX_OPTIONS)), MAX_DEPTH)


def _plain(value: object, budget: Iterator[int], depth: int) -> Any:
    if next(budget, None) is None or depth < 0:
        return "..."
    if isinstance(value, dict):
        return {str(key): _plain(item, budget, depth - 1) for key, item in islice(value.items(), MAX_OPTIONS)}
    if isinstance(value, (list, tuple)):
        return [_plain(item, budget, depth - 1) for item in value[:MAX_OPTIONS]]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def _refuse(names: list[str], origin: str, problem: str) -> None:
    if names:
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise UserError(f"{origin}: '{names[0]}'{more} {problem}.")
