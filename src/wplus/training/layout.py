"""Memory layout of weights: channels last during training on a GPU, like the feature maps, and contiguous in files."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map


def lay_out(module: nn.Module, device: torch.device) -> None:
    """Convert convolution weights to channels last on a GPU; otherwise cuDNN would copy them in every call.

    Weights that lie so already keep their addresses, to which recorded CUDA graphs refer.
    """
    if device.type == "cuda":
        module._apply(_channels_last)


def _channels_last(tensor: Tensor) -> Tensor:
    """The tensor itself if it lies so, which `to(memory_format=...)` would copy if its shape is (N, 1, 1, 1)."""
    if tensor.dim() != 4 or tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor
    return tensor.to(memory_format=torch.channels_last)


def contiguous(tree: Any) -> Any:
    """Return a nested container with all tensors made contiguous, as they are stored in files."""
    return tree_map(lambda leaf: leaf.contiguous() if isinstance(leaf, Tensor) else leaf, tree)


def follow_layout(optimizers: Iterable[Optimizer]) -> None:
    """Give moments, e.g. those loaded from a file, the layout of their weights, as fused optimizers require."""
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                is_like = isinstance(value, Tensor) and value.shape == parameter.shape
                if is_like and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
