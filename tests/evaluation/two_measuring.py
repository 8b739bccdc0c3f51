"""Started twice by test_registry.py, as by torchrun: two_measuring.py CACHE; prints "same".

Two processes together must measure the same as one alone: the second half runs after the group has ended.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from coded import coded_context  # beside this script
from registry import Pixels, coded_metrics, every_metric, small_factors

from wplus.checkpoint import Models
from wplus.core.distributed import (
    all_agree,
    gathered,
    is_first,
    only_first_speaks,
    process_group,
    rank_and_world,
    share,
    total,
)
from wplus.core.progress import silent
from wplus.data import ImageSet
from wplus.evaluation.context import EvalContext
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.measure import measured
from wplus.evaluation.pairwise import NeighbourSquares, pairs_of
from wplus.models.stylegan2 import Generator

RANK, CACHE = int(os.environ["RANK"]), Path(sys.argv[1])


def context(cache_dir: Path | None, batch_size: int = 4) -> EvalContext:
    """The same on every process, whatever is random in it."""
    torch.manual_seed(0)
    generator = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=64, channel_max=8, num_mapping_layers=1)
    images, factors = torch.randint(0, 256, (21, 3, 8, 8), dtype=torch.uint8), {"body": torch.arange(21) % 3}
    real = ImageSet(images, None, [str(index) for index in range(21)], attributes=factors)
    models = Models(generator=generator.eval().requires_grad_(False))
    return EvalContext(models, real, batch_size=batch_size, progress=silent, cache_dir=cache_dir)


def results(cache_dir: Path | None, batch_size: int = 4) -> dict[str, Any]:
    """Values with intervals, and rows. A batch of 64 holds all images: the other process has none."""
    ours, metrics = context(cache_dir, batch_size), every_metric() | {"factors": small_factors}
    found = {f"{name}, {m.name}": np.array([m.value, *(m.interval or ())])
             for name, numbers in zip(metrics, measured(ours, metrics), strict=True) for m in numbers}  # fmt: skip
    of_codes = coded_context(batch_size=batch_size)
    found |= {f"{name}, {m.name}": np.array([m.value, *(m.interval or ())])
              for name, numbers in zip(coded_metrics(), measured(of_codes, coded_metrics()), strict=True)
              for m in numbers}  # fmt: skip
    passes = {"generated": ours.generated(30), "real": ours.real_images()}
    return found | {name: p.ask(Pixels(), FeatureRows()).value.rows.numpy() for name, p in passes.items()}


def neighbours(cache_dir: Path | None) -> dict[str, Any]:
    """Of the real images, then of the generated ones, each asked for alone."""
    ours = context(cache_dir)
    pairs = pairs_of(ours, Pixels(), ours.real_images(), ours.generated(30))
    sides = {"real neighbours": pairs.real, "generated neighbours": pairs.generated}
    return {name: side.ask(NeighbourSquares(3)).value.squares.numpy() for name, side in sides.items()}


def together() -> dict[str, Any]:
    """With the other process."""
    with process_group(torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        check_exchanges()
        with only_first_speaks():
            print(f"process {RANK} speaks")
        found = results(CACHE)
        for name, values in results(CACHE).items():  # the real images from the cache
            np.testing.assert_array_equal(values, found[name])
        alone = {f"{name}, of one process": values for name, values in results(None, 64).items()}
        radii = neighbours(CACHE if is_first() else CACHE / "empty")  # which only one process has
    return found | alone | radii


def check_exchanges() -> None:
    """What the processes hand to each other."""
    assert rank_and_world() == (RANK, 2)
    assert is_first() == (RANK == 0)
    assert share(range(5)) == range(RANK, 5, 2)
    assert torch.equal(total(torch.tensor([RANK + 1.0])), torch.tensor([3.0]))
    assert all_agree(True)
    assert not all_agree(RANK == 0)
    indices = torch.tensor([[3, 0, 4], [1, 2]][RANK])
    assert torch.equal(gathered(indices[:, None] * 10.0, indices), torch.arange(5)[:, None] * 10.0)
    none = torch.arange(3) if RANK else torch.arange(0)
    assert torch.equal(gathered(none.double(), none), torch.arange(3).double())


def main() -> None:
    """An assertion that fails ends the process with an error."""
    torch.set_num_threads(1)
    both = together()
    alone = {f"{name}, of one process": values for name, values in results(None, 64).items()}
    for name, values in (results(None) | alone | neighbours(None)).items():
        np.testing.assert_allclose(both[name], values, rtol=1e-9, err_msg=name)
    sys.stdout.write("same\n")  # in one piece, whatever the other process writes


if __name__ == "__main__":
    main()
