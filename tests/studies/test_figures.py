"""Tables and pictures of two studies: ordered rows, and the content of the runs' folders."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiments.studies.loss_weights import figure as weights
from experiments.studies.out_of_domain import figure as domains
from wplus.sweeps.members import Member


def member(asked: dict[str, object], numbers: dict[str, float], **more: object) -> Member:
    entries = {name: {"value": value, "interval": [value - 1, value + 1]} for name, value in numbers.items()}
    return Member(Path("x"), "invert", "finished", asked, entries, **more)  # type: ignore[arg-type]


def test_curves_go_from_the_smallest_weight_to_the_largest(tmp_path):
    numbers = dict.fromkeys(weights.NUMBERS, 5.0)
    runs = [member({"space": "w", weights.WEIGHT: weight, weights.PIXELS: pixels}, numbers | {"invert/psnr_db": value})
            for weight, pixels, value in ((0.1, 0.0, 20.0), (0.001, 0.0, 21.0), (0.1, 1.0, 22.0))]  # fmt: skip
    curves = weights.curves_of(runs)
    assert list(curves) == ["w, l2", "w, l1"]
    assert curves["w, l2"]["invert/psnr_db"] == [(0.001, 21.0, 20.0, 22.0), (0.1, 20.0, 19.0, 21.0)]
    assert weights.table(curves).splitlines()[2].startswith("| w, l2 | 0.001 | 21 (20 to 22) | 5 (4 to 6) |")
    with Image.open(weights.drawn(curves, tmp_path / "picture.png")) as picture:
        assert picture.size == (1100, 600)


def test_what_became_of_each_kind_stands_below_it(tmp_path):
    for name, level in (("targets", 0), ("images", 200)):
        (tmp_path / "w" / name).mkdir(parents=True)
        for number in range(domains.NUM):
            Image.new("RGB", (8, 8), (level, level, level)).save(tmp_path / "w" / name / f"{number}.png")
    run = member({"input": "some/robots", "space": "w"}, dict.fromkeys(domains.NUMBERS, 3.0))
    assert domains.table([run]).splitlines()[2] == "| robots | w |" + " 3 (2 to 4) |" * len(domains.NUMBERS)
    with Image.open(domains.drawn({domains.key(run): tmp_path / "w"}, tmp_path / "grid.png")) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (2 * domains.PX, domains.NUM * domains.PX + 6, 3)
    assert (pixels[: domains.PX, : domains.PX] == 0).all()
    assert (pixels[domains.PX :, : domains.PX] == 200).all()
