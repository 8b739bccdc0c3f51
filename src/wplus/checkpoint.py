"""The format for sharing models: a safetensors file whose header describes how to rebuild the networks.

The header stores the class and the constructor arguments of every network as JSON; nothing is pickled and nothing
from the file is executed. Checkpoints for resuming training are separate (see wplus.training).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn

from wplus.core.files import at_home
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError, reason
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.encoders.base import Encoder
from wplus.models.generator import GeneratorNetwork
from wplus.models.network import Network, assign, class_named, described, meta_init, nets_seen
from wplus.models.translation.base import TranslatorNetwork
from wplus.models.translation.patch import PatchDiscriminator

FILE = SafetensorsFormat(noun="checkpoint", entry="wplus", version=1, foreign="")
ROLES: dict[str, tuple[type[Network], ...]] = {
    "generator": (GeneratorNetwork, TranslatorNetwork),
    "discriminator": (DiscriminatorNetwork, PatchDiscriminator),
    "encoder": (Encoder,),
    "generator_backward": (TranslatorNetwork,),  # CycleGAN: from the second domain to the first
    "discriminator_backward": (PatchDiscriminator,),  # CycleGAN: judges the first domain
}
TRANSLATION = (TranslatorNetwork, PatchDiscriminator)  # networks without a latent space
AnyNetwork = TypeVar("AnyNetwork", bound=Network)
LABELS = "labels"  # a sample of the labels of the generator's training data
WEIGHTS, CONFIG = "model.safetensors", "config.json"  # the files of a model folder
HUB = "hub:"  # prefix of model names on the Hugging Face Hub


class _Role(Generic[AnyNetwork]):
    """Descriptor for an attribute of `Models`: the network with that role; UserError if there is none."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, models: Models, owner: type) -> AnyNetwork:
        return cast(AnyNetwork, models.need(self.name))

    def __set__(self, models: Models, network: AnyNetwork | None) -> None:
        if network is None:
            models.networks.pop(self.name, None)
        else:
            models.networks[self.name] = network


class Models:
    """The contents of a checkpoint: `networks` by role, each also an attribute that raises UserError if it is missing.

    To test for a network, use `"encoder" in models.networks`.
    """

    generator = _Role[GeneratorNetwork]()
    discriminator = _Role[DiscriminatorNetwork]()
    encoder = _Role[Encoder]()
    generator_backward = _Role[TranslatorNetwork]()
    discriminator_backward = _Role[PatchDiscriminator]()

    def __init__(
        self,
        *,
        generator: GeneratorNetwork | None = None,
        discriminator: DiscriminatorNetwork | None = None,
        encoder: Encoder | None = None,
        metadata: Mapping[str, Any] | None = None,
        path: str | Path | None = None,
    ) -> None:
        self.networks: dict[str, Network] = {}
        self.generator, self.discriminator, self.encoder = generator, discriminator, encoder
        self.metadata, self.path = dict(metadata or {}), path

    def need(self, role: str) -> Network:
        """Return the network with this role; UserError if there is none."""
        if role not in self.networks:
            where = "The checkpoint" if self.path is None else f"Checkpoint '{self.path}'"
            raise UserError(f"{where} has no {role}; it holds {', '.join(self.networks) or 'no network'}.")
        return self.networks[role]

    def require_latents(self, roles: Sequence[str] = ("generator",)) -> None:
        """Raise UserError if a role has no network, or has one that maps images to images."""
        for role in roles:
            if isinstance(self.need(role), TRANSLATION):
                raise UserError(f"The {role} in '{self.path}' turns images into images: it has no latent space.")

    @cached_property
    def fingerprint(self) -> str:
        """The generator's fingerprint (see `fingerprint`), which latents refer to."""
        return fingerprint(self.generator)

    @property
    def saw(self) -> tuple[str, ...]:
        """Pretrained networks used in training any of these networks, also through a discriminator (`Network.saw`)."""
        return nets_seen(self.networks.values())

    def to(self, device: str | torch.device) -> Models:
        """Move every network to `device`, in place."""
        for net in self.networks.values():
            net.to(device)
        return self


