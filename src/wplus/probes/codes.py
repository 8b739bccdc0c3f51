"""Probes of an autoencoder's codes: a two-dimensional map of held-out images, and traversals of code dimensions."""

import numpy as np
import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.random import rng
from wplus.data import ImageSet
from wplus.errors import UserError, check_number
from wplus.pretrained.attributes import known_factors
from wplus.probes.grids import labelled_grid
from wplus.probes.probe import BATCH_SIZE, ProbeContext
from wplus.training.autoencoder import AutoencoderModule
from wplus.training.snapshot import Picture, ProbeResult, at


def code_map(context: ProbeContext, *, num_images: int = 1000) -> ProbeResult:
    """Plot codes of held-out images along their two principal components, coloured by a true factor if one is known.

    Two-dimensional codes are plotted directly. Empty for a training without codes.
    """
    check_number("num_images", num_images, lowest=3, whole=True)
    module: object = context.module
    images = context.data.held_out
    if not isinstance(module, AutoencoderModule) or images is None or len(images) < 3:
        return ProbeResult()
    order = torch.randperm(len(images), generator=rng(context.seed, "map"))[:num_images]
    some = images.subset(order)
    codes = _codes(module, some, context.device)
    if not np.isfinite(codes).all():
        return ProbeResult()
    name, values = _factor(some)
    picture = drawn(in_plane(codes), values, name, is_plane=codes.shape[1] == 2)
    caption = "codes of held-out images" + (f", coloured by {name}" if name else "")
    return ProbeResult([Picture(f"{at(module)}-code_map", "samples/code_map", caption, picture)])


def traversals(context: ProbeContext, *, num_rows: int = 8, num_steps: int = 9, reach: float = 2.5) -> ProbeResult:
    """Vary one dimension of the mean code per row, from -reach to reach standard deviations.

    Shows the dimensions that vary most over held-out images, in descending order. Empty for a training without codes.
    """
    check_number("num_rows", num_rows, lowest=1, whole=True)
    check_number("num_steps", num_steps, lowest=2, whole=True)
    check_number("reach", reach, lowest=0)
    module: object = context.module
    images = context.data.held_out
    if not isinstance(module, AutoencoderModule) or images is None or len(images) < 3:
        return ProbeResult()
    codes = torch.from_numpy(_codes(module, images.subset(torch.arange(min(len(images), 500))), context.device))
    mean, deviation = codes.mean(dim=0), codes.std(dim=0)
    chosen = deviation.argsort(descending=True)[:num_rows].tolist()
    rows = []
    for number in chosen:
        code = mean.repeat(num_steps, 1)
        code[:, number] += torch.linspace(-reach, reach, num_steps) * deviation[number]
        c = _first_class(module, num_steps)
        ws = module.averaged_decoder.ws(code.float().to(context.device), c)
        rows.append(list(module.averaged_decoder.synthesis(ws).cpu()))
    top = [f"{step:+.1f}" for step in torch.linspace(-reach, reach, num_steps).tolist()]
    picture = labelled_grid(rows, left=[f"number {number}" for number in chosen], top=top)
    caption = "one number of the mean code moved, in its deviations; those that vary most"
    return ProbeResult([Picture(f"{at(module)}-traversals", "samples/traversals", caption, picture)])


def _first_class(module: AutoencoderModule, num: int) -> Tensor | None:
    """Return labels (num, c_dim) of the first class, or None if the decoder has no classes."""
    if not module.generator.c_dim:
        return None
    return torch.eye(module.generator.c_dim, device=module.device)[:1].expand(num, -1)


def _codes(module: AutoencoderModule, images: ImageSet, device: torch.device) -> np.ndarray:
    """Return codes (N, code_dim) of the averaged encoder, in float64."""
    batches = (images.batch(rows)[0].to(device) for rows in torch.arange(len(images)).split(BATCH_SIZE))
    with torch.no_grad():
        parts = [module.averaged_encoder.posterior(to_float(batch)).mean.double().cpu() for batch in batches]
    return torch.cat(parts).numpy()


def _factor(images: ImageSet) -> tuple[str, np.ndarray]:
    """Return the first known factor and its values (N,) as text; if there is none, "" and a constant."""
    try:
        return next(iter(known_factors(images).items()))
    except UserError:
        return "", np.full(len(images), "")


def in_plane(codes: np.ndarray) -> np.ndarray:
    """Project codes (N, D) onto their two principal components (N, 2), each signed so that its largest weight is
    positive; two-dimensional codes are returned unchanged."""
    if codes.shape[1] <= 2:
        return np.pad(codes, ((0, 0), (0, 2 - codes.shape[1])))
    centred = codes - codes.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(np.take_along_axis(axes[:2], np.abs(axes[:2]).argmax(axis=1)[:, None], axis=1))
    return centred @ axes.T


def drawn(places: np.ndarray, values: np.ndarray, name: str, *, is_plane: bool) -> Tensor:
    """Draw a scatter plot of points (N, 2), coloured by value (N,), as a uint8 image (3, H, W)."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 5.4), dpi=100)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.12, right=0.84, bottom=0.1, top=0.97)
    kinds = np.unique(values)
    colours = colormaps["tab20" if len(kinds) > 10 else "tab10"](range(len(kinds)))  # (kinds, 4)
    for kind, colour in zip(kinds, colours, strict=True):
        some = places[values == kind]
        axes.scatter(some[:, 0], some[:, 1], s=7, linewidths=0, color=colour, label=str(kind))
    labels = [f"number {axis} of the code" if is_plane else f"principal component {axis + 1}" for axis in range(2)]
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if name:
        axes.legend(title=name, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, markerscale=2, frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)
