"""The study of generators: names of budgets and generators, means over seeds, paired differences, the picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.studies.generators import tables
from wplus.checkpoint import save
from wplus.config import CONFIG_FOLDER
from wplus.core.files import write_json
from wplus.errors import UserError
from wplus.models import mlp_gan
from wplus.sweeps.spec import read_spec

SHAPE = {"resolution": 8, "width": 4}


def folder_of(folder, lost, seed):
    """Runs of one training, of 20 - `lost` + seed dB and 10 - `lost` + seed images, and its checkpoint."""
    numbers = {"train": {"train/kimg": 10.0 - lost + seed}, "invert": {"invert/psnr_db": 20.0 - lost + seed}}
    for stage, found in numbers.items():
        entries = {name: {"value": value} for name, value in found.items()}
        write_json(folder / stage / "result.json", {"status": "finished", "values": entries})
    write_json(folder / "invert" / "table.json",
               {"rows": {str(image): {"psnr_db": image - lost + seed} for image in range(8)}})  # fmt: skip
    for name, level in (("targets", 0), ("images", 200)):
        (folder / "invert" / name).mkdir(parents=True)
        for number in range(tables.NUM_SHOWN + 1):
            Image.new("RGB", (8, 8), (level,) * 3).save(folder / "invert" / name / f"{number}.png")
    networks = {"generator": mlp_gan.Generator(z_dim=4, **SHAPE), "discriminator": mlp_gan.Discriminator(**SHAPE)}
    save(folder / "train" / "model.safetensors", **networks)
    return folder


@pytest.fixture
def runs(tmp_path):
    """Two seeds each of the baseline and of a generator that loses 1 in every image."""
    found = {}
    for name, lost in ((tables.BASELINE, 0.0), ("DCGAN", 1.0)):
        folders = [folder_of(tmp_path / f"{name}-{seed}", lost, seed) for seed in (0, 1)]
        found[name] = {stage: [folder / stage for folder in folders] for stage in ("train", "invert")}
    return found


def test_a_row_has_the_mean_and_the_range_of_its_seeds(runs):
    (_, means), (_, differences) = tables.tables(runs)
    assert means.splitlines() == [
        "| generator | thousand images | inverted: PSNR, dB |", "| --- | --- | --- |",
        "| StyleGAN2 | 10 (10 to 11) | 20.50 (20.00 to 21.00) |",
        "| DCGAN | 10 (9 to 10) | 19.50 (19.00 to 20.00) |",
    ]  # fmt: skip
    assert differences.splitlines()[2:] == ["| DCGAN | -1 (-1 to -1), p = 0.008 |"]  # 2 / 2^8


def test_targets_are_above_what_each_generator_makes_of_them(runs, tmp_path):
    with Image.open(tables.drawn(runs, tmp_path / "picture.png")) as picture:
        pixels = np.asarray(picture)
    levels = [int(torch.tensor(pixels[row, 40]).float().mean()) for row in range(40, pixels.shape[0], 114)]
    assert levels == [0, 200, 200]
    with pytest.raises(UserError, match="No generator of the sweep has been inverted yet"):
        tables.drawn({"DCGAN": {"train": runs["DCGAN"]["train"]}}, tmp_path / "none.png")


def test_every_generator_has_a_budget_and_a_name():
    points = read_spec(CONFIG_FOLDER / "sweep" / "generators.yaml").stages[0].points
    names = [tables.name_of(point) for point in points]
    assert len(names) == len(set(names))
    assert {name for _, name in names} == set(tables.NAMES.values())
    assert {budget for budget, _ in names} == {"3 minutes", "10 thousand images"}
