"""What the layers of a generator decide (Karras et al. 2019, figure 3)."""

from __future__ import annotations

from torch import Tensor

from wplus.editing.layers import THIRDS, chosen_layers
from wplus.errors import check_number
from wplus.probes.drawing import matrix
from wplus.probes.scene import ProbeContext
from wplus.training.snapshot import Picture, ProbeResult, at


def style_mixing(scene: ProbeContext, *, num_columns: int = 6, rows_per_third: int = 2) -> ProbeResult:
    """A matrix: its left column are images a, its top row images b, and inside is a with a third of the layers of b's.

    `rows_per_third` rows with the coarse third, as many with the middle and with the fine one. Networks that have one
    style for all layers have nothing to mix.
    """
    check_number("num_columns", num_columns, lowest=1, whole=True)
    check_number("rows_per_third", rows_per_third, lowest=1, whole=True)
    generator = scene.generator
    num_layers = getattr(generator, "num_active_ws", generator.num_ws)  # fewer while a network grows
    if num_layers < len(THIRDS):
        return ProbeResult()
    num_rows = rows_per_third * len(THIRDS)
    z, c = scene.latents(num_rows + num_columns)
    ws = generator.mapping(z, c)
    a, b = ws[:num_rows], ws[num_rows:]
    images = generator.synthesis(ws).cpu()
    mixed = generator.synthesis(mixtures(a, b, num_layers).flatten(0, 1)).cpu().unflatten(0, (num_rows, num_columns))
    rows = [[(None, "images a"), *((image, "") for image in images[num_rows:])]]
    rows += [[(source, ""), *((image, "") for image in row)] for source, row in zip(images, mixed, strict=False)]
    left = ["images b"] + [f"{third}\nlayers of b" for third in THIRDS for _ in range(rows_per_third)]
    breaks = [1 + rows_per_third * number for number in range(len(THIRDS))]
    picture = matrix(rows, left=left, breaks=breaks)
    caption = "styles mixed: each image a (left), with a third of its layers from each image b (top)"
    return ProbeResult([Picture(f"{at(scene.game)}-style_mixing", "samples/style_mixing", caption, picture)])


def mixtures(a: Tensor, b: Tensor, num_layers: int) -> Tensor:
    """ws (A, L, D) and (B, L, D) -> (A, B, L, D): row n is a[n] with that third of the first layers that b gives.

    The first rows take the coarse third, the last ones the fine one; A is a multiple of three.
    """
    num_rows = len(a) // len(THIRDS)
    mixed = a[:, None].repeat(1, len(b), 1, 1)
    for number, third in enumerate(THIRDS):
        layers = list(chosen_layers(third, num_layers))
        mixed[number * num_rows : (number + 1) * num_rows, :, layers] = b[:, layers]
    return mixed
