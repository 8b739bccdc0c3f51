"""Latents together with their space, generator, truncation and noise.

A latent is saved as a safetensors file with its metadata as JSON in the header. It reproduces its image exactly, or
fails with a one-sentence error that says why it cannot.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError
from wplus.latents.space import LatentSpace, Space, check_shape, space_named, space_of
from wplus.models.generator import GeneratorNetwork, Styles

FILE = SafetensorsFormat(
    noun="latent",
    entry="wplus_latent",
    version=1,
    foreign="The latent '{path}' was made with generator {maker}, not with {fingerprint}",
)
_IN_HEADER = ("space", "generator", "truncation_psi", "truncation_cutoff")


@dataclass(frozen=True)
class Latent:
    """One latent and everything its image depends on.

    Attributes
        code               the numbers: z (z_dim,), w+ (num_ws, w_dim), ...; see `wplus.latents.spaces`
        space              name of the space
        generator          fingerprint of the generator it was made with (`wplus.checkpoint.fingerprint`)
        noise              one (1, r, r) per noise layer, or None for the generator's stored noise
        truncation_psi     applied when decoding, as in `to_ws`; 1 means no truncation
        truncation_cutoff  number of truncated layers, None for all
        label              (c_dim,) one-hot, needed to decode a z or z+ of a conditional generator
        metadata           free text by name, for readers and tables
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
        space = space_named(self.space)
        num_dims = 2 if space.of_layers and space.has_ws else 1
        if self.code.ndim != num_dims:
            shape = tuple(self.code.shape)
            raise UserError(f"{self.space} must have {num_dims} dimension(s), got the shape {shape}.")
        _check_truncation(space, self.truncation_psi)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.code.shape))
        truncated = "" if self.truncation_psi == 1 else f", truncation psi {self.truncation_psi:g}"
        return f"<Latent of {self.space}: {size}{truncated}, of generator {self.generator}>"


# Files


def save_latent(path: str | Path, latent: Latent) -> Path:
    """Write `latent` to a safetensors file, atomically."""
    header = {name: getattr(latent, name) for name in _IN_HEADER} | {"metadata": latent.metadata}
    tensors = {"code": latent.code, **{f"noise.{i}": layer for i, layer in enumerate(latent.noise or ())}}
    if latent.label is not None:
        tensors["label"] = latent.label
    return FILE.write(path, header, tensors)


def load_latent(path: str | Path, *, fingerprint: str | None) -> Latent:
    """Read a latent file made with the generator of this fingerprint; None accepts any generator.

    UserError for a missing, truncated or foreign file, and for a latent of another generator.
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
    """Latents (N, ...) of one space -> ws (N, num_ws, w_dim), differentiable in the latents.

    Truncation means the same in every space: the first `truncation_cutoff` layers (None: all) are pulled towards the
    mean, w_avg + psi (w - w_avg). `labels` (N, c_dim) are only used in spaces before the mapping network, where w
    depends on them. UserError for a space that cannot be mapped to w+.
    """
    found = space_of(space, generator)
    check_shape(latents, found, generator)
    ws = found.to_ws(latents, generator, labels)
    return ws if truncation_psi == 1 else generator.mapping.truncate(ws, truncation_psi, truncation_cutoff)


def decode(
    latents: Tensor, space: Space, generator: GeneratorNetwork, *, labels: Tensor | None = None,
    truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
) -> Tensor | Styles:  # fmt: skip
    """Latents of one space -> the input of `generator.synthesis`: ws (see `to_ws`) or styles."""
    found = space_of(space, generator)
    if found.has_ws:
        return to_ws(latents, space, generator, labels=labels, truncation_psi=truncation_psi,
                     truncation_cutoff=truncation_cutoff)  # fmt: skip
    _check_truncation(found, truncation_psi)
    check_shape(latents, found, generator)
    return found.to_styles(latents, generator)


def _check_truncation(space: LatentSpace, psi: float) -> None:
    if psi != 1 and not space.has_ws:
        raise UserError(f"truncation_psi must be 1 in {space}, whose latents are truncated on the way, got {psi}.")


def has_cutoff(latent: Latent) -> bool:
    """Whether truncation makes the layers of a single w differ from each other."""
    return latent.truncation_psi != 1 and latent.truncation_cutoff is not None


def ws_of(latent: Latent, generator: GeneratorNetwork) -> Tensor:
    """The truncated ws of one latent: (num_ws, w_dim) on the generator's device."""
    return to_ws(latent.code[None].to(_device(generator)), latent.space, generator, **_options(latent, generator))[0]


def _options(latent: Latent, generator: GeneratorNetwork) -> dict[str, Any]:
    return {
        "labels": None if latent.label is None else latent.label[None].to(_device(generator)),
        "truncation_psi": latent.truncation_psi,
        "truncation_cutoff": latent.truncation_cutoff,
    }


def _device(generator: GeneratorNetwork) -> torch.device:
    return generator.mapping.w_avg.device


@torch.no_grad()
def lifted(latent: Latent, space: Space, generator: GeneratorNetwork) -> Tensor:
    """The code of one latent in another space, on the generator's device; truncation is applied if that space lies
    after the mapping network. UserError if the conversion would lose information, see `LatentSpace.holds`."""
    source, target = space_of(latent.space, generator), space_of(space, generator)
    if not target.holds(source):
        raise UserError(f"A latent of {source} cannot be converted to {target} without loss.")
    if has_cutoff(latent) and not (target.of_layers or target.is_before_mapping):
        raise UserError(f"space must be w+, as the latent's layers differ by its truncation cutoff, got {space}.")
    code = latent.code.to(_device(generator))
    if str(source) == str(target) and (source.is_before_mapping or latent.truncation_psi == 1):
        return code
    if target.is_before_mapping:  # z to z+
        return target.from_vectors(code[None], generator)[0]
    return target.from_ws(ws_of(latent, generator)[None], generator)[0]


@torch.no_grad()
def synthesize(latents: Sequence[Latent], generator: GeneratorNetwork) -> Tensor:
    """Images (N, C, H, W) of latents of any mixture of spaces, each with its own noise."""
    if any(not space_named(latent.space).has_ws for latent in latents):
        return _drawn_from_styles(latents, generator)
    ws = torch.stack([ws_of(latent, generator) for latent in latents])
    if all(latent.noise is None for latent in latents):
        return generator.synthesis(ws, noise_mode="const")
    stored = tuple(layer[0] for layer in generator.synthesis.const_noise())
    layers = zip(*[latent.noise or stored for latent in latents], strict=True)
    return generator.synthesis(ws, noise=[torch.stack([noise.to(ws.device) for noise in layer]) for layer in layers])


def _drawn_from_styles(latents: Sequence[Latent], generator: GeneratorNetwork) -> Tensor:
    """In one batch if they are of one space: styles of different spaces cannot be batched."""
    if len({latent.space for latent in latents}) > 1 or any(latent.noise is not None for latent in latents):
        return torch.cat([_image(latent, generator) for latent in latents])
    codes = torch.stack([latent.code for latent in latents]).to(_device(generator))
    return generator.synthesis(decode(codes, latents[0].space, generator), noise_mode="const")


def _image(latent: Latent, generator: GeneratorNetwork) -> Tensor:
    """(1, C, H, W)."""
    code = latent.code[None].to(_device(generator))
    noise = None if latent.noise is None else [layer[None].to(code) for layer in latent.noise]
    styles = decode(code, latent.space, generator, **_options(latent, generator))
    return generator.synthesis(styles, noise_mode="const", noise=noise)
