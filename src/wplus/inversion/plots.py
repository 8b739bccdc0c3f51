"""Pictures of inversions: how the loss fell, and what came out beside what was asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.core.images import image_grid, save_png, watchable_scale

COLOURS = ("#1f6fb4", "#d1622b", "#3a8f4d", "#8a56a8", "#7a7a7a", "#b8a02a", "#2aa7b8", "#b82a6f", "#6f4a2a", "#222222")
_LABELS = {"loss": "loss", "l1": "L1", "l2": "L2 (mean squared error)", "delta": "distance from the start, squared"}
MAX_ROWS = 16  # of pictures in a grid


def plot_convergence(histories: Mapping[str, Mapping[str, Tensor]], path: Path, *, terms: Sequence[str]) -> Path:
    """Terms over the steps: a panel per term, a colour per entry of `histories` (a space, a method).

    histories: label -> term -> (steps, N), with any number of steps each. Thin lines are images, thick ones their
    geometric mean, on a logarithmic axis; where there is a single evaluation (an encoder) the mean is a line across. A
    term that an entry does not have is left out of its panel.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = Figure(figsize=(5.2 * len(terms), 3.8))
    # Margins in inches; matplotlib's automatic layouts draw everything a second time.
    width, height = figure.get_size_inches()
    left, right, bottom, top = 0.9 / width, 1 - 0.15 / width, 0.55 / height, 1 - 0.15 / height
    figure.subplots_adjust(left=left, right=right, bottom=bottom, top=top, wspace=0.25)
    for axes, term in zip(np.ravel(figure.subplots(1, len(terms))), terms, strict=True):
        for colour, (label, history) in zip(itertools.cycle(COLOURS), histories.items(), strict=False):
            if term in history:
                _draw(axes, history[term].double().numpy(), colour, f"{label} (mean of {history[term].shape[1]})")
        axes.set(xlabel="evaluations of the generator", ylabel=_LABELS.get(term, term), yscale="log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(True, which="both", alpha=0.25)
        if any(term in history for history in histories.values()):
            axes.legend()
    FigureCanvasAgg(figure)
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=130))


def _draw(axes: object, values: np.ndarray, colour: str, label: str) -> None:
    """values (steps, N); zeros cannot be drawn on a logarithmic axis and are lifted to the smallest float32."""
    positive = np.maximum(np.where(np.isfinite(values), values, np.nan), np.finfo(np.float32).tiny)
    if len(values) == 1:
        axes.axhline(np.exp(np.log(positive).mean()), color=colour, linewidth=2, linestyle="--", label=label)  # type: ignore[attr-defined]
        return
    steps = np.arange(1, len(values) + 1)
    axes.plot(steps, positive[:, :64], color=colour, linewidth=0.6, alpha=0.35)  # type: ignore[attr-defined]
    axes.plot(steps, np.exp(np.log(positive).mean(axis=1)), color=colour, linewidth=2, label=label)  # type: ignore[attr-defined]


def save_comparison(columns: Sequence[Sequence[Tensor]], path: Path) -> Path:
    """Images side by side, one row per image: `columns` are lists of uint8 pictures (C, H, W), targets first.

    Rows are arranged in up to four blocks next to each other, so that the picture is not much higher than wide.
    """
    rows = [torch.stack(row) for row in zip(*columns, strict=True)][:MAX_ROWS]
    scale = watchable_scale(rows[0].shape[-1], min_px=96)
    strips = [image_grid(row, num_cols=len(row), scale=scale, gap=2) for row in rows]
    num_blocks = min(4, len(strips), max(1, 8 // len(columns)))
    return save_png(path, image_grid(torch.stack(strips), num_cols=num_blocks, gap=10))
