"""The presets for the bundled cats: one for every family of generators, which trains as its file says."""

from functools import partial

import pytest
import torch

from tests.training.trained import CPU
from wplus.config import CONFIG_FOLDER, build, composed
from wplus.data import Batches

EXPERIMENTS = {  # family -> experiment
    "mlp_gan": "mlp_gan_cats",
    "dcgan": "dcgan_cats",
    "progan": "progan_cats",
    "stylegan1": "stylegan1_cats",
    "stylegan2": "cats32",
    "r3gan": "r3gan_cats",
}


def test_every_family_has_one():
    families = {path.stem for path in (CONFIG_FOLDER / "model").glob("*.yaml")}
    assert families == EXPERIMENTS.keys()


@pytest.mark.parametrize("family", EXPERIMENTS)
def test_a_step_of_the_preset(family, make_images):
    """Its own networks, loss and batch at the size of the cats; where it grows it has grown before it ends."""
    config = composed("train", [f"experiment={EXPERIMENTS[family]}"])
    images = make_images(64, resolution=32)
    training = build(
        config["training"], model=partial(build, config["model"]), loss=None, augment=None,
        data=lambda split: images, runtime=CPU, seed=0, num_samples=4,
    )  # fmt: skip
    game = training.module
    assert type(game.generator).__module__ == f"wplus.models.{family}"
    assert (config["data"]["_target_"], config["data"]["resolution"]) == ("wplus.data.cats.cat_images", 32)
    assert sum(parameter.numel() for parameter in game.generator.parameters()) < 2e6
    before = [parameter.detach().clone() for parameter in game.parameters()]
    game.run_step(*Batches(images, game.batch_size).at(0), optimizers=game.configure_optimizers())
    assert game.skipped.tolist() == [0, 0]
    assert all(tensor.isfinite().all() for tensor in game.state_dict().values())
    assert sum(not torch.equal(a, b) for a, b in zip(before, game.parameters(), strict=True)) > len(before) / 4
    end = round(config["schedule"]["kimg"] * 1000)
    assert game.growth is None or game.growth.lod(end * 2 // 3) == 0
