"""Write files in the layouts of other projects for tests: NVlabs' pickles, without NVlabs' code."""

import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CLASS_NAMES = {"": "Network", "synthesis": "SynthesisNetwork", "mapping": "MappingNetwork"}


class EasyDict(dict):
    """Like `dnnlib.util.EasyDict`, in which NVlabs' trainer keeps its options."""


EasyDict.__module__, EasyDict.__qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> None:
    raise AssertionError("never called: the restricted reader has its own")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """Pickles as NVlabs' persistent objects do: a call of `_reconstruct_persistent_obj` with name, source, state."""

    def __init__(self, class_name: str, state: dict[str, Any], *, source: str = "") -> None:
        self.meta = EasyDict(type="class", version=6, module_src=source, class_name=class_name, state=state)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


@contextmanager
def nvlabs_modules():
    """Provide the names `torch_utils.persistence` and `dnnlib.util` within the block, for pickle to refer to."""
    modules = {"torch_utils.persistence": _reconstruct_persistent_obj, "dnnlib.util": EasyDict}
    for name, thing in modules.items():
        sys.modules[name.split(".")[0]] = types.ModuleType(name.split(".")[0])
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name], thing.__name__, thing)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name], sys.modules[name.split(".")[0]]


def dumps(content: Any) -> bytes:
    """Pickle `content` as NVlabs' trainer would."""
    buffer = io.BytesIO()
    with nvlabs_modules():
        pickle.dump(content, buffer, protocol=4)
    return buffer.getvalue()


def persistent_network(tensors: Mapping[str, Tensor], kwargs: Mapping[str, Any], *, path: str = "") -> Persistent:
    """A tree of persistent modules that holds `tensors` (dotted names) and the attributes modules have."""
    here = {name: tensor for name, tensor in tensors.items() if "." not in name}
    buffers = [name for name in here if name in ("resample_filter", "noise_const", "w_avg")]
    inner: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if "." in name:
            inner.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = tensor
    modules = {child: persistent_network(own, {}, path=f"{path}.{child}".strip(".")) for child, own in inner.items()}
    state = {
        "training": False,
        "_parameters": OrderedDict((name, nn.Parameter(here[name])) for name in here if name not in buffers),
        "_buffers": OrderedDict((name, here[name]) for name in buffers),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": OrderedDict(),
        "_modules": OrderedDict(modules),
        "weight_gain": 1 / np.sqrt(np.float64(12)),
        "_init_args": (),
        "_init_kwargs": EasyDict(kwargs),
    }
    return Persistent(CLASS_NAMES.get(path, "Layer"), state, source="raise SystemExit('source text must never run')\n")


def trainer_pickle(networks: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]]) -> bytes:
    """{name: (tensors, constructor's arguments)} in the layout of NVlabs' network-snapshot.pkl."""
    content: dict[str, Any] = {name: persistent_network(*part) for name, part in networks.items()}
    pipe = Persistent(
        "AugmentPipe", {"_buffers": {"p": torch.zeros([])}, "_parameters": {}, "_modules": {}, "xflip": 1}
    )
    options = EasyDict(class_name="training.dataset.ImageFolderDataset", path="images.zip", use_labels=False)
    return dumps(content | {"augment_pipe": pipe, "training_set_kwargs": options})


def randomise(network: nn.Module) -> Any:
    """Give every tensor its own values, even those that start as zeros, and return the network in eval mode."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape))
    return network.eval().requires_grad_(False)


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    """Check that the numbers are the same, bit for bit, under the same names."""
    assert list(found.state_dict()) == list(expected.state_dict())
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)
