"""The base class of all networks, and their descriptions in files.

Networks record the plain arguments of their constructors, so that a checkpoint can rebuild them from a description and
tensors without allocating memory of its own.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from wplus.errors import UserError


class Network(nn.Module):
    """A module whose constructor only takes plain keyword arguments and records them in `self.arguments`, so that
    `type(net)(**net.arguments)` is an untrained network of the same architecture. A network among the arguments is
    recorded as its description (`described`), which the constructor accepts in its place."""

    arguments: dict[str, Any]
    saw: tuple[str, ...] = ()
    """Names of pretrained nets whose features were used to train it or its discriminator: metrics based on them are
    marked (`wplus.pretrained.seen`). Stored in files, but not part of the fingerprint."""

    second_order: ClassVar[bool] = True  # can be differentiated twice, as gradient penalties and path lengths require
    batch_norm: ClassVar[bool] = False  # normalises over the batch in training, so images depend on each other
    drops_units: ClassVar[bool] = False  # uses dropout in training, drawn from torch's global generator
    progressive: ClassVar[bool] = False  # grows during training (`wplus.models.progressive`)
    from_image: ClassVar[tuple[str, ...]] = ()  # submodules at the image end, and lists that are indexed from there

    @property
    def num_parameters(self) -> int:
        """Number of its weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())

    def canonical_names(self) -> dict[str, str]:
        """Submodules whose names do not identify their resolution -> names that do. All others have the same name in
        networks of the family at any resolution (`wplus.training.transfer`)."""
        names: dict[str, str] = {}
        for name in self.from_image:
            part = self.get_submodule(name)
            if isinstance(part, nn.ModuleList):  # counted from the 4 px end, at any resolution
                names |= {f"{name}.{i}": f"{name}.{i - len(part)}" for i in range(len(part))}
            else:
                names[name] = f"{name}{self.arguments['resolution']}"
        return names

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]


def nets_seen(networks: Iterable[Network], others: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of all pretrained nets used to train any of the networks, and of `others`."""
    return tuple(sorted({name for network in networks for name in getattr(network, "saw", ())} | set(others)))


def _recording(init: Any) -> Any:
    signature = inspect.signature(init)
    passed_on = next((name for name, each in signature.parameters.items() if each.kind is each.VAR_KEYWORD), None)

    @functools.wraps(init)
    def recorded(self: Network, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        arguments = {
            name: described(value) if isinstance(value, Network) else value
            for name, value in bound.arguments.items()
            if name not in ("self", passed_on)
        }
        init(self, *args, **kwargs)
        base = self.arguments if passed_on else {}  # arguments passed on by a subclass were recorded by its base
        self.arguments = {**base, **arguments}  # set last: nn.Module.__init__ ran inside

    return recorded


# --- networks that a file describes -----------------------------------------------------------------------------------

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)
PACKAGE = "wplus.models."
MOVED = {"encoders.psp": "encoders.e4e", "encoders.w": "encoders.e4e"}  # module names in older files
MAX_COUNT = 1000  # of layers, styles, pieces: each is an object in memory, whatever its size


def described(network: nn.Module) -> dict[str, Any]:
    """Description of a network: its class, without the name of this package, and its constructor's arguments."""
    name = f"{type(network).__module__}.{type(network).__qualname__}"
    return {"class": name.removeprefix(PACKAGE), "arguments": getattr(network, "arguments", {})}


def class_named(name: str) -> type[Network] | None:
    """The class named in a description; only subclasses of `Network` in this package's models are allowed."""
    module_name, _, class_name = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(PACKAGE + MOVED.get(module_name, module_name)), class_name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) and issubclass(found, Network) else None


def meta_init(network_class: type[AnyNetwork], arguments: Mapping[str, Any]) -> AnyNetwork:
    """A network on the meta device, so that sizes claimed by a file allocate nothing; UserError for a count
    (`num_...`) beyond that of any network."""
    check_counts(arguments)
    with torch.device("meta"):
        return network_class(**arguments)


def check_counts(arguments: Mapping[str, Any]) -> None:
    """UserError for a count beyond that of any network, in a network or one nested in it."""
    for name, value in arguments.items():
        if isinstance(value, Mapping):
            check_counts(value)
        if name.startswith("num_") and isinstance(value, int) and value > MAX_COUNT:
            raise UserError(f"{name} must be at most {MAX_COUNT} in a file, got {value}.")


def assign(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Assign `tensors` to a network from `meta_init`; torch's RuntimeError names the ones that do not fit."""
    own = network.state_dict()
    cast = {name: tensor.to(own[name].dtype) if name in own else tensor for name, tensor in tensors.items()}
    seen: set[int] = set()
    for name, tensor in cast.items():  # contiguous, and cloned where a file lets them share memory: a network must not
        cast[name] = tensor = tensor.contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            cast[name] = tensor.clone()
        seen.add(storage.data_ptr())
    network.load_state_dict(cast, assign=True)
    assert not any(tensor.is_meta for tensor in [*network.parameters(), *network.buffers()])
