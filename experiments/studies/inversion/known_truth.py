"""Pictures whose codes are known: how many does an inversion find, and how far from the true code does it end?

    python -m experiments.studies.inversion.known_truth --model experiments/models/cats64.safetensors

draws 64 pictures G(w) from seeded z, stores them as 8-bit PNGs as any picture would be, inverts them with
`invert.py` into w (L-BFGS from the best of 500 samples, 500 evaluations), and prints the share that reaches 35 dB and
the error of the codes. Real pictures have no true code; here every part of the chain can be checked against one.
Interrupted, the same command continues.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from experiments.run_command import run_command

ROOT = Path(__file__).resolve().parents[3]
PSNR_DB = 35.0


def main() -> None:
    """Draw, invert, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "experiments" / "models" / "cats64.safetensors")
    parser.add_argument("--output", type=Path, default=Path("runs/known-truth"), help="folder (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--inverter", default="lbfgs", help="as invert.py calls it (default: %(default)s)")
    options, overrides = parser.parse_known_args()
    draw(options.model, options.output, options.num_images)
    found = options.output / f"inversion-{options.inverter}"
    command = [
        "invert", f"checkpoint={options.model}", f"input={options.output}/images",
        f"ground_truth={options.output}/latents", "space=w", f"inverter={options.inverter}",
        f"inverter.num_steps={options.steps}", f"run_dir={found}", "tracking=local",
        *(["inverter.init=best_of_n"] if options.inverter == "lbfgs" else []), *overrides,
    ]  # fmt: skip
    run_command(command)
    print(summary(found))


def draw(model: Path, folder: Path, num: int) -> None:
    """Pictures and their latents, the same ones for the same generator: images/NAME.png, latents/NAME.safetensors."""
    import torch

    import wplus
    from wplus.core.images import save_png
    from wplus.latents.latent import Latent, save_latent, synthesize

    models = wplus.load(model, needs=["generator"])
    z = torch.randn(num, models.generator.z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        w = models.generator.mapping(z)[:, 0]
    for index, code in enumerate(w):
        latent = Latent(code, "w", models.fingerprint)
        save_latent(folder / "latents" / f"{index:03d}.safetensors", latent)
        save_png(folder / "images" / f"{index:03d}.png", synthesize([latent], models.generator)[0])


def summary(folder: Path) -> str:
    """What table.json says, in sentences."""
    import json

    table: dict[str, Any] = json.loads((folder / "table.json").read_text())
    psnr = sorted(row["psnr_db"] for row in table["rows"].values())
    error = table["means"]["latent_error"]
    found = sum(value >= PSNR_DB for value in psnr)
    low, high = error["interval"] or (error["value"],) * 2
    return (
        f"{found} of {len(psnr)} pictures ({found / len(psnr):.1%}) reach {PSNR_DB:g} dB; "
        f"the lowest has {psnr[0]:.1f}, the median {statistics.median(psnr):.1f} dB.\n"
        f"Latent error in deviations of w: mean {error['value']:.4f}, 95 % interval {low:.4f} to {high:.4f}."
    )


if __name__ == "__main__":
    main()
