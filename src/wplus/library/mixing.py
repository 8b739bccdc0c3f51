"""Style mixing: every image of the rows with some layers taken from every image of the columns (Karras et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wplus.core.images import Row
from wplus.editing.directions import select_layers
from wplus.latents.latent import Latent, lifted
from wplus.library.pictures import Pictures
from wplus.models.generator import GeneratorNetwork


@dataclass(frozen=True, eq=False, repr=False)
class Mixtures(Pictures):
    """The matrix of mixtures, row by row.

    Attributes:
        rows: the images that provide all other layers.
        columns: the images that provide the layers that are mixed in.
    """

    rows: Pictures | None = None
    columns: Pictures | None = None

    def _rows(self) -> tuple[list[Row], list[str]]:
        if self.rows is None or self.columns is None or len(self) != len(self.rows) * len(self.columns):
            return super()._rows()  # a part of them
        corner = torch.full_like(self.images[0], 255)
        head: list[tuple[Tensor, str]] = [(corner, ""), *zip(self.columns.images, self.columns.names, strict=True)]
        lines = self.images.split(len(self.columns))
        body = [[(image, name), *((each, "") for each in line)]
                for image, name, line in zip(self.rows.images, self.rows.names, lines, strict=True)]  # fmt: skip
        return [head, *body], [""] * (1 + len(body))


def mixed(
    rows: Sequence[Latent], columns: Sequence[Latent], layers: str | Sequence[int], generator: GeneratorNetwork
) -> list[Latent]:
    """Mix w+ latents, row by row: the row's latent and noise with the chosen layers of the column's latent."""
    chosen = list(select_layers(layers, generator.num_ws))
    found = []
    for row in rows:
        base = lifted(row, "w+", generator)
        for column in columns:
            code = base.clone()
            code[chosen] = lifted(column, "w+", generator)[chosen]
            found.append(replace(row, code=code.cpu(), space="w+", truncation_psi=1.0, metadata={}))
    return found
