"""True codes of pictures that the generator drew itself: only there can a code be right or wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.inversion.init import prior
from wplus.latents.latent import load_latent, ws_of


class Truth:
    """The latents in `folder` that are called like the images (`names`, without extension), of any space.

    UserError for one that is missing or belongs to another generator.
    """

    def __init__(self, folder: str | Path, names: Sequence[str], *, generator: Any, fingerprint: str) -> None:
        files = {name: Path(folder) / f"{name}.safetensors" for name in names}
        missing = [str(file) for file in files.values() if not file.is_file()]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(files)} images have no true latent; truth={folder} lacks {missing[0]}."
            )
        with torch.no_grad():
            self._ws = {
                name: ws_of(load_latent(file, fingerprint=fingerprint), generator).cpu() for name, file in files.items()
            }
        self._deviation = float(prior(generator, "w", None, 1).std)

    def errors(self, names: Sequence[str], ws: Tensor) -> Tensor:
        """Distance of the styles ws (N, num_ws, w_dim) from the true ones, (N,), in deviations of w from its mean.

        The root of the mean square over layers, so that a w and the same w in every layer of w+ have one error: 0 is
        the true code, and two samples of the prior are 1.4 apart.
        """
        true = torch.stack([self._ws[name] for name in names]).to(ws)
        return (ws - true).flatten(1).norm(dim=1) / (math.sqrt(ws.shape[1]) * self._deviation)
