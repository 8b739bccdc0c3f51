"""Layout of the weights of a training in memory: channels last on a GPU, where the maps do, and contiguous in files."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map


def lay_out(module: nn.Module, device: torch.device) -> None:
    """Weights of convolutions channels last where a training runs on a GPU: cuDNN would copy them so in every call."""
    if device.type == "cuda":
        nn.Module.to(module, memory_format=torch.channels_last)  # Lightning's own would drop the layout


def contiguous(tree: Any) -> Any:
    """Containers with the tensors as files have them, whatever they lie like here."""
    return tree_map(lambda leaf: leaf.contiguous() if isinstance(leaf, Tensor) else leaf, tree)


def follow_layout(optimizers: Iterable[Optimizer]) -> None:
    """Moments lie as their weights do, also those that came from a file: fused optimizers demand it."""
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                is_like = isinstance(value, Tensor) and value.shape == parameter.shape
                if is_like and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
