"""Draw pictures of every kind of autoencoder, with its first seed.

    python -m experiments.studies.autoencoders.study runs --data digits

finds trainings below a folder (of runs, or of a sweep that contains them) and writes

DATA.png        held-out images, and for every kind a row of reconstructions and a row of samples
DATA_ways.png   the straight line between the codes of two held-out images, a row for every kind
DATA_maps.png   codes of held-out images along their two principal components, coloured by a true factor

For digits it also prints the shares that a classifier recognises with a probability above 0.9: of samples, of
reconstructions and of images half way between two codes.
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

import wplus
from wplus.config import build, bundled_model, composed
from wplus.core.files import ensure_folder
from wplus.core.images import save_png, to_float, to_uint8
from wplus.core.stats import proportion_interval
from wplus.data import ImageSet
from wplus.pretrained.attribute_classifier import load_classifier
from wplus.pretrained.attributes import known_factors
from wplus.probes.codes import in_plane
from wplus.probes.grids import labelled_grid
from wplus.tracking.local import read_result

NUM_COLUMNS = 12
WAY = [2, 7]  # the two images between whose codes to interpolate
NUM_ACROSS, NUM_DOTS = 6, 1000  # maps per row, codes per map
SURE = 0.9  # probability above which a digit counts as recognised


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that contains the trainings")
    parser.add_argument("--data", choices=("digits", "cats"), default="digits", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("runs/study-autoencoders"), help="default: %(default)s")
    options = parser.parse_args()
    held_out = build(composed("train", [f"data={options.data}"])["data"], split="held_out")
    images = to_float(held_out.batch(torch.arange(NUM_COLUMNS))[0])
    models, folder = trainings(options.folder, data=options.data), ensure_folder(options.output)
    pictures = {"": drawn(images, models), "_ways": ways(images[WAY], models), "_maps": maps(held_out, models)}
    for ending, picture in pictures.items():
        print(f"Picture: {save_png(folder / f'{options.data}{ending}.png', picture)}")
    if options.data == "digits":
        print(read_by_a_classifier(held_out, models))


def trainings(folder: Path, *, data: str) -> dict[str, Path]:
    """Name of the model -> its file with the lowest seed, for all trainings of autoencoders on all of this data."""
    found: dict[str, tuple[int, Path]] = {}
    for model in sorted(folder.rglob("model.safetensors")):
        config: dict[str, Any] = (read_result(model.parent) or {}).get("config") or {}
        of_data = str(config.get("data", {}).get("_target_", "")).endswith(f".{data.removesuffix('s')}_images")
        is_whole = not config.get("data", {}).get("without")
        if (config.get("model") or {}).get("training") != "autoencoder" or not of_data or not is_whole:
            continue
        name, seed, sigma = config["model"]["preset"]["name"], config["seed"], config["model"]["generator"].get("sigma")
        name += "" if sigma in (None, 1.0) else f", sigma {sigma:g}"
        if name not in found or seed < found[name][0]:
            found[name] = (seed, model)
    return {name: path for name, (_, path) in sorted(found.items())}


@torch.no_grad()
def drawn(images: Tensor, models: dict[str, Path]) -> Tensor:
    """Images (N, C, H, W) above two rows for each model, as one picture (3, H, W)."""
    rows, left, breaks = [list(images)], ["held-out images"], []
    for name, path in models.items():
        known = wplus.load(path)
        breaks.append(len(rows))
        z = torch.randn(len(images), known.generator.z_dim, generator=torch.Generator().manual_seed(0))
        rows += [list(known.generator.synthesis(known.encoder(images))), list(known.generator(z))]
        left += [f"{name}:\nreconstructions", f"samples,\n{known.metadata['prior'].removesuffix(' codes')}"]
    return labelled_grid(rows, left=left, breaks=breaks)


@torch.no_grad()
def read_by_a_classifier(held_out: ImageSet, models: dict[str, Path]) -> str:
    """Make a table of the shares of images whose digit the bundled classifier is sure of, with Wilson's intervals."""
    classifier = load_classifier(bundled_model("digits_attributes.safetensors"))
    images = to_float(held_out.batch(torch.arange(min(NUM_DOTS, len(held_out))))[0])

    def share(made: Tensor) -> str:
        sure = classifier.logits(to_uint8(made)).softmax(dim=1).amax(dim=1) > SURE
        low, high = proportion_interval(float(sure.double().mean()), len(sure))
        return f"{sure.double().mean():.2f} ({low:.2f} to {high:.2f})"

    lines = ["| kind | samples | reconstructions | half way |", "|---|---|---|---|",
             f"| held-out, pixels | | {share(images)} | {share((images + images.roll(1, 0)) / 2)} |"]  # fmt: skip
    for name, path in models.items():
        known = wplus.load(path)
        z = torch.randn(NUM_DOTS, known.generator.z_dim, generator=torch.Generator().manual_seed(0))
        ws = known.encoder(images)
        made = known.generator(z), *(known.generator.synthesis(each) for each in (ws, (ws + ws.roll(1, 0)) / 2))
        lines.append(f"| {name} | {' | '.join(map(share, made))} |")
    return "\n".join(lines)


@torch.no_grad()
def ways(ends: Tensor, models: dict[str, Path]) -> Tensor:
    """Show two images (2, C, H, W) mixed pixel by pixel, and below, for each model, the path between their codes."""
    t = torch.linspace(0, 1, NUM_COLUMNS - 2)[:, None, None]
    fade = torch.lerp(ends[:1], ends[1:], t[..., None])
    rows, left = [[ends[0], *fade, ends[1]]], ["pixels, faded"]
    for name, path in models.items():
        known = wplus.load(path)
        a, b = known.encoder(ends).split(1)
        rows.append([ends[0], *known.generator.synthesis(torch.lerp(a, b, t)), ends[1]])
        left.append(name)
    return labelled_grid(rows, left=left, top=["real", "t = 0", *[""] * (len(t) - 2), "t = 1", "real"])


@torch.no_grad()
def maps(held_out: ImageSet, models: dict[str, Path]) -> Tensor:
    """Draw a scatter plot for each model, with one colour for each value of the first known factor."""
    some = held_out.subset(torch.arange(min(NUM_DOTS, len(held_out))))
    images = to_float(some.batch(torch.arange(len(some)))[0])
    name, values = next(iter(known_factors(some).items()))
    figure = Figure(figsize=(2.4 * NUM_ACROSS, 2.6 * -(-len(models) // NUM_ACROSS)), dpi=100, layout="constrained")
    every = figure.subplots(-(-len(models) // NUM_ACROSS), NUM_ACROSS, squeeze=False).ravel()
    kinds = np.unique(values)
    colours = mpl.colormaps["tab20" if len(kinds) > 10 else "tab10"](range(len(kinds)))
    for axes, (model, path) in zip(every, models.items(), strict=False):
        codes = wplus.load(path).encoder.posterior(images).mean.double().numpy()
        places = in_plane(codes)
        for kind, colour in zip(kinds, colours, strict=True):
            axes.scatter(*places[values == kind].T, s=4, linewidths=0, color=colour, label=str(kind))
        axes.set_title(f"{model}, {codes.shape[1]}", fontsize=9)
    for axes in every:
        axes.set(xticks=[], yticks=[], frame_on=axes.has_data())
    figure.legend(*every[0].get_legend_handles_labels(), title=name, loc="outside right center", fontsize=8,
                  markerscale=2.5, frameon=False)  # fmt: skip
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].copy()).permute(2, 0, 1)


if __name__ == "__main__":
    main()
