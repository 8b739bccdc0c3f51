"""Key points of a film: latents brought to one space, with their noise, labels and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.interpolation.tuned import Delta
from wplus.latents.latent import LIFTS, SPACES, Latent, Space, ws_of


@dataclass(frozen=True)
class Keyframes:
    """K points of one space, ready to be joined by a path."""

    codes: Tensor
    """(K, z_dim) in z, (K, num_ws, z_dim) in z+, (K, w_dim) in w, (K, num_ws, w_dim) in w+."""
    space: Space
    names: tuple[str, ...]
    noise: tuple[Tensor, ...] | None = None
    """One (K, 1, H, W) per noise layer, or None for the generator's stored noise."""
    labels: Tensor | None = None
    """(K, c_dim), needed in z and z+ only: past the mapping network a code carries its label."""
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    deltas: tuple[Delta | None, ...] | None = None
    """What pivotal tuning added to the generator for each, None where nothing; or None for all."""
    closed: bool = False
    """Whether they are a loop: the last is the first once more."""

    def __len__(self) -> int:
        return len(self.codes)

    def to(self, device: torch.device | str) -> Keyframes:
        """The same points on another device."""
        noise = None if self.noise is None else tuple(layer.to(device) for layer in self.noise)
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, codes=self.codes.to(device), noise=noise, labels=labels)


def key_points(
    latents: Sequence[Latent],
    generator: Any,
    *,
    names: Sequence[str],
    space: str = "auto",
    noise: str = "auto",
    deltas: Sequence[Delta | None] | None = None,
    closed: bool = False,
    wanted: Sequence[str] = SPACES,
) -> Keyframes:
    """Bring latents to one space.

    `space`: z, z+, w, w+, or auto for the first of z, w, z+, w+ that holds them all and is `wanted`, or only holds
    them where none is both. A code goes from z to w or z+ and on to w+ (its truncation and label applied on the way)
    and never back.
    `noise`: "const" uses the generator's stored noise everywhere, "own" the noise that was saved with the latents
    (refused where one has none), "auto" means own where every latent has noise, else const. With a mixture, const shows
    some end points with other fine detail than their inversion had; a film between two kinds of noise would be worse.
    `deltas`: for each latent the weight delta that it was tuned with, or None. `closed`: the first comes once more
    after the last.
    """
    deltas = None if deltas is None or not any(deltas) else tuple(deltas)
    if closed:
        latents, names = [*latents, latents[0]], [*names, names[0]]
        deltas = None if deltas is None else (*deltas, deltas[0])
    space = _common_space(latents, wanted) if space == "auto" else space
    if space not in SPACES:
        raise UserError(f"space={space} is no latent space; allowed are auto, {', '.join(SPACES)}.")
    codes = torch.stack([_lift(latent, name, generator, space) for latent, name in zip(latents, names, strict=True)])
    points = Keyframes(codes, space, tuple(names), noise=_noise(latents, names, noise), deltas=deltas, closed=closed)
    return _with_mapping_inputs(points, latents) if space in ("z", "z+") else points


def _common_space(latents: Sequence[Latent], wanted: Sequence[str]) -> Space:
    """The first that holds every latent; w+ where w would lose the difference that a cutoff makes."""
    order: tuple[Space, ...] = ("z", "w", "z+", "w+")
    holding = [space for space in order if all(space in LIFTS[latent.space] for latent in latents)]
    space = next((space for space in holding if space in wanted), holding[0])
    return "w+" if space == "w" and any(_has_cutoff(latent) for latent in latents) else space


def _has_cutoff(latent: Latent) -> bool:
    """Whether truncation leaves the layers of one w different from each other."""
    return latent.truncation_psi != 1 and latent.truncation_cutoff is not None


@torch.no_grad()
def _lift(latent: Latent, name: str, generator: Any, space: str) -> Tensor:
    """The code of one latent in `space`; past the mapping network its truncation is applied."""
    if space not in LIFTS[latent.space]:
        raise UserError(
            f"'{name}' is a latent of {latent.space} and cannot go to {space}; choose space={latent.space} or auto."
        )
    if space in ("z", "z+"):
        return latent.code if space == latent.space else latent.code.expand(generator.num_ws, -1)
    if space == "w" and _has_cutoff(latent):
        raise UserError(
            f"'{name}' has a truncation cutoff, so its layers differ and w cannot hold it; choose space=w+."
        )
    ws = ws_of(latent, generator)
    return ws if space == "w+" else ws[0]


def _noise(latents: Sequence[Latent], names: Sequence[str], choice: str) -> tuple[Tensor, ...] | None:
    if choice not in ("auto", "const", "own"):
        raise UserError(f"noise={choice} is no policy; allowed are auto, const, own.")
    without = [name for latent, name in zip(latents, names, strict=True) if latent.noise is None]
    if choice == "own" and without:
        raise UserError(
            f"noise=own needs noise in every latent, and '{without[0]}' has none; choose noise=auto or const."
        )
    if choice == "const" or without:
        return None
    layers = zip(*(latent.noise or () for latent in latents), strict=True)
    return tuple(torch.stack([noise.reshape(1, *noise.shape[-2:]) for noise in layer]) for layer in layers)


def _with_mapping_inputs(points: Keyframes, latents: Sequence[Latent]) -> Keyframes:
    """In z the mapping network runs on every frame: label and truncation of the latents go along."""
    truncations = {(latent.truncation_psi, latent.truncation_cutoff) for latent in latents}
    if len(truncations) > 1:
        raise UserError(f"The z latents differ in truncation ({_listed(truncations)}); interpolate them in w or w+.")
    psi, cutoff = truncations.pop()
    labelled = all(latent.label is not None for latent in latents)
    labels = torch.stack([latent.label for latent in latents]) if labelled else None
    return replace(points, labels=labels, truncation_psi=psi, truncation_cutoff=cutoff)


def _listed(truncations: set[tuple[float, int | None]]) -> str:
    return ", ".join(f"psi {psi} cutoff {cutoff}" for psi, cutoff in sorted(truncations, key=str))
