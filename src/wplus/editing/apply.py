"""A direction applied to codes: moved by a strength, or moved to one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wplus.editing.directions import Direction
from wplus.errors import UserError
from wplus.latents.latent import Latent, ws_of

MODES = ("add", "set")


def edit_ws(ws: Tensor, direction: Direction, strength: float, *, mode: str = "add") -> Tensor:
    """Edited codes, (N, num_ws, w_dim) -> the same shape.

    mode
        add  w + strength * unit * n: every code moves equally far (InterFaceGAN)
        set  w + (strength - coordinate) * unit * n: every code comes to lie at this strength, however far it has to
             go, and stays where it was in all other respects (GANSpace)
    """
    check_mode(mode)
    step = direction.unit * direction.pattern.to(ws)
    if mode == "add":
        return ws + strength * step
    return ws + (strength - direction.coordinates(ws)).view(-1, 1, 1) * step


def check_mode(mode: str) -> None:
    """UserError unless `mode` is add or set."""
    if mode not in MODES:
        raise UserError(f"mode={mode} is not known; allowed are {', '.join(MODES)}.")


@torch.no_grad()
def edit_latent(latent: Latent, generator: Any, direction: Direction, strength: float, *, mode: str = "add") -> Latent:
    """An edited latent: in w where its layers are all the same, else in w+; its noise goes along.

    z and z+ go through the mapping network first, and truncation is applied: the result has none left.
    """
    ws = edit_ws(ws_of(latent, generator)[None], direction, strength, mode=mode)[0].cpu()
    stays_in_w = bool((ws == ws[:1]).all())
    notes = {"direction": direction.name, "strength": f"{strength:g}", "mode": mode}
    return Latent(
        ws[0] if stays_in_w else ws, "w" if stays_in_w else "w+", latent.generator, noise=latent.noise,
        label=latent.label, metadata=notes,
    )  # fmt: skip