def fingerprint(module: nn.Module) -> str:
    """16 hex characters identifying a network's function: SHA-256 of its constructor arguments and all its tensors."""
    return tensors_digest(module, json.dumps(described(module), sort_keys=True))[:16]


def tensors_digest(module: nn.Module, start: str = "") -> str:
    """SHA-256 of the text `start` followed by the names and values of a network's tensors."""
    digest = hashlib.sha256(start.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(
    path: str | Path,
    *,
    generator: Network | None = None,
    discriminator: Network | None = None,
    encoder: Network | None = None,
    generator_backward: Network | None = None,
    discriminator_backward: Network | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write the given networks to one `.safetensors` file, atomically; `metadata` is anything JSON can hold."""
    given = zip(ROLES, (generator, discriminator, encoder, generator_backward, discriminator_backward), strict=True)
    networks = {role: net for role, net in given if net is not None}
    if not networks:
        raise UserError(f"Nothing to save in '{path}'; give at least one of {', '.join(ROLES)}.")
    states = {role: net.state_dict() for role, net in networks.items()}
    tensors = {f"{role}.{name}": tensor for role, state in states.items() for name, tensor in state.items()}
    labels = getattr(generator, "data_labels", None)
    tensors |= {} if labels is None else {LABELS: labels}
    return FILE.write(path, describe(networks, metadata), tensors)


def describe(networks: Mapping[str, Network], metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything needed to rebuild these networks except their tensors: a file's header, or a folder's config."""
    saw = nets_seen(networks.values())  # the generator inherits what its discriminator saw
    entries = {role: described(net) | ({"saw": list(saw)} if saw else {}) for role, net in networks.items()}
    return {"version": FILE.version, "networks": entries, "metadata": dict(metadata or {})}


def load(path: str | Path, device: str | torch.device = "cpu", *, needs: Sequence[str] = ()) -> Models:
    """Load the networks of a checkpoint: a wplus file, a folder with config.json and model.safetensors, or a checkpoint
    of another project that `wplus.adapters` supports. `cats32` is a bundled model, `hub:user/name` one on the Hugging
    Face Hub, and `hub:user/name@revision` a specific revision of it.

    Networks are returned in evaluation mode with frozen parameters. Raises UserError for a missing, truncated or
    unknown file, for one whose tensors do not match its own header, and for one in which a network that the caller
    `needs` is missing or has no latent space.
    """
    file = located(path)
    if file.is_dir():
        networks, metadata = _read_folder(file)
    elif not file.is_file():
        raise UserError(
            f"Checkpoint '{file}' does not exist; give the path of a .safetensors, .pkl or .pt file, hub:USER/NAME, or "
            "the name of a bundled model, such as cats32."
        )
    elif _is_safetensors(file):
        networks, metadata = _read_own(file)
    else:
        from wplus.adapters import read_foreign

        networks, metadata = read_foreign(file)
    models = Models(metadata=metadata, path=file)
    models.networks |= networks
    models.require_latents(needs)
    for net in models.networks.values():
        net.eval().requires_grad_(False)
    return models.to(device)


def located(path: str | Path) -> Path:
    """Resolve `path` to a file or folder; it may also name a bundled model or one on the Hugging Face Hub."""
    text, file = str(path), at_home(path)
    if text.startswith(HUB):
        from wplus.adapters.hub import downloaded

        return downloaded(text.removeprefix(HUB))
    if file.suffix or len(file.parts) != 1 or file.exists():
        return file
    from wplus.config import bundled_models  # imports Hydra

    return bundled_models().get(text, file)


def load_network(path: str | Path, role: str) -> Network:
    """Load one network of a checkpoint, for use as a `_target_` in configs; UserError if the checkpoint lacks it."""
    if role not in ROLES:
        raise UserError(f"A checkpoint has no networks of the role '{role}'; it has {', '.join(ROLES)}.")
    if not isinstance(path, (str, Path)):
        raise UserError(f"The {role} comes from a checkpoint: give the path of a file, not {path!r:.60}.")
    return load(path).need(role)


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts like safetensors: the header's length (8 bytes, little endian) and a JSON object."""
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) < 9 or (start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 10**8)


def _read_folder(folder: Path) -> tuple[dict[str, Network], dict[str, Any]]:
    """Read a model folder; `config.json` replaces the header if other tools have rewritten the weights without it."""
    weights, config = folder / WEIGHTS, folder / CONFIG
    if not weights.is_file():
        raise UserError(f"The folder '{folder}' holds no model: there is no {WEIGHTS} in it.")
    try:
        entry = json.loads(config.read_bytes()) if config.is_file() else None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"Cannot read '{config}': the file is truncated or damaged ({error}).") from error
    return _read_own(weights, entry)


