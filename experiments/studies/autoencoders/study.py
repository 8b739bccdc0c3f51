"""A picture of every kind of autoencoder: held-out images, what comes back of them, and samples.

    python -m experiments.studies.autoencoders.study runs/sweeps/autoencoders --data digits

looks for trainings below a folder (a sweep's, or any with runs) and writes DATA.png: images on top, and for every kind,
of its first seed, a row of their reconstructions and a row of samples.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wplus
from wplus.config import build, composed
from wplus.core.files import ensure_folder
from wplus.core.images import save_png, to_float
from wplus.probes.grids import labelled_grid
from wplus.tracking.local import read_result

NUM_COLUMNS = 12


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="below which the trainings are")
    parser.add_argument("--data", choices=("digits", "cats"), default="digits", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=Path("runs/study-autoencoders"), help="default: %(default)s")
    options = parser.parse_args()
    held_out = build(composed("train", [f"data={options.data}"])["data"], split="held_out")
    images = to_float(held_out.batch(torch.arange(NUM_COLUMNS))[0])
    picture = drawn(images, trainings(options.folder, data=options.data))
    print(f"Picture: {save_png(ensure_folder(options.output) / f'{options.data}.png', picture)}")


def trainings(folder: Path, *, data: str) -> dict[str, Path]:
    """Name of the model -> its file, of the lowest seed, for all trainings of autoencoders on this data."""
    found: dict[str, tuple[int, Path]] = {}
    for model in sorted(folder.rglob("model.safetensors")):
        config: dict[str, Any] = (read_result(model.parent) or {}).get("config") or {}
        of_data = str(config.get("data", {}).get("_target_", "")).endswith(f".{data.removesuffix('s')}_images")
        if (config.get("model") or {}).get("training") != "autoencoder" or not of_data:
            continue
        name, seed = config["model"]["preset"]["name"], config["seed"]
        if name not in found or seed < found[name][0]:
            found[name] = (seed, model)
    return {name: path for name, (_, path) in found.items()}


@torch.no_grad()
def drawn(images: Tensor, models: dict[str, Path]) -> Tensor:
    """Images (N, C, H, W) over two rows for each model, as one picture (3, H, W)."""
    rows, left, breaks = [list(images)], ["held-out images"], []
    for name, path in models.items():
        known = wplus.load(path)
        breaks.append(len(rows))
        z = torch.randn(len(images), known.generator.z_dim, generator=torch.Generator().manual_seed(0))
        rows += [list(known.generator.synthesis(known.encoder(images))), list(known.generator(z))]
        left += [f"{name}:\nreconstructions", f"samples,\n{known.metadata['prior'].removesuffix(' codes')}"]
    return labelled_grid(rows, left=left, breaks=breaks)


if __name__ == "__main__":
    main()
