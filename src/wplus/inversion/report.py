"""The summary of a folder of inversions, made from its files: table, convergence plot, pictures side by side."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.core.images import as_uint8, captioned_rows, image_grid, save_png, to_float, to_uint8, watchable_scale
from wplus.core.tables import Table
from wplus.core.video import Mp4Writer
from wplus.errors import UserError
from wplus.inversion.folder import TARGET, InversionFolder
from wplus.inversion.result import Inversion, Progress
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import psnr_of
from wplus.tracking import Tracker

SCORE = "score "  # begins the names of scores in a latent's metadata
_TERMS = ("loss", "l2", "perceptual")
_MAX_CURVES = 64


def report(store: InversionFolder, names: Sequence[str], *, settings: Mapping[str, Any], tracker: Tracker) -> Table:
    """Write table.csv, table.json, convergence.png and grid.png for the images that are done, and track them."""
    table = read_table({name: store.metadata(name) for name in names})
    if not names:
        return table
    space = settings["space"]
    protocol = {**settings, "num_images": len(names), "pixels": "8 bits, range [-1, 1]", "interval": "95 % bootstrap"}
    table.write(store.folder, protocol)
    history = read_history(store, names)
    terms = [term for term in _TERMS if term in history]
    convergence = plot_convergence({space: history}, store.folder / "convergence.png", terms=terms)
    pictures = [store.pictures(name) for name in names[:MAX_ROWS]]
    grid = save_comparison(list(zip(*pictures, strict=True)), store.folder / "grid.png")
    tracker.image(f"inversion/{space}/convergence", convergence)
    tracker.image(f"inversion/{space}/grid", grid, caption="target, inversion")
    if store.film.is_file():
        tracker.video(f"inversion/{space}/film", store.film)
    _track_numbers(store, table, space, protocol, tracker)
    name = f"latents-{store.settings_digest}"
    tracker.artifact(store.folder / "latents", name=name, kind="latents", metadata=settings)
    return table


def read_table(notes: Mapping[str, Mapping[str, str]]) -> Table:
    """The scores in the metadata of latents, by name."""
    return Table(
        {
            name: {key.removeprefix(SCORE): float(value) for key, value in note.items() if key.startswith(SCORE)}
            for name, note in notes.items()
        },
        {name: note[TARGET] for name, note in notes.items() if TARGET in note},
    )


def read_history(store: InversionFolder, names: Sequence[str]) -> dict[str, Tensor]:
    """Term -> (steps, N) of the first images; one that ended sooner repeats its last value."""
    histories = [store.history(name) for name in names[:_MAX_CURVES]]
    terms = [term for term in histories[0] if all(term in history for history in histories)]
    return {term: _side_by_side([history[term] for history in histories]) for term in terms}


def _side_by_side(columns: Sequence[Tensor]) -> Tensor:
    """Values (steps,) of several images -> (steps, N)."""
    longest = max(map(len, columns))
    return torch.stack([torch.cat([values, values[-1:].expand(longest - len(values))]) for values in columns], dim=1)


def _track_numbers(
    store: InversionFolder, table: Table, space: str, protocol: Mapping[str, Any], tracker: Tracker
) -> None:
    cells = [[name, store.target(name), store.image(name), *row.values()] for name, row in table.rows.items()]
    tracker.table(f"inversion/{space}/table", ["name", "target", "inversion", *table.columns], cells)
    tracker.summary(table.entries(f"inversion/{space}/", protocol))


def compare_folders(folders: Mapping[str, Path], output_dir: Path) -> tuple[Path, Path]:
    """convergence.png and grid.png over several folders of inversions of the same images: label -> folder.

    The folders may be of several spaces or of several inverters, whose histories may have any length. Curves are drawn
    of the terms that at least one of them has. The grid has a row for each image: the target, and the inversion of each
    folder under its label; images that a folder lacks are left out, and UserError is raised when they have none in
    common.
    """
    stores = {
        label: InversionFolder(Path(folder), fingerprint="", settings_digest="") for label, folder in folders.items()
    }
    common = sorted(set.intersection(*[set(store.names()) for store in stores.values()]))
    if not common:
        raise UserError(f"These folders have no inverted image in common: {', '.join(map(str, folders.values()))}.")
    histories = {label: read_history(store, common) for label, store in stores.items()}
    terms = [term for term in _TERMS if any(term in history for history in histories.values())]
    convergence = plot_convergence(histories, output_dir / "convergence.png", terms=terms)
    shown = common[:MAX_ROWS]
    first = next(iter(stores.values()))
    rows = [
        [(first.pictures(name)[0], "target"), *((store.pictures(name)[1], label) for label, store in stores.items())]
        for name in shown
    ]
    picture = captioned_rows(rows, shown)
    return convergence, atomic_write(output_dir / "grid.png", lambda file: picture.save(file, format="PNG"))


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


def scores(
    found: Inversion,
    ws: Tensor,
    targets: Tensor,
    *,
    terms: Mapping[str, ImageDistance],
    masks: Tensor | None,
    whitened: Whitened,
) -> dict[str, Tensor]:
    """Column -> (N,): image terms, distance from the prior, the inverter's own scores, seconds.

    The image terms are those of `image_scores`, of the pictures as they are stored, rounded to 8 bits.

    prior_distance  how far the styles ws (N, num_ws, w_dim) lie from what the mapping network makes, see
                    `wplus.latents.w_stats.Whitened.distance`: about 1 for its own samples, whatever the space of the code
    """
    columns = image_scores(to_float(to_uint8(found.images)), targets, terms, masks)
    columns["prior_distance"] = whitened.distance(ws)
    return {**columns, **found.scores, "seconds": found.seconds}


@torch.no_grad()
def image_scores(
    images: Tensor, targets: Tensor, terms: Mapping[str, ImageDistance], masks: Tensor | None = None
) -> dict[str, Tensor]:
    """Column -> (N,) of images and targets (N, C, R, R) in [-1, 1].

    Terms are called by the name of their net (`identity` may be many), and `similarity_NAME` where 1 - distance is the
    number that papers print: SSIM, MS-SSIM, identity. With `l2` comes `psnr_db`, 10 log10(4 / l2): pixels have the
    range 2. With masks (N, 1, R, R) the terms are those of what the masks leave, as in `objective.Objective`.
    """
    if masks is not None:
        images, targets = images * (masks > 0), targets * (masks > 0)
    columns: dict[str, Tensor] = {}
    for name, term in terms.items():
        column, values, _ = term.score(term(images, targets, masks))
        columns[column] = values
        if name == "l2":
            columns["psnr_db"] = psnr_of(values)
    return columns


def check_masks(terms: Mapping[str, ImageDistance], generator: Any) -> None:
    """UserError of a term that takes no mask, before any work."""
    device, size = generator.mapping.w_avg.device, generator.resolution
    image = torch.zeros(1, generator.img_channels, size, size, device=device)
    for term in terms.values():
        with torch.no_grad():
            term(image, image, torch.ones_like(image[:, :1]))


MAX_IMAGES = 8  # of the batch
MAX_FRAMES = 120  # evenly spaced over the steps
_FPS = 30.0
_SECONDS = 4.0  # that few steps are stretched to, and many steps squeezed into


class InversionFilm:
    """A callback that writes an mp4, frame by frame: a tile for each image, target on the left, picture on the right.

    A context manager, as its writer is. Steps between the frames cost nothing; a frame waits for the device. With
    restarts one attempt follows the other; the result comes last and stays for a second.
    """

    def __init__(self, path: str | Path, targets: Tensor) -> None:
        self._targets = as_uint8(targets[:MAX_IMAGES]).cpu()
        self._writer = Mp4Writer(path, upscale=1)

    def __call__(self, progress: Progress) -> None:
        """Add a frame when this step is one of the evenly spaced ones."""
        num_frames = min(MAX_FRAMES, progress.num_steps)
        self._writer.fps = min(_FPS, max(1.0, num_frames / _SECONDS))
        before, now = ((step * num_frames) // progress.num_steps for step in (progress.step - 1, progress.step))
        if now > before:
            self._add(progress.images)

    def finish(self, images: Tensor) -> None:
        """Add the result (N, C, R, R)."""
        for _ in range(round(self._writer.fps)):
            self._add(images)

    def __enter__(self) -> InversionFilm:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)  # type: ignore[arg-type]

    def _add(self, images: Tensor) -> None:
        pairs = torch.cat([self._targets, as_uint8(images[:MAX_IMAGES]).cpu()], dim=3)
        scale = watchable_scale(pairs.shape[2])
        self._writer.add(image_grid(pairs, num_cols=min(2, len(pairs)), scale=scale, gap=8)[None])
