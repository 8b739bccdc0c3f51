"""The study of autoencoders finds the trainings on its data, with the first seed of each kind, and draws them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch

import wplus
from experiments.studies.autoencoders import study, tables
from wplus.config import CONFIG_FOLDER, training_of
from wplus.core.files import ensure_folder, write_json
from wplus.data.digits import digit_images
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.sweeps.spec import Spec, Stage, read_spec
from wplus.sweeps.state import SweepFolder
from wplus.tracking.local import open_tracker

SMALL = {"channel_base": 32, "channel_max": 8}


def trained(folder: Path, name: str, seed: int, data: str = "digits", sigma: float = 1.0, **choices: Any) -> Path:
    """The folder of a finished training."""
    config = {
        "model": {"training": "autoencoder", "preset": {"name": name}, "generator": {"sigma": sigma}},
        "seed": seed,
        "data": {"_target_": f"wplus.data.{data}.{data.removesuffix('s')}_images", **choices},
    }
    with open_tracker(output_dir=folder, job_type="train", name=name, config=config):
        decoder = Decoder(resolution=32, img_channels=1, code_dim=4, **SMALL)
        encoder = CodeEncoder(w_dim=4, input_size=32, img_channels=1, **SMALL)
        said = {"prior": "ten Gaussians of 7 codes"}
        return wplus.save(folder / "model.safetensors", generator=decoder, encoder=encoder, metadata=said)


def test_the_first_seed_of_each_kind_is_drawn(tmp_path):
    first = trained(tmp_path / "b", "sparse", 0)
    trained(tmp_path / "a", "sparse", 1)
    trained(tmp_path / "0", "sparse", 0, without={"digit": [9]})
    plain, cats = trained(tmp_path / "c", "plain", 2), trained(tmp_path / "d", "plain", 0, "cats")
    found = study.trainings(tmp_path, data="digits")
    assert list(found.items()) == [("plain", plain), ("sparse", first)]
    assert study.trainings(tmp_path, data="cats") == {"plain": cats}
    fixed = trained(tmp_path / "e", "sparse", 0, sigma=0.5)
    assert study.trainings(tmp_path, data="digits") == {**found, "sparse, sigma 0.5": fixed}
    images = torch.rand(3, 1, 32, 32) * 2 - 1
    assert study.drawn(images, found).shape[1] > 5 * 64
    assert study.ways(images[:2], found).shape[1] > 3 * 64
    digits = digit_images(resolution=32, split="held_out", num_images=200)
    assert study.maps(digits, found).shape[0] == 3
    head, _, pixels, *rows = study.read_by_a_classifier(digits, found).splitlines()
    assert len(rows) == 2
    assert float(pixels.split("|")[3].split()[0]) > 0.85 > float(rows[0].split("|")[2].split()[0])


def test_an_interval_over_trainings_is_students():
    """In closed form; for one training it is the interval over its images."""
    own = [{"value": value, "interval": [0.0, 9.0]} for value in (1.0, 2.0, 6.0)]
    found = tables.over_seeds(own)
    expected = scipy.stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval(0.95)
    assert found["value"] == 3
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert tables.over_seeds(own[:1]) == {"value": 1.0, "interval": [0.0, 9.0], "num": 1}


def test_the_tables_are_those_of_the_sweeps(tmp_path, monkeypatch):
    """Kinds of both sweeps, named by their overrides; paths over pixels come last."""
    monkeypatch.chdir(tmp_path)
    runs = {}
    for sweep, value, change in (
        ("autoencoders", 1.0, {}),
        ("autoencoders_sigma", 5.0, {"model.generator.sigma": 0.5}),
    ):
        point = {"model": "vae", **change}
        spec = Spec(name=sweep, stages=[Stage(verb="evaluate", name="on_digits", points=[point], seeds=3)])
        folder = SweepFolder(tmp_path / sweep)
        folder.claim(spec, "test")
        for job in folder.jobs():
            run = tmp_path / f"{sweep}-{job.id}"
            with open_tracker(output_dir=run, job_type="evaluate", name="x", config={}) as tracker:
                tracker.summary({"evaluate/reconstruction_psnr": {"value": value + job.point["seed"]}})
            ways = {"w_lerp": {"relative_ppl": {"value": value, "interval": None}},
                    "cross_dissolve": {"relative_ppl": {"value": 7.0, "interval": [6.0, 8.0]}}}  # fmt: skip
            write_json(ensure_folder(run / "interpolation") / "table.json", {"means": ways})
            folder.save(replace(folder.load(job), run_dir=str(run), state="done"))
        runs[sweep] = folder.path
    monkeypatch.setattr("sys.argv", ["tables", *map(str, runs.values()), "--output", str(tmp_path / "out")])
    tables.main()
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "| `vae` | 2.00 (-0.48 to 4.48) |" in text
    assert "| `vae sigma=0.5` | 6.00 (3.52 to 8.48) |" in text
    assert "| `pixels, faded` | 7.00 *(6.00 to 8.00)* |" in text


def test_every_part_of_the_sweep_is_in_a_table():
    spec = read_spec(CONFIG_FOLDER / "sweep" / "autoencoders.yaml")
    assert {stage for stages, _ in tables.PARTS.values() for stage in stages} == {
        stage.name for stage in spec.stages if stage.verb == "evaluate"
    }


def test_the_sweep_has_every_kind():
    kinds = {path.stem for path in (CONFIG_FOLDER / "model").glob("*.yaml") if training_of(path.stem) == "autoencoder"}
    spec = read_spec(CONFIG_FOLDER / "sweep" / "autoencoders.yaml")
    for stage in spec.stages[:2]:
        assert set(stage.axes["model"]) == kinds
