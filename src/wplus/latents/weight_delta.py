"""Weight updates of a generator that belong to one latent: pivotal tuning saves these instead of a whole generator.

Large matrices change by a low-rank product, so that a file of 1 to 2 MB replaces the 100 MB of a 1024 px generator. The
factors themselves are optimised, so saving them loses nothing.

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
# The change of one parameter: (U, V), whose product is the change as a matrix, or (the change itself,).
Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class WeightDelta:
    """What tuning added to the parameters of a generator, for one latent.

    Attributes
        changes    parameter -> (U (O, r), V (r, I ...)) or (the change itself,); parameters not named did not change
        generator  fingerprint of the tuned generator (`wplus.checkpoint.fingerprint`)
        latent     digest of the latent it was tuned for (`code_digest`)
        metadata   free text by name, for readers and tables
    """

    changes: Mapping[str, Parts]
    generator: str
    latent: str
    metadata: dict[str, str] = field(default_factory=dict)

    def applied(self, generator: AnyGenerator, *, known: str | None = None) -> AnyGenerator:
        """A frozen copy of the generator with the change added; the generator itself is not modified.

        Pass its fingerprint as `known` to save the time of computing it. UserError for any generator other than the
        one that was tuned.
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
        """UserError unless the delta was tuned for this latent."""
        found = code_digest(latent.code)
        if found != self.latent:
            raise UserError(f"the latent of this weight delta must be {self.latent}, got {found}.")

    def save(self, path: str | Path) -> Path:
        """Write the delta to a safetensors file, atomically; `load_delta` reads it."""
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
    """Parts of a zero change to start tuning from: of the given rank, or dense if that takes no more numbers.

    U is zero and V is normal with variance 1 / rank. A step on U then moves the weights, which have scale 1 in
    equalised layers, as far as the same step on the weights themselves would.
    """
    rows, columns = parameter.shape[:1].numel(), parameter.shape[1:].numel()
    if parameter.ndim < 2 or rank * (rows + columns) >= rows * columns:
        return (torch.zeros_like(parameter),)
    factor = torch.randn(rank, columns, generator=rng) * rank**-0.5
    return parameter.new_zeros(rows, rank), factor.to(parameter)


def load_delta(path: str | Path, *, fingerprint: str | None) -> WeightDelta:
    """Read a weight delta for the generator with this fingerprint; None accepts any generator.

    UserError for a missing, truncated or foreign file, and for a delta of another generator.
    """
    return FILE.read(path, _assemble, fingerprint=fingerprint)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> WeightDelta:
    changes: dict[str, Parts] = {}
    for key in sorted(tensors):  # NAME:0 comes before NAME:1
        name = key.rpartition(":")[0]
        changes[name] = (*changes.get(name, ()), tensors[key])
    return WeightDelta(changes, header["generator"], header["latent"], dict(header["metadata"]))
