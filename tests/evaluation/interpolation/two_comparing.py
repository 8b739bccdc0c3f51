"""Started twice by test_metric.py, as torchrun would: two_comparing.py FOLDER; prints "same" at the end.

What two processes find together must be what one finds alone. One of them starts when the other has stored pairs
already, as in a run that is continued, or whose processes are not equally fast.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from wplus.checkpoint import Models
from wplus.core.distributed import all_agree, is_first, only_first_speaks, process_group
from wplus.core.progress import silent
from wplus.evaluation.context import EvalContext
from wplus.evaluation.interpolation import Interpolation
from wplus.evaluation.measure import measure
from wplus.interpolation.path_metrics.frames import fidelity
from wplus.interpolation.path_metrics.shape import steps
from wplus.interpolation.paths import lerp
from wplus.latents.latent import Latent, save_latent
from wplus.models.stylegan2 import Generator

sys.path.insert(0, str(Path(__file__).parents[2]))
from fakes import RandomConv, SquaredPixels, random_images

FOLDER = Path(sys.argv[1])


def found(folder):
    """Return every number of a small comparison."""
    torch.manual_seed(0)
    net = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=64, channel_max=8, num_mapping_layers=1)
    models, extractor = Models(generator=net.eval().requires_grad_(False)), RandomConv()
    context = EvalContext(models, random_images(21), random_images(14), batch_size=4, progress=silent,
                          output_dir=folder)  # fmt: skip
    for index, code in enumerate(torch.randn(14, 4) if is_first() else ()):
        save_latent(folder / "ends" / f"{index}.safetensors", Latent(code, "w", models.fingerprint))
    all_agree(True)
    metric = Interpolation(
        paths={"lerp": lerp}, spaces=["w"], path_metrics={"fidelity": fidelity, "steps": steps}, identity=None,
        perceptual=SquaredPixels(), extractor=extractor, inverter=None, latents={"w": str(folder / "ends")},
        num_pairs=7, num_frames=17, frames_per_bin=1, num_real=None, pictures="none",
    )  # fmt: skip
    return {each.name: each.value for each in measure(context, {"interpolation": metric})}


def late(compare):
    """`compare`, started by the second process after the first has stored a pair."""

    def compared(*arguments):
        stored = FOLDER / "both" / "interpolation" / "pairs"
        while not is_first() and not list(stored.glob("*.safetensors")):
            time.sleep(0.01)
        return compare(*arguments)

    return compared


if __name__ == "__main__":  # an assertion that fails ends the process with an error
    torch.set_num_threads(1)
    original = Interpolation._results
    with process_group(torch.device("cpu")), only_first_speaks():
        Interpolation._results = late(original)
        both = found(FOLDER / "both")
        Interpolation._results = original
        first = is_first()
    alone = found(FOLDER / f"alone-{first}")
    assert list(both) == list(alone)
    np.testing.assert_allclose(list(both.values()), list(alone.values()), rtol=1e-9)
    if first:
        print("same")
