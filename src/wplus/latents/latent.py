"""Latents that know where they belong: their space, their generator, their truncation and their noise.

A saved latent is a safetensors file; what it means stands as JSON in the header. It reproduces its image exactly,
or says in one sentence why it cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError, check_choice
from wplus.models.network import GeneratorNetwork

Space = Literal["z", "z+", "w", "w+"]
SPACES: tuple[Space, ...] = ("z", "z+", "w", "w+")
# Where a latent of a space can go without loss: z through the mapping network, one vector to a copy per layer.
LIFTS: dict[Space, tuple[Space, ...]] = {
    "z": ("z", "z+", "w", "w+"),
    "z+": ("z+", "w+"),
    "w": ("w", "w+"),
    "w+": ("w+",),
}
FILE = SafetensorsFormat(
    noun="latent",
    entry="wplus_latent",
    version=1,
    foreign="The latent '{path}' was made with generator {maker}, not with {fingerprint}",
)
_NUM_DIMS = {"z": 1, "z+": 2, "w": 1, "w+": 2}
_IN_HEADER = ("space", "generator", "truncation_psi", "truncation_cutoff")


@dataclass(frozen=True)
class Latent:
    """One latent and all that its image depends on.

    Attributes
        code               z (z_dim,), z+ (num_ws, z_dim), w (w_dim,) or w+ (num_ws, w_dim)
        space              which of the four
        generator          fingerprint of the generator that it was made with (`wplus.checkpoint.fingerprint`)
        noise              one (1, r, r) per noise layer, or None for the generator's stored noise
        truncation_psi     applied on decoding, as in `to_ws`; 1 leaves it alone
        truncation_cutoff  number of layers that are truncated, None for all
        label              (c_dim,) one-hot, needed to decode a z or z+ of a conditional generator
        metadata           free text by name, for people and tables
    """

    code: Tensor
    space: Space
    generator: str
    noise: tuple[Tensor, ...] | None = None
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    label: Tensor | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_space(self.space)
        if self.code.ndim != _NUM_DIMS[self.space]:
            shape = tuple(self.code.shape)
            raise UserError(f"{self.space} must have {_NUM_DIMS[self.space]} dimension(s), got the shape {shape}")


def check_space(space: str) -> None:
    """UserError unless `space` is one of z, z+, w, w+."""
    check_choice("space", space, SPACES)


# Files


def save_latent(path: str | Path, latent: Latent) -> Path:
    """Write `latent` to a safetensors file, whole or not at all."""
    header = {name: getattr(latent, name) for name in _IN_HEADER} | {"metadata": latent.metadata}
    tensors = {"code": latent.code, **{f"noise.{i}": layer for i, layer in enumerate(latent.noise or ())}}
    if latent.label is not None:
        tensors["label"] = latent.label
    return FILE.write(path, header, tensors)


def load_latent(path: str | Path, *, fingerprint: str | None) -> Latent:
    """Read a latent file for the generator with this fingerprint; None reads it for any.

    UserError for a missing, truncated or foreign file, and for one that was made with another generator.
    """
    return FILE.read(path, _assemble, fingerprint=fingerprint)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> Latent:
    num_noise = sum(name.startswith("noise.") for name in tensors)
    return Latent(
        code=tensors["code"],
        noise=tuple(tensors[f"noise.{i}"] for i in range(num_noise)) or None,
        label=tensors.get("label"),
        metadata=dict(header["metadata"]),
        **{name: header[name] for name in _IN_HEADER},
    )


# Decoding


def to_ws(
    latents: Tensor,
    space: Space,
    generator: GeneratorNetwork,
    *,
    labels: Tensor | None = None,
    truncation_psi: float = 1.0,
    truncation_cutoff: int | None = None,
) -> Tensor:
    """Latents of one space -> ws (N, num_ws, w_dim), differentiable in the latents.

    latents: z (N, z_dim), z+ (N, num_ws, z_dim: a z of its own for every layer), w (N, w_dim) or w+ (N, num_ws, w_dim).
    Truncation means the same in every space: the first `truncation_cutoff` layers (None: all) are pulled to the mean,
    w_avg + psi (w - w_avg). `labels` (N, c_dim) are used in z and z+ alone, where w depends on them.
    """
    check_space(space)
    size = (generator.z_dim if space in ("z", "z+") else generator.w_dim,)
    allowed = size if _NUM_DIMS[space] == 1 else (generator.num_ws, *size)
    if latents.shape[1:] != allowed:
        wanted = ", ".join(map(str, allowed))
        raise UserError(f"{space} of this generator must be (N, {wanted}), got {tuple(latents.shape)}")
    if space == "z":
        return generator.mapping(latents, labels, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
    if space == "z+":  # all layers of all latents in one pass of the mapping network
        repeated = None if labels is None else labels.repeat_interleave(generator.num_ws, dim=0)
        ws = generator.mapping(latents.flatten(0, 1), repeated)[:, 0].unflatten(0, latents.shape[:2])
    else:
        ws = latents[:, None].expand(-1, generator.num_ws, -1) if space == "w" else latents
    return ws if truncation_psi == 1 else generator.mapping.truncate(ws, truncation_psi, truncation_cutoff)


def ws_of(latent: Latent, generator: GeneratorNetwork) -> Tensor:
    """The styles of one latent, its truncation applied: (num_ws, w_dim) on the generator's device."""
    device = generator.mapping.w_avg.device
    return to_ws(
        latent.code[None].to(device),
        latent.space,
        generator,
        labels=None if latent.label is None else latent.label[None].to(device),
        truncation_psi=latent.truncation_psi,
        truncation_cutoff=latent.truncation_cutoff,
    )[0]


@torch.no_grad()
def synthesize(latents: Sequence[Latent], generator: GeneratorNetwork) -> Tensor:
    """The images of latents, of any mixture of spaces: (N, C, H, W), each with its own noise."""
    ws = torch.stack([ws_of(latent, generator) for latent in latents])
    if all(latent.noise is None for latent in latents):
        return generator.synthesis(ws, noise_mode="const")
    stored = tuple(layer[0] for layer in generator.synthesis.const_noise())
    layers = zip(*[latent.noise or stored for latent in latents], strict=True)
    return generator.synthesis(ws, noise=[torch.stack([noise.to(ws.device) for noise in layer]) for layer in layers])
