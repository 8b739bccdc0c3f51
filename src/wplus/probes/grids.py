"""Visual probes (style mixing, truncation, effect of the noise inputs) and labelled image grids."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wplus.core.images import to_pil, watchable_scale
from wplus.core.metric_result import MetricInfo
from wplus.editing.directions import THIRDS, select_layers
from wplus.errors import UserError, check_number
from wplus.evaluation.sampler import noise_maps
from wplus.models.generator import GeneratorNetwork
from wplus.probes.probe import ProbeContext
from wplus.training.snapshot import Picture, ProbeResult, at

MIN_PX, MAX_PX = 64, 256  # size of an image in a grid
GAP, MARGIN, LINE, TEXT = 3, 10, 18, 13  # in pixels: gap between images, outer margin, line height, font size
NOISE_STD = MetricInfo(
    meaning="How much the noise inputs move a pixel: standard deviation over draws, mean over images and pixels.",
    unit="levels of 255",
)


def style_mixing(context: ProbeContext, *, num_columns: int = 6, rows_per_third: int = 2) -> ProbeResult:
    """Mix a third of the layers of images b into images a: coarse, middle, fine (Karras et al. 2019, figure 3).

    Empty for networks with a single style for all layers.
    """
    check_number("num_columns", num_columns, lowest=1, whole=True)
    check_number("rows_per_third", rows_per_third, lowest=1, whole=True)
    generator = context.generator
    num_layers = generator.num_active_ws if context.has_latents else 0  # fewer while a network grows
    if num_layers < len(THIRDS):
        return ProbeResult()
    num_rows = rows_per_third * len(THIRDS)
    ws = generator.mapping(*context.latents(num_rows + num_columns))
    images = generator.synthesis(ws).cpu()
    ws_mixed = mix_thirds(ws[:num_rows], ws[num_rows:], num_layers)
    mixed = generator.synthesis(ws_mixed.flatten(0, 1)).cpu().unflatten(0, (num_rows, num_columns))
    rows = [[None, *images[num_rows:]], *([a, *row] for a, row in zip(images, mixed, strict=False))]
    left = ["images b"] + [f"{third}\nlayers of b" for third in THIRDS for _ in range(rows_per_third)]
    captions = [["images a", *[""] * num_columns], *[[""] * (1 + num_columns)] * num_rows]
    breaks = [1 + rows_per_third * number for number in range(len(THIRDS))]
    caption = "styles mixed: each image a (left), with a third of its layers from each image b (top)"
    picture = labelled_grid(rows, captions=captions, left=left, breaks=breaks)
    return ProbeResult([Picture(f"{at(context.module)}-style_mixing", "samples/style_mixing", caption, picture)])


def mix_thirds(a: Tensor, b: Tensor, num_layers: int) -> Tensor:
    """Mix ws (A, L, D) and (B, L, D) to (A, B, L, D): row n is a[n] with a third of the first `num_layers` from each b.

    The first third of the rows takes the coarse layers, the last third the fine ones; A must be a multiple of three.
    """
    num_rows = len(a) // len(THIRDS)
    mixed = a[:, None].repeat(1, len(b), 1, 1)
    for number, third in enumerate(THIRDS):
        layers = list(select_layers(third, num_layers))
        mixed[number * num_rows : (number + 1) * num_rows, :, layers] = b[:, layers]
    return mixed


def truncation(context: ProbeContext, *, num_latents: int = 4, num_steps: int = 9) -> ProbeResult:
    """Vary psi along each row from -1 via 0, the mean, to 1, the latent itself (Karras et al. 2019, figure 8).

    Empty for networks that use only the direction of a latent (ProGAN), for which there is nothing in between.
    """
    if num_steps < 3 or num_steps % 2 == 0:
        raise UserError(f"num_steps must be odd and at least 3, so that psi=0 is among them, got {num_steps}.")
    check_number("num_latents", num_latents, lowest=1, whole=True)
    if not context.has_latents:
        return ProbeResult()
    generator, (z, c) = context.generator, context.latents(num_latents)
    psis = torch.linspace(-1, 1, num_steps).tolist()
    columns = [generator(z, c, truncation_psi=psi).cpu() for psi in psis]
    if torch.allclose(columns[-1], generator(z, c, truncation_psi=0.5).cpu(), atol=1e-4):
        return ProbeResult()
    picture = labelled_grid(list(zip(*columns, strict=True)), top=[f"psi {psi:g}" for psi in psis])
    caption = f"truncation from -1 to 1; the mean in the middle, rows are latents{'' if c is None else ' with labels'}"
    return ProbeResult([Picture(f"{at(context.module)}-truncation", "samples/truncation", caption, picture)])


def noise_map(context: ProbeContext, *, num_latents: int = 6, num_draws: int = 50) -> ProbeResult:
    """Show images above the standard deviation of each pixel over the noise inputs (Karras et al. 2019, figure 4c).

    Value: probe/noise_std, its mean. Empty for networks without noise inputs.
    """
    check_number("num_latents", num_latents, lowest=1, whole=True)
    check_number("num_draws", num_draws, lowest=2, whole=True)
    generator = context.generator
    shapes = generator.synthesis.noise_shapes if context.has_latents else []
    if not shapes:
        return ProbeResult()
    ws = generator.mapping(*context.latents(num_latents))
    noise = [layer.to(context.device) for layer in noise_maps(context.seed, range(num_draws), shapes)]
    images = generator.synthesis(ws).cpu()
    maps = torch.stack([grey_deviation(generator, w, noise) for w in ws])  # (num_latents, H, W)
    grey = (maps / (float(maps.max()) or 1.0) * 255).round().to(torch.uint8)[:, None]  # the overall maximum is white
    captions = [[""] * num_latents, [f"mean {deviation.mean():.2g}" for deviation in maps]]
    left = ["images", f"deviation\nwith noise\nwhite: {maps.max():.3g}"]
    picture = labelled_grid([list(images), list(grey)], captions=captions, left=left)
    caption = f"how much each pixel moves with the noise, standard deviation over {num_draws} draws in levels of 255"
    return ProbeResult(
        [Picture(f"{at(context.module)}-noise", "samples/noise", caption, picture)],
        values={"probe/noise_std": (float(maps.mean()), NOISE_STD)},
    )


def grey_deviation(generator: GeneratorNetwork, w: Tensor, noise: list[Tensor]) -> Tensor:
    """Standard deviation (H, W) of the grey value over noise draws for one ws (num_ws, w_dim), in levels of 255.

    noise: one (num_draws, 1, h, w) per layer. The grey value is the channel mean of the clamped image.
    """
    images = generator.synthesis(w.expand(len(noise[0]), -1, -1), noise=noise).clamp(-1, 1)
    return (images.mean(dim=1).double().std(dim=0) * 127.5).cpu()  # levels in one unit of an image


# --- drawing ----------------------------------------------------------------------------------------------------------


def labelled_grid(
    rows: Sequence[Sequence[Tensor | None]],
    *,
    captions: Sequence[Sequence[str]] = (),
    left: Sequence[str] = (),
    top: Sequence[str] = (),
    breaks: Sequence[int] = (),
) -> Tensor:
    """Draw equally sized images (C, H, W) in a grid with text, as one uint8 image (3, H, W).

    Args:
        rows: images in rows; None leaves a cell empty.
        captions: text below each image; rows without any take no space for it.
        left: text beside each row, possibly of several lines.
        top: text above each column.
        breaks: indices of rows that are preceded by extra space.
    """
    font = ImageFont.load_default(TEXT)
    captions = captions or [[""] * len(row) for row in rows]
    resolution = next(image for row in rows for image in row if image is not None).shape[-1]
    px = min(MAX_PX, resolution * watchable_scale(resolution, min_px=MIN_PX))
    beside = max((round(font.getlength(line)) for text in left for line in text.splitlines()), default=0)
    heights = [px + (LINE if any(texts) else 0) for texts in captions]
    start = MARGIN + (LINE if any(top) else 0)
    tops = [start + sum(heights[:n]) + n * GAP + MARGIN * sum(b <= n for b in breaks) for n in range(len(rows))]
    lefts = [MARGIN + (beside + MARGIN if beside else 0) + n * (px + GAP) for n in range(max(map(len, rows)))]
    canvas = Image.new("RGB", (lefts[-1] + px + MARGIN, tops[-1] + heights[-1] + MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for x, text in zip(lefts, top, strict=False):
        draw.text((x + px / 2, MARGIN), text, fill="black", font=font, anchor="ma")
    for y, text in zip(tops, left, strict=False):
        draw.multiline_text((MARGIN, y + px / 2), text, fill="black", font=font, anchor="lm")
    for y, row, texts in zip(tops, rows, captions, strict=True):
        for x, image, text in zip(lefts, row, texts, strict=False):
            if image is not None:
                # Integer factors keep pixels distinguishable; larger images are downscaled with a filter.
                method = Image.Resampling.NEAREST if resolution <= px else Image.Resampling.LANCZOS
                canvas.paste(to_pil(image).convert("RGB").resize((px, px), method), (x, y))
            draw.text((x + px / 2, y + px + 2), text, fill="#555555", font=font, anchor="ma")
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
