"""A change of a generator's weights that belongs to one latent: pivotal tuning saves this instead of a generator.

A large matrix changes by a product of two thin ones, so that a file of 1 to 2 MB holds what a generator of 1024 px
would need 100 MB for. The factors are what was optimised: nothing is lost by saving.

    latent, delta = load_latent("latents/a.safetensors", ...), load_delta("deltas/a.safetensors", ...)
    image = synthesize([latent], delta.applied(models.generator))
"""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from wplus.checkpoint import fingerprint
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError
from wplus.latents.latent import Latent
from wplus.models.generator import GeneratorNetwork

FILE = SafetensorsFormat(
    noun="weight delta",
    entry="wplus_weight_delta",
    version=1,
    foreign="'{path}' changes the generator {maker}, not {fingerprint}",
)
AnyGenerator = TypeVar("AnyGenerator", bound=GeneratorNetwork)
# Of one parameter: (U, V), whose product is the change of the parameter as a matrix, or the change itself alone.
Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class WeightDelta:
    """What tuning added to the parameters of a generator, for one latent.

    Attributes
        changes    parameter -> (U (O, r), V (r, I ...)) or (the change itself,); parameters not named did not change
        generator  fingerprint of the generator that was tuned (`wplus.checkpoint.fingerprint`)
        latent     digest of what it was tuned for (`code_digest`)
        metadata   free text by name, for people and tables
    """

    changes: Mapping[str, Parts]
    generator: str
    latent: str
    metadata: dict[str, str] = field(default_factory=dict)

    def applied(self, generator: AnyGenerator, *, known: str | None = None) -> AnyGenerator:
        """A copy of the generator with the change added, frozen; the generator itself stays as it is.

        `known` is its fingerprint, where that is known: reading all of its numbers takes time. UserError for another
        generator than the one that was tuned.
        """
        found = fingerprint(generator) if known is None else known
        if found != self.generator:
            raise UserError(f"the generator of this weight delta must be {self.generator}, got {found}.")
        tuned = copy.deepcopy(generator).eval().requires_grad_(False)
        parameters = dict(tuned.named_parameters())
        with torch.no_grad():
            for name, parts in self.changes.items():
                parameters[name].copy_(changed(parameters[name], parts))
        return tuned

    def check_latent(self, latent: Latent) -> None:
        """UserError unless it was tuned for this latent."""
        found = code_digest(latent.code)
        if found != self.latent:
            raise UserError(f"the latent of this weight delta must be {self.latent}, got {found}.")

    def save(self, path: str | Path) -> Path:
        """Write it to a safetensors file, whole or not at all; `load_delta` reads it."""
        header = {"generator": self.generator, "latent": self.latent, "metadata": self.metadata}
        tensors = {f"{name}:{i}": part for name, parts in self.changes.items() for i, part in enumerate(parts)}
        return FILE.write(path, header, tensors)


def code_digest(code: Tensor) -> str:
    """16 hex characters that identify the numbers of a latent."""
    return hashlib.sha256(code.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


def changed(parameter: Tensor, parts: Parts) -> Tensor:
    """A parameter plus its change, differentiable in the change."""
    change = parts[0] if len(parts) == 1 else parts[0] @ parts[1]
    return parameter + change.to(parameter.device).view_as(parameter)


def no_change(parameter: Tensor, rank: int, rng: torch.Generator) -> Parts:
    """Parts of the change 0 to start tuning from: of the given rank, or dense where that takes no more numbers.

    U is 0 and V is normal with variance 1 / rank: a step of U then moves the weights, whose scale is 1 in equalised
    layers, as far as the same step would move them directly.
    """
    rows, columns = parameter.shape[:1].numel(), parameter.shape[1:].numel()
    if parameter.ndim < 2 or rank * (rows + columns) >= rows * columns:
        return (torch.zeros_like(parameter),)
    factor = torch.randn(rank, columns, generator=rng) * rank**-0.5
    return parameter.new_zeros(rows, rank), factor.to(parameter)


def load_delta(path: str | Path, *, fingerprint: str | None) -> WeightDelta:
    """Read a weight delta for the generator with this fingerprint; None reads it for any.

    UserError for a missing, truncated or foreign file, and for one that was made with another generator.
    """
    return FILE.read(path, _assemble, fingerprint=fingerprint)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> WeightDelta:
    changes: dict[str, Parts] = {}
    for key in sorted(tensors):  # NAME:0 comes before NAME:1
        name = key.rpartition(":")[0]
        changes[name] = (*changes.get(name, ()), tensors[key])
    return WeightDelta(changes, header["generator"], header["latent"], dict(header["metadata"]))
