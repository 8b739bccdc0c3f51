"""Keyframes of a video: latents in a common space, with their noise, labels and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wplus.errors import UserError, check_choice
from wplus.latents.latent import Latent, has_cutoff, lifted
from wplus.latents.space import Space, space_named, space_of, spaces
from wplus.latents.weight_delta import WeightDelta
from wplus.models.generator import GeneratorNetwork


@dataclass(frozen=True)
class Keyframes:
    """K points in one space, ready to be joined by a path."""

    codes: Tensor  # (K, *shape), such as (K, w_dim) in w, (K, num_ws, w_dim) in w+
    space: Space
    names: tuple[str, ...]
    noise: tuple[Tensor, ...] | None = None  # one (K, 1, H, W) per noise layer; None: the generator's stored noise
    labels: Tensor | None = None  # (K, c_dim), in z and z+ only; after the mapping network, codes include their labels
    truncation_psi: float = 1.0
    truncation_cutoff: int | None = None
    deltas: tuple[WeightDelta | None, ...] | None = None  # weight changes from pivotal tuning for each, if any
    closed: bool = False  # whether they form a loop, with the first keyframe repeated at the end

    def __len__(self) -> int:
        return len(self.codes)

    def to(self, device: torch.device | str) -> Keyframes:
        """The same keyframes on another device."""
        return self._with(lambda x: x.to(device))

    def reversed(self) -> Keyframes:
        """The same keyframes from the last to the first."""
        deltas = None if self.deltas is None else self.deltas[::-1]
        return replace(self._with(lambda x: x.flip(0)), names=self.names[::-1], deltas=deltas)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Keyframes:
        noise = None if self.noise is None else tuple(map(change, self.noise))
        labels = None if self.labels is None else change(self.labels)
        return replace(self, codes=change(self.codes), noise=noise, labels=labels)


def keyframes_of(
    latents: Sequence[Latent], generator: GeneratorNetwork, *, names: Sequence[str], space: str = "auto",
    noise: str = "auto", deltas: Sequence[WeightDelta | None] | None = None, closed: bool = False,
    preferred: Sequence[str] | None = None,
) -> Keyframes:  # fmt: skip
    """Lift latents to a common space without loss: from z to w and on to w+ or s, applying truncation and label.

    Args:
        space: name of the space, or auto for the first `preferred` one (None: any) that holds all latents or, failing
            that, the first that holds them: their own space if they share one, then z, w, z+, w+, and all others.
        noise: "const" uses the generator's stored noise everywhere, "own" the noise saved with the latents (an error if
            one has none), "auto" means own if every latent has noise, else const, since switching between stored and
            own noise along the path would be worse than different fine detail in the keyframes.
        deltas: the weight delta that each latent was tuned with, or None.
        closed: repeat the first keyframe after the last.
    """
    deltas = None if deltas is None or not any(deltas) else tuple(deltas)
    if closed:
        latents, names = [*latents, latents[0]], [*names, names[0]]
        deltas = None if deltas is None else (*deltas, deltas[0])
    found = _common_space(latents, preferred) if space == "auto" else space
    found = str(space_of(found, generator))
    if deltas is not None and not space_named(found).has_ws:
        raise UserError(f"space must map to w+, where generators are tuned for latents, got {found}.")
    codes = torch.stack([_lift(latent, name, generator, found) for latent, name in zip(latents, names, strict=True)])
    keyframes = Keyframes(codes, found, tuple(names), noise=_noise(latents, names, noise), deltas=deltas, closed=closed)
    if not space_named(found).is_before_mapping:
        return keyframes
    truncations = {(latent.truncation_psi, latent.truncation_cutoff) for latent in latents}
    if len(truncations) > 1:
        listed = ", ".join(f"psi {psi} cutoff {cutoff}" for psi, cutoff in sorted(truncations, key=str))
        raise UserError(f"z latents must have the same truncation, got {listed}; interpolate them in w or w+.")
    # The mapping network runs on every frame, so keep the latents' labels and truncation.
    ((psi, cutoff),) = truncations
    labels = [latent.label for latent in latents if latent.label is not None]
    labelled = torch.stack(labels) if len(labels) == len(latents) else None
    return replace(keyframes, labels=labelled, truncation_psi=psi, truncation_cutoff=cutoff)


def _common_space(latents: Sequence[Latent], preferred: Sequence[str] | None) -> Space:
    """Return the first space that can hold every latent; w+ if w would lose the effect of a truncation cutoff."""
    own = {latent.space for latent in latents}
    order = dict.fromkeys([*(own if len(own) == 1 else ()), "z", "w", "z+", "w+", *spaces()])
    holding = [space for space in order if all(_is_held(latent, space) for latent in latents)]
    if not holding:
        raise UserError(f"Latents of {' and '.join(sorted(own))} have no space in common.")
    space = next((space for space in holding if preferred is None or space in preferred), holding[0])
    is_one_vector = not (space_named(space).of_layers or space_named(space).is_before_mapping)
    return "w+" if is_one_vector and any(map(has_cutoff, latents)) else space


def _is_held(latent: Latent, space: Space) -> bool:
    return space_named(space).holds(space_named(latent.space))


@torch.no_grad()
def _lift(latent: Latent, name: str, generator: GeneratorNetwork, space: str) -> Tensor:
    """Return the code of one latent in `space`, with truncation applied for spaces after the mapping network."""
    allowed = [other for other in dict.fromkeys([latent.space, *spaces()]) if _is_held(latent, other)]
    if not _is_held(latent, space):
        check_choice(f"space of the {latent.space} latent '{name}'", space, ("auto", *allowed))
    try:
        return lifted(latent, space, generator)
    except UserError as error:
        raise UserError(f"'{name}': {error}") from error


def _noise(latents: Sequence[Latent], names: Sequence[str], choice: str) -> tuple[Tensor, ...] | None:
    check_choice("noise", choice, ("auto", "const", "own"))
    without = [name for latent, name in zip(latents, names, strict=True) if latent.noise is None]
    if choice == "own" and without:
        raise UserError(f"noise must be auto or const where a latent has none of its own ('{without[0]}'), got own.")
    if choice == "const" or without:
        return None
    layers = zip(*(latent.noise or () for latent in latents), strict=True)
    return tuple(torch.stack([noise.reshape(1, *noise.shape[-2:]) for noise in layer]) for layer in layers)
