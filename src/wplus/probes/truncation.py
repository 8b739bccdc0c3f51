"""What truncation does to images: towards the mean, and beyond it (Karras et al. 2019, figure 8)."""

from __future__ import annotations

import torch

from wplus.errors import UserError, check_number
from wplus.probes.drawing import matrix
from wplus.probes.scene import ProbeContext
from wplus.training.snapshot import Picture, ProbeResult, at


def truncation(scene: ProbeContext, *, num_latents: int = 4, num_steps: int = 9) -> ProbeResult:
    """Rows of images, psi from -1 to 1: at the right the latent itself, in the middle the mean, then its opposite.

    Networks that look at the direction of a latent alone (ProGAN) have nothing between: they are left out.
    """
    if num_steps < 3 or num_steps % 2 == 0:
        raise UserError(
            f"num_steps={num_steps} is not allowed: an odd number from 3 up, so that psi = 0 is among them."
        )
    check_number("num_latents", num_latents, lowest=1, whole=True)
    generator = scene.generator
    z, c = scene.latents(num_latents)
    steps = torch.linspace(-1, 1, num_steps).tolist()
    columns = [generator(z, c, truncation_psi=psi).cpu() for psi in steps]
    if torch.allclose(columns[-1], generator(z, c, truncation_psi=0.5).cpu(), atol=1e-4):
        return ProbeResult()
    rows = [[(column[number], "") for column in columns] for number in range(num_latents)]
    picture = matrix(rows, top=[f"psi {psi:g}" for psi in steps])
    caption = f"truncation from -1 to 1; the mean in the middle, rows are latents{'' if c is None else ' with labels'}"
    return ProbeResult([Picture(f"{at(scene.game)}-truncation", "samples/truncation", caption, picture)])
