"""Transfer from trained networks of another resolution or domain: copies the tensors that fit and reports the rest.

Tensors are matched by function: by name or, if layer numbers in names shift with the resolution, by the canonical names
that the network declares. Those with matching shapes are copied into the generator, its moving averages and the
discriminator. The optimizers, the clock and the mean path length start afresh, since such files do not contain them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from wplus.checkpoint import Models, fingerprint, load
from wplus.errors import UserError, check_number
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import GeneratorNetwork
from wplus.models.network import Network, nets_seen
from wplus.models.progressive import Growth
from wplus.training.gan import GanModule
from wplus.training.hparams import CHECKPOINT_SIZES, Resolved, transfer_rampup
from wplus.training.transfer_report import NetworkReport, Report
from wplus.training.validate import name_of

ROLES = ("generator", "discriminator")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Configures the trained networks that a run starts from.

    Args:
        checkpoint: one or more files that wplus.load reads; each network is taken from the first that contains it.
        freeze_discriminator: number of discriminator layers, starting at the image, that stay as they were loaded.
    """

    checkpoint: str | Path | Sequence[str | Path] | None = None
    freeze_discriminator: int = 0

    def __post_init__(self) -> None:
        check_number("transfer.freeze_discriminator", self.freeze_discriminator, lowest=0, whole=True)
        if self.freeze_discriminator and not self.files:
            raise UserError(
                f"transfer.freeze_discriminator={self.freeze_discriminator} would freeze layers that have learned "
                "nothing: give transfer.checkpoint, or leave it out."
            )

    @property
    def files(self) -> list[Path]:
        """The checkpoint files; empty without a transfer."""
        given = [self.checkpoint] if isinstance(self.checkpoint, (str, Path)) else self.checkpoint or []
        return [Path(path) for path in given]

    def read(self, generator: type[GeneratorNetwork], discriminator: type[DiscriminatorNetwork]) -> Source | None:
        """Load the networks; returns None without a transfer.

        Raises UserError if a network belongs to a different family than the one to be trained, or if there is no
        generator, or no discriminator although some of its layers are to be frozen.
        """
        if not self.files:
            return None
        found, origins = Models(), dict[str, Path]()
        for path in self.files:
            for role, network in load(path).networks.items():
                if role in ROLES and role not in origins:
                    found.networks[role], origins[role] = network, path
        names = ", ".join(f"'{path}'" for path in self.files)
        if "generator" not in origins:
            raise UserError(f"There is no generator to start from in {names}; give a checkpoint that holds one.")
        if self.freeze_discriminator and "discriminator" not in origins:
            raise UserError(
                f"There is no discriminator in {names}, so transfer.freeze_discriminator={self.freeze_discriminator} "
                "has nothing to freeze: add a checkpoint with one, transfer.checkpoint=[G_FILE,D_FILE]."
            )
        for role, expected in zip(ROLES, (generator, discriminator), strict=True):
            kind = kind_of(found.networks[role]) if role in origins else None
            if kind is not None and kind is not expected:
                raise UserError(
                    f"'{origins[role]}' holds {name_of(kind)}, which {name_of(expected)} cannot "
                    "start from: choose the model= of the checkpoint."
                )
        return Source(models=found, origins=origins, freeze_discriminator=self.freeze_discriminator)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Trained networks by role, and the files they come from."""

    models: Models
    origins: Mapping[str, Path] = field(default_factory=dict)
    freeze_discriminator: int = 0

    def preset(self, resolution: int, batch_size: int | None) -> Resolved:
        """Hyper-parameters implied by the transfer; as a preset, it overrides all others.

        A progressive network starts at the resolution where the trained one ended, since its RGB layers at lower
        resolutions have not been trained since these were the highest.
        """
        generator = self.models.generator
        known, why = generator.arguments, "transfer: the checkpoint's, so that its tensors fit"
        numbers = {**transfer_rampup(), **{name: (known[name], why) for name in CHECKPOINT_SIZES if name in known}}
        if generator.progressive:
            lods = [module.value for module in generator.modules() if isinstance(module, Growth)]
            start = min(generator.resolution >> math.ceil(max(lods, default=0.0)), resolution)
            numbers["start_resolution"] = (start, "transfer: all that was trained is in use from the start")
        return numbers


def kind_of(network: Network) -> type[Network] | None:
    """Return a network's class; for discriminators that of the pixel part, None if all of it is on frozen features."""
    if not isinstance(network, DiscriminatorNetwork):
        return type(network)
    return None if network.pixel_part is None else network.own_class


