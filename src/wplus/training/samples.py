"""The pictures and models that a run leaves behind at every snapshot."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.checkpoint import save
from wplus.images import image_grid, save_png, watchable_scale
from wplus.training.gan import GanGame
from wplus.training.randomness import step_seed
from wplus.training.recipe import check_number

GRID_COLUMNS = 8
BATCH = 16


class Exporter:
    """Writes, for a moment of the run, a grid of the averaged generator's images for fixed latents, and the model.

    Files under `folder`: samples/real.png, samples/kimg-XXXXXX.XXX.png, model.safetensors (always the latest).
    Labels run through the classes column by column; the latents depend on the seed alone, so that grids of two runs
    can be compared.
    """

    def __init__(self, folder: Path, tracker: Any, data: Any, *, seed: int, num_samples: int) -> None:
        check_number("num_samples", num_samples, lowest=1, whole=True)
        self.folder, self.tracker, self.data, self.seed, self.num_samples = folder, tracker, data, seed, num_samples

    def __call__(self, game: GanGame) -> None:
        """Write the pictures and the model of this moment."""
        kimg = game.images_seen / 1000
        self._grid("real", self.data.batch(torch.arange(min(self.num_samples, len(self.data))))[0], kimg)
        self._grid(f"kimg-{kimg:010.3f}", self.sample(game), kimg)
        metadata = {
            "data": self.data.describe(),
            "recipe": asdict(game.recipe),
            "seed": self.seed,
            "nimg": game.images_seen,
            "weights": "moving average of the generator",
        }
        path = save(
            self.folder / "model.safetensors", generator=game.ema, discriminator=game.discriminator, metadata=metadata
        )
        self.tracker.artifact(
            path, name=self.folder.name, kind="model", aliases=["latest", f"kimg-{kimg:g}"], metadata=metadata
        )

    def _grid(self, name: str, images: Tensor, kimg: float) -> None:
        path = self.folder / "samples" / f"{name}.png"
        key = "samples/real" if name == "real" else "samples/fixed_latents"
        if name == "real" and path.exists():
            return
        save_png(path, image_grid(images, num_cols=GRID_COLUMNS, scale=watchable_scale(images.shape[3], min_px=64)))
        caption = "real images" if name == "real" else "generated from fixed latents"
        self.tracker.image(key, path, caption=caption, kimg=kimg)

    @torch.no_grad()
    def sample(self, game: GanGame) -> Tensor:
        """Images (num_samples, C, H, W) of the moving average, truncation 1, stored noise."""
        generator = game.ema
        source = torch.Generator().manual_seed(step_seed(self.seed, "samples"))
        z = torch.randn(self.num_samples, generator.z_dim, generator=source).to(game.device)
        c = (
            torch.eye(generator.c_dim, device=game.device)[torch.arange(self.num_samples) % generator.c_dim]
            if generator.c_dim
            else None
        )
        parts = zip(z.split(BATCH), c.split(BATCH) if c is not None else [None] * len(z), strict=False)
        return torch.cat([generator(*part).cpu() for part in parts])