def _read_own(path: Path, config: object = None) -> tuple[dict[str, Network], dict[str, Any]]:
    header, tensors = FILE.open(path)
    if header is None:
        header = config
    elif config is not None and _networks(config) != _networks(header):
        raise UserError(f"{CONFIG} and {WEIGHTS} in '{path.parent}' describe different networks: write them again.")
    version = header.get("version") if isinstance(header, dict) else None
    if isinstance(version, int) and version > FILE.version:
        raise UserError(f"'{path}' has format version {version}; this wplus reads up to {FILE.version}.")
    if not _describes_networks(header):
        raise UserError(f"'{path}' is a safetensors file but not a wplus checkpoint: its header describes no networks.")
    networks = {role: _rebuild(path, role, entry, tensors) for role, entry in header["networks"].items()}
    _take_labels(path, networks.get("generator"), tensors.get(LABELS))
    return networks, header.get("metadata", {})


def _take_labels(path: Path, generator: Network | None, labels: torch.Tensor | None) -> None:
    if isinstance(generator, GeneratorNetwork) and labels is not None:
        if labels.ndim != 2 or labels.shape[1] != generator.c_dim or not len(labels) or not labels.isfinite().all():
            raise UserError(f"The labels in '{path}' do not fit its generator: {tuple(labels.shape)} numbers.")
        generator.data_labels = labels.float()


def _networks(header: object) -> Any:
    return header.get("networks") if isinstance(header, dict) else None


def _describes_networks(header: object) -> bool:
    """Whether a header has the form {"networks": {role: {"class": name, "arguments": {...}}}}, with an optional "saw",
    a list of names, in each entry."""
    networks = _networks(header)
    if not isinstance(networks, dict) or not networks.keys() <= ROLES.keys():
        return False
    entries = [entry if isinstance(entry, dict) else {} for entry in networks.values()]
    are_whole = all(isinstance(e.get("class"), str) and isinstance(e.get("arguments"), dict) for e in entries)
    return are_whole and all(_are_names(e.get("saw", [])) for e in entries)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _rebuild(path: Path, role: str, entry: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Network:
    network_class = class_named(entry["class"])  # only subclasses of `Network` in this package's models
    if network_class is None:
        unknown = f"'{path}' holds a network of the unknown architecture '{entry['class']}'"
        raise UserError(f"{unknown}; this wplus cannot build it.")
    if not issubclass(network_class, ROLES[role]):
        raise UserError(f"The {role} in '{path}' is a {entry['class']}, which cannot be one.")
    own = {name.removeprefix(f"{role}."): tensor for name, tensor in tensors.items() if name.startswith(f"{role}.")}
    try:
        net = meta_init(network_class, entry["arguments"])
        assign(net, own)
    except UserError as error:
        raise UserError(f"The {role} in '{path}' cannot be rebuilt: {error}") from error
    except Exception as error:  # a file's contents can be wrong in any way
        raise UserError(f"The {role} in '{path}' does not fit its own description: {reason(error)}.") from error
    net.saw = tuple(entry.get("saw", ()))
    return net
