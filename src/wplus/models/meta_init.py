"""Networks that a file describes: they take no memory of their own, but the tensors of the file, where these fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wplus.errors import UserError

MAX_COUNT = 1000  # of layers, styles, pieces: each is an object in memory, whatever its size
AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


def empty(network_class: type[AnyNetwork], arguments: Mapping[str, Any]) -> AnyNetwork:
    """A network without memory: of sizes that a file only claims to have, nothing is allocated.

    UserError for more of something (`num_...`) than any network has.
    """
    for name, value in arguments.items():
        if name.startswith("num_") and isinstance(value, int) and value > MAX_COUNT:
            raise UserError(f"{name}={value} is not allowed in a file; it must be at most {MAX_COUNT}.")
    with torch.device("meta"):
        return network_class(**arguments)


def adopt(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Make `tensors` those of a network without memory; RuntimeError, torch's, names the ones that do not fit."""
    own = network.state_dict()
    cast = {name: tensor.to(own[name].dtype) if name in own else tensor for name, tensor in tensors.items()}
    network.load_state_dict(owned(cast), assign=True)
    assert not any(tensor.is_meta for tensor in [*network.parameters(), *network.buffers()])


def owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, contiguous, and cloned where they share memory: a file may say so, a network must not."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensors[name] = tensor = tensor.contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensors[name] = tensor.clone()
        seen.add(storage.data_ptr())
    return tensors
