"""The study of autoencoders: it finds the trainings of its data, the first seed of each kind, and draws them."""

from pathlib import Path

import torch

import wplus
from experiments.studies.autoencoders import study
from wplus.config import CONFIG_FOLDER, training_of
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.sweeps.spec import read_spec
from wplus.tracking.local import open_tracker

SMALL = {"channel_base": 32, "channel_max": 8}


def trained(folder: Path, name: str, seed: int, data: str = "digits") -> Path:
    """The folder of a training that has ended."""
    config = {
        "model": {"training": "autoencoder", "preset": {"name": name}},
        "seed": seed,
        "data": {"_target_": f"wplus.data.{data}.{data.removesuffix('s')}_images"},
    }
    with open_tracker(output_dir=folder, job_type="train", name=name, config=config):
        decoder = Decoder(resolution=32, img_channels=1, code_dim=4, **SMALL)
        encoder = CodeEncoder(w_dim=4, input_size=32, img_channels=1, **SMALL)
        said = {"prior": "ten Gaussians of 7 codes"}
        return wplus.save(folder / "model.safetensors", generator=decoder, encoder=encoder, metadata=said)


def test_the_first_seed_of_each_kind_is_drawn(tmp_path):
    first = trained(tmp_path / "b", "sparse", 0)
    trained(tmp_path / "a", "sparse", 1)
    plain, cats = trained(tmp_path / "c", "plain", 2), trained(tmp_path / "d", "plain", 0, "cats")
    found = study.trainings(tmp_path, data="digits")
    assert found == {"sparse": first, "plain": plain}
    assert study.trainings(tmp_path, data="cats") == {"plain": cats}
    picture = study.drawn(torch.rand(3, 1, 32, 32) * 2 - 1, found)
    assert picture.shape[1] > 5 * 64


def test_the_sweep_has_every_kind():
    kinds = {path.stem for path in (CONFIG_FOLDER / "model").glob("*.yaml") if training_of(path.stem) == "autoencoder"}
    spec = read_spec(CONFIG_FOLDER / "sweep" / "autoencoders.yaml")
    for stage in spec.stages[:2]:
        assert set(stage.axes["model"]) == kinds
