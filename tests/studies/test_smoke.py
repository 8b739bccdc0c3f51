"""Sweeps of the studies run to their end at the smallest size."""

import csv
import math
from pathlib import Path

import pytest
from PIL import Image

from experiments.studies.augmentation import samples
from experiments.studies.out_of_domain import pictures
from wplus.__main__ import main
from wplus.config import CONFIG_FOLDER
from wplus.sweeps.spec import read_spec

STUDIES = ("augmentation", "augmentation_bodies", "disentanglement", "encoder_losses", "generators",
           "interpolation_quality", "inverters", "loss_weights", "out_of_domain", "spaces", "transfer")  # fmt: skip
RUN = ("augmentation", "loss_weights", "out_of_domain")  # the quick ones; all compose, see tests/sweeps/test_sizes.py


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_smaller_size(name):
    assert "smoke" in read_spec(CONFIG_FOLDER / "sweep" / f"{name}.yaml").sizes


@pytest.mark.parametrize("name", RUN)
def test_the_smaller_size_ends_in_its_objective(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "out_of_domain":
        monkeypatch.setattr("sys.argv", ["pictures", "--num", "8"])
        pictures.main()
    assert main(["sweep", "run", name, "size=smoke", "tracking=local"]) == 0
    assert main(["sweep", "table", f"runs/sweeps/{name}_smoke", "--output", "table.csv"]) == 0
    (objective,) = read_spec(CONFIG_FOLDER / "sweep" / f"{name}.yaml").objectives
    with open("table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [float(row["mean"]) for row in rows if row["number"] == objective]
    assert found
    assert all(map(math.isfinite, found))
    if name == "augmentation":
        models = samples.trained(Path("runs/sweeps/augmentation_smoke"))
        assert list(models) == ["dcgan_cats"]
        with Image.open(samples.drawn(models, tmp_path / "digits.png")) as image:
            assert image.width > 10 * 64


def test_pictures_are_the_same_every_time():
    first, again = pictures.kinds(4), pictures.kinds(4)
    assert list(first) == ["cats", "other_cats", "scribbles", "robots", "photographs"]
    for kind, images in first.items():
        assert images.shape == (4, 3, 32, 32)
        assert (images == again[kind]).all()
        assert images.float().std() > 10, kind
