"""True latents of images that the generator drew itself: only there can a latent be right or wrong."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.inversion.init import prior
from wplus.inversion.result import Score
from wplus.latents.latent import load_latent, ws_of
from wplus.models.network import GeneratorNetwork

LATENT_ERROR = MetricInfo(
    meaning="Distance of ws from the true ones, root mean square over layers, in deviations of w from its mean; two "
    "samples of the prior are 1.4 apart.",
    direction="lower",
)


class GroundTruth:
    """The latents in `folder` that are called like the images (`names`, without extension), of any space.

    UserError for one that is missing or belongs to another generator.
    """

    def __init__(
        self, folder: str | Path, names: Sequence[str], *, generator: GeneratorNetwork, fingerprint: str
    ) -> None:
        files = {name: Path(folder) / f"{name}.safetensors" for name in names}
        missing = [str(file) for file in files.values() if not file.is_file()]
        if missing:
            raise UserError(f"ground_truth must have a latent of every image, got none at '{missing[0]}'.")
        with torch.no_grad():
            self._ws = {
                name: ws_of(load_latent(file, fingerprint=fingerprint), generator).cpu() for name, file in files.items()
            }
        self._deviation = float(prior(generator, "w", None, 1).std)

    def errors(self, names: Sequence[str], ws: Tensor) -> Score:
        """`LATENT_ERROR` of ws (N, num_ws, w_dim): a w and the same w in every layer of w+ have one error."""
        true = torch.stack([self._ws[name] for name in names]).to(ws)
        errors = (ws - true).flatten(1).norm(dim=1) / (math.sqrt(ws.shape[1]) * self._deviation)
        return Score(errors, LATENT_ERROR)