def start_from(module: GanModule, source: Source) -> Report:
    """Copy what fits into the networks of an untrained module and its moving averages.

    Raises UserError if no weights of the generator fit, or if a layer to be frozen was not loaded.
    """
    report = transfer({role: getattr(module, role) for role in ROLES}, source.models, source.origins)
    module.ema.load_state_dict(module.generator.state_dict())
    for average in module.power_averages.averages:
        average.load_state_dict(module.generator.state_dict())
    networks = [module.generator, module.ema, module.discriminator, *module.stored_averages.values()]
    saw = nets_seen([*networks, *source.models.networks.values()])  # the new weights inherit their influence
    for network in networks:
        network.saw = saw
    generator, discriminator = report.networks
    weights = {name for name, parameter in module.generator.named_parameters() if parameter.dim() >= 2}
    if not weights & generator.loaded.keys():
        differing = "; ".join(f"{name} is {a} there and {b} here" for name, (a, b) in generator.arguments.items())
        raise UserError(
            f"No weights of the generator in '{generator.origin}' fit this one ({differing or 'its sizes'})."
        )
    held = {id(tensor) for layer in module.frozen for tensor in layer.state_dict(keep_vars=True).values()}
    tensors = module.discriminator.state_dict(keep_vars=True)
    frozen = tuple(name for name, tensor in tensors.items() if id(tensor) in held)
    if missing := [name for name in frozen if name not in discriminator.loaded]:
        raise UserError(
            f"transfer.freeze_discriminator={len(module.frozen)} would freeze {missing[0]}, which was not loaded from "
            f"'{discriminator.origin}': freeze fewer layers, or none."
        )
    found = source.models.networks  # fingerprinted: a resumed run must have started from the same networks
    module.run_fingerprint["transfer"] = {role: fingerprint(found[role]) if role in found else None for role in ROLES}
    return replace(report, frozen=frozen)


@torch.no_grad()
def transfer(networks: Mapping[str, Network], models: Models, origins: Mapping[str, Path] | None = None) -> Report:
    """Copy into the networks (role -> network) the tensors of `models` with the same function and shape."""
    pairs = [(role, network, models.networks.get(role)) for role, network in networks.items()]
    return Report(tuple(_copy(role, ours, theirs, (origins or {}).get(role)) for role, ours, theirs in pairs))


def _copy(role: str, ours: Network, theirs: Network | None, origin: Path | None) -> NetworkReport:
    here, there = _by_place(ours), {} if theirs is None else _by_place(theirs)
    loaded, mismatched, new = dict[str, int](), dict[str, tuple[tuple[int, ...], tuple[int, ...]]](), dict[str, int]()
    for place, (name, tensor) in here.items():
        if place not in there:
            new[name] = tensor.numel()
        elif there[place][1].shape == tensor.shape:
            tensor.copy_(there[place][1])
            loaded[name] = tensor.numel()
        else:
            mismatched[name] = (tuple(there[place][1].shape), tuple(tensor.shape))
    skipped = {name: tensor.numel() for place, (name, tensor) in there.items() if place not in here}
    known = dict.fromkeys(ours.arguments) if theirs is None else theirs.arguments
    arguments = {name: (known.get(name), value) for name, value in ours.arguments.items()}
    resolutions = arguments.pop("resolution")
    # a network of a different class, such as one with additional heads, has different arguments
    differing = {name: pair for name, pair in arguments.items()
                 if theirs is not None and name in theirs.arguments and pair[0] != pair[1]}  # fmt: skip
    return NetworkReport(
        role=role, origin=origin, resolutions=resolutions, arguments=differing,
        loaded=loaded, mismatched=mismatched, skipped=skipped, new=new,
    )  # fmt: skip


def _by_place(network: Network) -> dict[str, tuple[str, Tensor]]:
    """Map a tensor's function to its name and value; the growth state is left out, as it follows the clock."""
    moved = {f"{name}.": f"{place}." if place else "" for name, place in network.canonical_names().items()}
    grown = {f"{name}.lod" for name, module in network.named_modules() if isinstance(module, Growth)}
    found = {}
    for name, tensor in network.state_dict().items():
        prefix = next((prefix for prefix in moved if name.startswith(prefix)), "")
        if name not in grown:
            found[moved.get(prefix, "") + name.removeprefix(prefix)] = (name, tensor)
    return found
