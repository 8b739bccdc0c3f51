"""The tables of the study of encoder losses: means over seeds, and differences paired by image."""

import pytest

from experiments.studies.encoder_losses import tables
from wplus.config import CONFIG_FOLDER
from wplus.core.files import write_json
from wplus.sweeps.spec import read_spec


@pytest.fixture
def found(tmp_path):
    """Two sets of losses with two seeds: what the second lacks costs it 1 in every image, give or take its seed."""
    runs = {}
    for name, lost in ((tables.BASELINE, 0.0), ("none", 1.0)):
        for seed in (0, 1):
            for stage, number in (("invert", "psnr_db"), ("edit", "editable")):
                folder = tmp_path / f"{name}-{seed}-{stage}"
                entry = {"value": 20 - lost + seed, "interval": [0, 1]}
                write_json(folder / "result.json", {"status": "finished", "values": {f"{stage}/{number}": entry}})
                rows = {str(image): {number: image - lost + seed / 2} for image in range(8)}
                rows["8"] = {number: 1.0 if seed else None}  # an edit that was asked of one seed's code alone
                write_json(folder / "table.json", {"rows": rows})
                runs.setdefault(name, {}).setdefault(stage, []).append(folder)
    return runs


def test_a_row_has_the_mean_and_the_range_of_its_seeds(found):
    assert tables.means(found).splitlines()[2:] == [
        "| discriminator, deltas | 20.50 (20.00 to 21.00) | 20.500 (20.000 to 21.000) |",
        "| none | 19.50 (19.00 to 20.00) | 19.500 (19.000 to 20.000) |",
    ]


def test_differences_are_those_of_the_images_means(found):
    (line,) = tables.against(found).splitlines()[2:]
    assert line == "| none | -1 (-1 to -1), p = 0.008 | -1 (-1 to -1), p = 0.008 |"  # 2 / 2^8, one number a stage


def test_every_set_of_losses_has_a_name_of_its_own():
    points = read_spec(CONFIG_FOLDER / "sweep" / "encoder_losses.yaml").stages[1].points
    names = [tables.name_of(point) for point in points]
    assert names == ["discriminator, deltas", "deltas", "discriminator", "none", "discriminator, deltas, identity"]
